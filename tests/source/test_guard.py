"""Nothing reaches libcst's native parser that could kill it or hold it for long."""

from __future__ import annotations

import contextlib
import time

import pytest

from trainlint.syntax.guard import MAX_BRACKETS, MAX_BRANCHES, MAX_CHAIN, guard
from trainlint.syntax.parse import parse
from trainlint.syntax.source import InvalidSource, Source, UnreadableSource

HOSTILE = {
    "parentheses": "x = " + "(" * 10_000 + "1" + ")" * 10_000,
    "brackets": "x = " + "[" * 1_500 + "]" * 1_500,
    "calls": "x = " + "f(" * 1_500 + ")" * 1_500,
    "unclosed": "[" * 100_000,
    "one a line": "(\n" * 10_000,
    "attributes": "x = a" + ".b" * 6_000,
    "subscripts": "x = a" + "[0]" * 6_000,
    "arithmetic": "x = 1" + " + 1" * 10_000,
    "arithmetic over lines": "x = (1" + "\n + 1" * 10_000 + ")",
    "not": "x = " + "not " * 10_000 + "1",
    "minus": "x = " + "-" * 10_000 + "1",
    "lambda": "x = " + "lambda: " * 6_000 + "1",
    "conditional": "x = " + "1 if 1 else " * 6_000 + "1",
    "and": "x = 1" + " and 1" * 10_000,
    "elif": "if 1: pass\n" + "elif 1: pass\n" * 10_000,
    "f-string": "x = f'" + "{(" * 6_000 + "1" + ")}" * 6_000 + "'",
    "f-string with quotes": "x = f'" + '{(")"+' * 1_500 + "'",
    "chains in a call": "f(" + "a" + ".b" * 2_900 + "(" + "c" + ".d" * 2_900 + "))",
    "behind a quote": "'\n" + "[" * 2_000,
    "behind a continuation": "x = \\\n" + "[" * 2_000,
    "in a string that is none": '"""a""" + ' + "[" * 2_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_what_would_kill_the_parser_is_refused_at_once(text: str) -> None:
    begun = time.process_time()
    with pytest.raises((InvalidSource, UnreadableSource), match="limit"):
        guard(text)
    assert time.process_time() - begun < 2


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("x = " + "f(" * MAX_BRACKETS + ")" * MAX_BRACKETS, id="nesting"),
        pytest.param("x = 1" + " + 1" * (MAX_CHAIN // 2 - 10), id="arithmetic"),
        pytest.param("x = a" + ".b" * (MAX_CHAIN // 2 - 10), id="attributes"),
        pytest.param("x = " + "not " * (MAX_CHAIN - 10) + "1", id="not"),
        pytest.param("x = " + "'a' " * (MAX_CHAIN - 10), id="strings side by side"),
        pytest.param("x = " + "lambda:" * (MAX_CHAIN // 2 - 10) + "1", id="lambda"),
        pytest.param("if 1: pass\n" + "elif 1: pass\n" * (MAX_BRANCHES - 1), id="elif"),
        pytest.param("x = f'" + "{" * MAX_BRACKETS + "1" + "}" * MAX_BRACKETS + "'", id="f-string"),
    ],
)
def test_what_is_just_let_through_does_not_kill_it(text: str) -> None:
    guard(text)
    with contextlib.suppress(InvalidSource):  # libcst may refuse it in its turn; it lives
        parse(Source("a.py", text))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("x = [" + "1, " * 50_000 + "]", id="a flat table"),
        pytest.param("x = [\n" + "    [1, 2, 3],\n" * 20_000 + "]", id="a table of rows"),
        pytest.param("x = 1\n" * 50_000, id="many statements"),
        pytest.param("x = '''" + "([{" * 5_000 + "'''", id="brackets in a string"),
        pytest.param("# " + "(" * 5_000, id="brackets in a comment"),
        pytest.param("x = f'" + "{a} " * 900 + "'", id="an f-string with many fields"),
        pytest.param("x = r'\\'\ny = '('\n" * 300, id="raw strings"),
        pytest.param("f(" + "a=1, " * 20_000 + ")", id="many arguments"),
    ],
)
def test_long_but_flat_code_is_let_through(text: str) -> None:
    guard(text)


def test_many_small_offences_add_up() -> None:
    nested = "x = " + "f(" * 150 + ")" * 150 + "\n"
    with pytest.raises(UnreadableSource, match="too long to parse"):
        guard(nested * 1_000)


def test_the_place_is_named() -> None:
    with pytest.raises(InvalidSource) as caught:
        guard("y = 1\nx = " + "(" * 300)
    assert (caught.value.row, caught.value.column) == (2, 5 + MAX_BRACKETS)
