"""What the code cites of docs/method.md is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
CITATION = re.compile(r"docs/method\.md, ([A-Z][a-z]+(?: [a-z]+)*)")
FOLDERS = ("fcos_cli", "kernels", "tests")


def test_cited_sections_exist():
    headings = re.findall(r"^## (.+)$", (ROOT / "docs" / "method.md").read_text(encoding="utf-8"), re.MULTILINE)
    files = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py")) if path != Path(__file__)]
    cited = {(path.name, words) for path in files for words in CITATION.findall(path.read_text(encoding="utf-8"))}
    assert len(cited) > 10
    assert [(name, words) for name, words in sorted(cited) if not any(words.startswith(h) for h in headings)] == []
