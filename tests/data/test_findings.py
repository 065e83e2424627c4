"""Findings are counted, with examples; strict makes errors of warnings, not of notes."""

from fcos_cli.data.findings import EXAMPLES, Finding, Findings, Kind, Weight, lines

BAD, NOTED, WRONG = Kind("bad lines", boxes=True), Kind("choices", Weight.NOTE), Kind("no classes", Weight.ERROR)


def test_counts_and_the_first_examples() -> None:
    found = Findings()
    for number in range(5):
        found.add(BAD, f"a.txt:{number}")
    found.add(NOTED, count=2)
    found.add(WRONG, count=0)
    assert tuple(found) == (Finding(BAD, 5, ("a.txt:0", "a.txt:1", "a.txt:2")), Finding(NOTED, 2))
    assert len(next(iter(found)).examples) == EXAMPLES
    merged = Findings([*found, Finding(NOTED, 1, ("x",))])
    assert tuple(merged)[1] == Finding(NOTED, 3, ("x",))


def test_lines() -> None:
    assert Finding(BAD, 1200, ("a:1", "b:2", "c:3")).line == "left out: bad lines (1,200): a:1; b:2; c:3; ..."
    assert Finding(NOTED, 1, ("a",)).line == "choices (1): a"
    assert Finding(NOTED, 2).line == "choices (2)"


def test_strict() -> None:
    found = [Finding(BAD, 1), Finding(NOTED, 1), Finding(WRONG, 1)]
    assert [lines(found, weight) for weight in Weight] == [
        ["choices (1)"],
        ["left out: bad lines (1)"],
        ["no classes (1)"],
    ]
    assert lines(found, Weight.WARNING, strict=True) == []
    assert lines(found, Weight.ERROR, strict=True) == ["left out: bad lines (1)", "no classes (1)"]
    assert lines(found, Weight.NOTE, strict=True) == ["choices (1)"]


def test_json() -> None:
    assert Finding(BAD, 2, ("a",)).to_json() == {
        "what": "bad lines",
        "weight": "warning",
        "count": 2,
        "examples": ["a"],
    }
