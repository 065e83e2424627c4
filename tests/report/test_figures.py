import pytest

from fcos_cli.report.figures import fold, plain, short, tick_text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (7, "7"),
        (999, "999"),
        (1000, "1k"),
        (1234, "1.2k"),
        (9949, "9.9k"),
        (9950, "10k"),
        (95_432, "95k"),
        (999_400, "999k"),
        (999_600, "1M"),
        (1.25e6, "1.2M"),
        (3e9, "3G"),
    ],
)
def test_short_counts(count, text):
    assert short(count) == text


def test_ticks_are_exact():
    assert [tick_text(value, 0) for value in (-250.0, 12_500, 0.1 + 0.2, 1.25e6)] == ["250", "12,500", "0.3", "1.25M"]


def test_texts_of_others_stay_on_one_line_and_are_no_formulas():
    assert plain(" a\tb\n c ") == "a b c"
    assert plain("$x$") == r"\$x\$"
    assert plain("x" * 29, 28) == "x" * 27 + "…"
    assert plain("x" * 28, 28) == "x" * 28


def test_folded_lines_are_about_as_long():
    assert fold("covered by smaller boxes") == "covered by smaller boxes"
    assert fold("falls between the locations of its level") == "falls between the locations\nof its level"
    assert max(map(len, fold("word " * 30).split("\n"))) <= 46
