"""Places are those of `PositionProvider`, and a statement's are the lines that speak for it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from textwrap import dedent

import libcst
import pytest
from hypothesis import HealthCheck, given, settings
from libcst.metadata import MetadataWrapper, PositionProvider

from trainlint.core.diagnostic import Position, Span
from trainlint.syntax.depth import TooDeep
from trainlint.syntax.lower import lower
from trainlint.syntax.spans import Location, Tree, locate

hypothesmith = pytest.importorskip("hypothesmith")

_SOURCES = [
    path
    for package in (json, asyncio)
    for path in sorted(Path(package.__file__).parent.glob("*.py"))
]

_PROGRAM = dedent(
    '''
    """Docstring."""
    import torch, os as system

    @torch.no_grad()   # decorated
    @other(
        1,
    )
    async def evaluate(
        model, *args, loader: "Loader" = None, **kw
    ) -> None:  # header

    \t# a tab's comment
    \tfor (i, b) in enumerate(loader): model(b); (model.step)()
    \telse:
    \t\tpass
    \twith a() as b, c(): x = """
    two rows""" + f"{b!r:>{n}} " 'z'
    \ttry:
    \t\twhile not b < c <= d: del x[0], y[1:2]
    \texcept (E, F) as e: raise
    \tfinally:
    \t\treturn lambda *, k=1: (yield)

    if a: b
    elif (c
        or d): e()
    else: (f)(*g, **h)
    match x:
        case Point(x=0) | [1, *_] if y:
            z: int = -1
        case {"k": v}: v += 1
    class C(Base, metaclass=M):
        pass
    \f
    last = {**a, "b": [i for i in j if k]}
    '''
).lstrip()


def tree_of(source: str) -> Tree:
    """The syntax table of a source."""
    tree = lower(source, "file.py").tree
    assert isinstance(tree, Tree)
    return tree


def everywhere(tree: Tree) -> dict[int, Location]:
    """The places of all nodes."""
    return locate(tree, range(len(tree.nodes)))


def one_by_one(tree: Tree) -> dict[int, Location]:
    """The places of up to 200 nodes, each asked for alone, so that little code is generated."""
    step = len(tree.nodes) // 200 + 1
    return {i: p for n in range(0, len(tree.nodes), step) for i, p in locate(tree, [n]).items()}


def assert_as_position_provider(source: str) -> None:
    """Compare every numbered node's range with libcst's own."""
    tree = tree_of(source)
    together = everywhere(tree)
    assert one_by_one(tree).items() <= together.items()
    expected = MetadataWrapper(tree.module, unsafe_skip_copy=True).resolve(PositionProvider)
    for index, (span, _) in together.items():
        wanted = expected[tree.nodes[index]]
        start, end = wanted.start, wanted.end
        assert span == Span(
            Position(start.line, start.column + 1), Position(end.line, end.column + 1)
        ), tree.nodes[index]


@pytest.mark.parametrize("path", _SOURCES, ids=lambda path: path.name)
def test_ranges_of_real_files(path: Path) -> None:
    assert_as_position_provider(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"], ids=["lf", "crlf", "cr"])
@pytest.mark.parametrize("end", ["", "\n", "\n\n  # comment"], ids=["none", "newline", "comment"])
def test_ranges_under_all_newlines(newline: str, end: str) -> None:
    assert_as_position_provider((_PROGRAM.rstrip("\n") + end).replace("\n", newline))


@pytest.mark.parametrize(
    "source",
    [
        "",
        "\n",
        "x",
        "if x:\r\n\ty()\n\tz()\r",
        "x = (\n  a  \\\n  .b ( c )\n) ; y",
        "s = 'ä€😀'; f(s)",
        "\f\nx = 1\n\ff(x)",
        "if x:\n  if y:\n        z()\n  w()",
        "class C:\n    def f(self): return 1\n    # end\n",
        "\ufefff(x)",
    ],
)
def test_ranges_of_odd_files(source: str) -> None:
    assert_as_position_provider(source)


@pytest.mark.filterwarnings("ignore::SyntaxWarning")  # hypothesmith compiles what it makes
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(hypothesmith.from_grammar())
def test_ranges_of_generated_programs(source: str) -> None:
    try:
        libcst.parse_module(source)
    except libcst.ParserSyntaxError:
        return
    assert_as_position_provider(source)


def statement_text(source: str, word: str) -> str:
    """The text of the statement span of the nodes whose own text is `word`."""
    tree = tree_of(source)
    (found,) = {
        location.statement
        for location in everywhere(tree).values()
        if text_at(source, location.span) == word
    }
    return text_at(source, found)


def text_at(source: str, span: Span) -> str:
    """The text of a span."""
    rows = source.splitlines(keepends=True)
    starts = [sum(map(len, rows[:row])) for row in range(len(rows) + 1)]
    (start_row, start), (end_row, end) = span
    return source[starts[start_row - 1] + start - 1 : starts[end_row - 1] + end - 1]


@pytest.mark.parametrize(
    ("word", "statement"),
    [
        ("torch.no_grad", "@torch.no_grad()\n@wraps\ndef f(\n    a=default,\n):"),
        ("default", "@torch.no_grad()\n@wraps\ndef f(\n    a=default,\n):"),
        ("spread", "call(\n        spread,\n    )"),
        ("first", "first; second"),
        ("second", "first; second"),
        ("short", "short()"),
        ("condition", "if condition :"),
        ("other", "elif other:"),
        ("nothing", "nothing"),
        ("item", "for item in items:"),
        ("context", "with context, (\n        second_context\n    ):"),
        ("second_context", "with context, (\n        second_context\n    ):"),
        ("Error", "except Error:"),
        ("Base", "class C(\n    Base\n):"),
        ("subject", "match subject:"),
        ("guard", "case _ if guard:"),
    ],
)
def test_statement_is_the_line_or_the_header(word: str, statement: str) -> None:
    source = dedent(
        """
        @torch.no_grad()
        @wraps
        def f(
            a=default,
        ):
            # comment
            call(
                spread,
            )
            first; second
            if condition : short()
            elif other:
                pass
            else:
                nothing
            for item in items:
                pass
            with context, (
                second_context
            ):
                pass
            try:
                pass
            except Error:
                pass
        class C(
            Base
        ):
            "doc"
        match subject:
            # comment
            case _ if guard:
                pass
        """
    )
    assert statement_text(source, word) == statement


def test_a_part_of_the_file_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """One finding in a long file does not cost the generation of all its code."""
    tree = tree_of(_PROGRAM + "def train(model):\n    model.eval()\n")
    monkeypatch.setattr(libcst.Module, "_codegen", None)
    last = len(tree.nodes) - 1
    assert locate(tree, [last])[last].span.start.row == _PROGRAM.count("\n") + 2


def test_code_that_stands_twice_is_told_apart() -> None:
    tree = tree_of("model.eval()\nmodel.train()\nmodel.eval()\n")
    rows = [place.span.start.row for place in one_by_one(tree).values()]
    assert rows == sorted(rows)
    assert set(rows) == {1, 2, 3}


def test_nowhere_has_no_place() -> None:
    tree = tree_of("f()\n")
    assert locate(tree, [-1]) == {}
    assert locate(tree, []) == {}


def test_long_chains_are_located() -> None:
    tree = tree_of("x = " + " + ".join(["a"] * 1_000) + "\n")
    assert len(everywhere(tree)) == len(tree.nodes)


def test_code_that_has_no_room_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    tree = tree_of("x = " + " + ".join(["a"] * 1_000) + "\n")
    monkeypatch.setattr("trainlint.syntax.depth._FRAMES", 0)
    with pytest.raises(TooDeep):
        everywhere(tree)
