"""What a person reads."""

from __future__ import annotations

import re
from inspect import cleandoc

import pytest

from trainlint.core.diagnostic import Diagnostic, Position, Related, Severity, Span
from trainlint.output.text import Frames, concise, full, printable, statistics, summary
from trainlint.syntax.source import Source


def span(row: int, column: int, end_row: int, end_column: int) -> Span:
    return Span(Position(row, column), Position(end_row, end_column))


TRAIN = """for epoch in range(3):
    for x, y in loader:
        loss = model(x, y)
        loss.backward()
        optimizer.step()
    evaluate(model)
"""
EVALUATE = "def evaluate(model):\n    model.eval()\n"
FRAMES = {"/p/train.py": Source("", TRAIN), "/p/evaluate.py": Source("", EVALUATE)}
DEFECT = Diagnostic(
    "TL101",
    "train-in-eval-mode",
    Severity.ERROR,
    "`model` is trained in eval mode from the second epoch on",
    "/p/train.py",
    span(4, 9, 4, 24),
    related=(
        Related("called here", "/p/train.py", None, span(6, 5, 6, 20)),
        Related("put in eval mode here", "/p/evaluate.py", None, span(2, 5, 2, 17)),
    ),
    help="call `model.train()` at the start of each epoch",
)


def shown(found: Diagnostic, **sources: Source) -> str:
    return full([found], "/p", Frames({**FRAMES, **sources}))


def test_full() -> None:
    assert (
        shown(DEFECT)
        == cleandoc(
            """
        TL101 train-in-eval-mode: `model` is trained in eval mode from the second epoch on
         --> train.py:4:9
          |
        2 |     for x, y in loader:
        3 |         loss = model(x, y)
        4 |         loss.backward()
          |         ^^^^^^^^^^^^^^^
        5 |         optimizer.step()
        6 |     evaluate(model)
          |
          1. train.py:6:5: called here
        6 |     evaluate(model)
          |     ---------------
          |
          2. evaluate.py:2:5: put in eval mode here
        2 |     model.eval()
          |     ------------
          |
          = help: call `model.train()` at the start of each epoch
        """
        )
        + "\n\n"
    )


def test_colours_add_nothing_else() -> None:
    coloured = full([DEFECT], "/p", Frames(FRAMES), colour=True)
    assert "\x1b[1;31mTL101" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == shown(DEFECT)


def one(text: str, where: Span) -> list[str]:
    """The frame's lines between the bars."""
    found = Diagnostic("TL103", "n", Severity.ERROR, "m", "/p/a.py", where)
    lines = full([found], "/p", Frames({"/p/a.py": Source("", text)})).splitlines()
    return lines[3:-2]


def test_tabs_and_wide_letters_are_underlined_where_they_stand() -> None:
    assert one("\tx = '日本'; y\n", span(1, 12, 1, 13)) == [
        "1 |     x = '日本'; y",
        "  |                 ^",
    ]


def test_a_span_over_lines_is_underlined_line_by_line() -> None:
    assert one("f(\n    a,\n    b)\n", span(1, 1, 3, 7)) == [
        "1 | f(",
        "  | ^^",
        "2 |     a,",
        "  |     ^^",
        "3 |     b)",
        "  |     ^^",
    ]


def test_a_long_span_is_cut() -> None:
    lines = one("f(\n" + "  a,\n" * 50 + ")\n", span(1, 1, 52, 2))
    assert lines[-1] == "   | ..."
    assert len(lines) < 12


def test_a_long_line_is_shown_around_the_span() -> None:
    text = "x = [" + "1, " * 5_000 + "model.eval, " + "2, " * 5_000 + "]\n"
    column = text.index("model.eval") + 1
    line, marks = one(text, span(1, column, 1, column + 10))
    assert len(line) < 200
    assert line[marks.index("^") :].startswith("model.eval")


def test_an_empty_span_has_one_mark() -> None:
    assert one("def (\n", span(1, 5, 1, 5)) == ["1 | def (", "  |     ^"]
    assert one("def", span(1, 4, 1, 4)) == ["1 | def", "  |    ^"]


def test_without_its_source_a_finding_is_told_all_the_same() -> None:
    found = Diagnostic(
        "TL002", "unreadable-file", Severity.ERROR, "gone", "/p/no.py", span(1, 1, 1, 1)
    )
    assert full([found], "/p", Frames()) == "TL002 unreadable-file: gone\n --> no.py:1:1\n\n"


def test_control_characters_do_not_reach_the_terminal() -> None:
    found = Diagnostic("TL103", "n", Severity.ERROR, "\x1b[2J", "/p/a\n.py", span(1, 1, 1, 2))
    text = full([found], "/p", Frames({"/p/a\n.py": Source("", "x = '\x1b[2J\u202e'")}))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert printable("a\tb\r\n") == "a\tb\\r\\n"


def test_concise() -> None:
    assert concise([DEFECT], "/p") == (
        "train.py:4:9: TL101 `model` is trained in eval mode from the second epoch on\n"
    )


def test_paths_outside_the_working_directory_are_absolute() -> None:
    assert concise([DEFECT], "/pp").startswith("/p/train.py:4:9:")


def test_notebook_places() -> None:
    found = Diagnostic("TL103", "n", Severity.ERROR, "m", "/p/a.ipynb", span(1, 1, 1, 11), cell=2)
    source = Source("", "x\nmodel.eval\ny\n", (1, 2, 3), "x\nmodel.eval\ny\n")
    text = full([found], "/p", Frames({"/p/a.ipynb": source}))
    assert " --> a.ipynb:cell 2:1:1\n" in text
    assert "1 | model.eval\n" in text
    assert "y" not in text.split("model.eval")[1], "the next cell is not shown"


def test_statistics() -> None:
    other = Diagnostic(
        "TL205", "missing-zero-grad", Severity.ERROR, "m", "/p/a.py", span(1, 1, 1, 2)
    )
    assert statistics([other, DEFECT, other]) == (
        "2\tTL205\tmissing-zero-grad\n1\tTL101\ttrain-in-eval-mode\n"
    )


@pytest.mark.parametrize(
    ("severities", "text"),
    [
        ([], "All checks passed: 3 files"),
        ([Severity.ERROR], "Found 1 error in 3 files"),
        (
            [Severity.ERROR, Severity.WARNING, Severity.WARNING, Severity.INFO],
            "Found 1 error, 2 warnings, 1 note in 3 files",
        ),
    ],
)
def test_summary(severities: list[Severity], text: str) -> None:
    found = [Diagnostic("T", "n", s, "m", "/p/a.py", span(1, 1, 1, 1)) for s in severities]
    assert summary(found, 3) == text
