"""libcst's parser in its lean use: the same trees, and nothing of libcst changed afterwards."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import libcst
import pytest

from trainlint.syntax.lean import parse_module

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "fixtures").rglob("*.py"))[::20] + sorted(
    (ROOT / "trainlint").rglob("*.py")
)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_the_tree_is_the_one_that_libcst_makes(path: Path) -> None:
    text = path.read_text()

    tree = parse_module(text)

    assert tree.code == text
    assert tree.deep_equals(libcst.parse_module(text))


def test_blanks_that_are_alike_are_one_node() -> None:
    tree = parse_module("a = b\nc = d\n")

    first, second = (line.body[0].targets[0] for line in tree.body)  # type: ignore[union-attr, index]

    assert first.whitespace_before_equal is second.whitespace_before_equal


@pytest.mark.parametrize("text", ["a = 1\n", "a = (\n"])
def test_libcst_is_itself_again_afterwards(text: str) -> None:
    before = {name: getattr(libcst, name) for name in dir(libcst)}

    with suppress(libcst.ParserSyntaxError):
        parse_module(text)

    assert {name: getattr(libcst, name) for name in dir(libcst)} == before
    with pytest.raises(libcst.CSTValidationError):
        libcst.Name("")
    assert libcst.Comma() is not libcst.Comma()
