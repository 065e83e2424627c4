"""A Triton cache that was filled elsewhere, made one that is read here."""

import json
import shutil
from pathlib import Path


def take_over(source: Path, target: Path) -> int:
    """Copies the entries that `target` lacks, and names their files where they now are; how many.

    An entry is a folder; its `__grp__*` file lists the other files by absolute paths, and those that are not there
    count as not compiled. It is found again only by the same Triton, Python and kernels.
    """
    new = 0
    for entry in sorted(path for path in source.iterdir() if path.is_dir()):
        own = target / entry.name
        if own.exists():
            continue
        part = target / f"{entry.name}.part"
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(entry, part)
        for group in part.glob("__grp__*"):
            files = json.loads(group.read_text())["child_paths"]
            group.write_text(json.dumps({"child_paths": {name: str(own / name) for name in files}}))
        part.replace(own)
        new += 1
    return new
