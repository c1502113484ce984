"""Which comments suppress, and how far they reach."""

from __future__ import annotations

import pytest

from trainlint.syntax.source import Source
from trainlint.syntax.suppress import Reach, find


def suppressions(text: str):
    return find(Source("a.py", text))


@pytest.mark.parametrize(
    ("text", "reach", "selectors"),
    [
        ("x  # trainlint: ignore[TL101]", Reach.STATEMENT, ("TL101",)),
        (
            "x  # trainlint: ignore[train-in-eval-mode] on purpose",
            Reach.STATEMENT,
            ("train-in-eval-mode",),
        ),
        ("x  #trainlint:ignore [TL101, TL102]", Reach.STATEMENT, ("TL101", "TL102")),
        ("# trainlint: ignore[TL101]\nx", Reach.NEXT, ("TL101",)),
        ("# trainlint: file-ignore[TL101]", Reach.FILE, ("TL101",)),
        ("x  # trainlint: ignore", Reach.NOTHING, ()),
        ("# trainlint: file-ignore", Reach.NOTHING, ()),
        ("x  # noqa", Reach.STATEMENT, None),
        ("x  # NOQA: TL101", Reach.STATEMENT, ("TL101",)),
        ("x  # noqa:E501,TL101 because", Reach.STATEMENT, ("E501", "TL101")),
        ("x  # type: ignore  # noqa: TL101", Reach.STATEMENT, ("TL101",)),
        ("x  # reason # trainlint: ignore[TL101]", Reach.STATEMENT, ("TL101",)),
    ],
)
def test_comments(text: str, reach: Reach, selectors: tuple[str, ...] | None) -> None:
    (only,) = suppressions(text)
    assert (only.reach, only.selectors) == (reach, selectors)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("x = '# trainlint: ignore[TL101]'", id="in a string"),
        pytest.param('"""\n# noqa\n"""', id="in a docstring"),
        pytest.param("# noqa-like words\n# noqaqa", id="longer words"),
        pytest.param("# trainlint: ignores[TL101]", id="another verb"),
        pytest.param("x = 1", id="nothing"),
    ],
)
def test_no_comments(text: str) -> None:
    assert [s for s in suppressions(text) if s.selectors is None or s.selectors] == []


def test_a_comment_alone_means_the_next_statement_through_other_comments() -> None:
    (only,) = suppressions("# trainlint: ignore[TL101]\n# and why\nx\n")
    assert (only.row, only.target) == (1, 3)


def test_a_blank_line_ends_its_reach() -> None:
    (only,) = suppressions("# trainlint: ignore[TL101]\n\nx\n")
    assert only.target == 1


def test_rows_after_a_long_string_are_right() -> None:
    (only,) = suppressions('x = """\n\n\n"""\ny  # noqa\n')
    assert (only.row, only.column) == (5, 4)


def test_rows_with_other_line_ends() -> None:
    (only,) = suppressions("x\r\ny\rz  # noqa\n")
    assert (only.row, only.column) == (3, 4)
