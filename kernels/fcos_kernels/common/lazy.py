"""Names of a package that load their module when they are first used, so that importing the package costs nothing."""

from collections.abc import Callable
from importlib import import_module
from typing import Any


def names(package: str, **homes: str) -> Callable[[str], Any]:
    """The `__getattr__` of `package`; `homes` says which of its modules defines which names,
    as `op="decode decode_padded"`.

    No module may have the name of one of them: importing it would put the module in the name's place.
    """
    home_of = {name: home for home, defined in homes.items() for name in defined.split()}

    def find(name: str) -> Any:
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{home_of[name]}"), name)

    return find
