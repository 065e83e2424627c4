"""XML annotation files, for the formats that are written in it."""

from pathlib import Path
from xml.etree import ElementTree

from fcos_cli.errors import DataError


def xml_root(file: Path, mend: str) -> ElementTree.Element:
    """The outer element of an XML file. `mend` is what to do about a file that is none.

    Raises:
        DataError: the file cannot be read, is empty, or is not XML.
    """
    try:
        return ElementTree.parse(file).getroot()
    # Unknown encodings are LookupError and ValueError.
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        reason = "the file is empty" if file.stat().st_size == 0 else f"not valid XML: {error}"
        raise DataError(f"{file}: {reason}", mend) from None
    except OSError as error:
        raise DataError(f"{file}: {error.strerror}") from None
