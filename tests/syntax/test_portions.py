"""A file parsed in portions is the file parsed as a whole: the same program, at the same places."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import hypothesmith
import libcst
import pytest
from hypothesis import HealthCheck, given, settings

from tests.syntax.ir_text import dump
from trainlint.core.diagnostic import Span
from trainlint.flow import ir
from trainlint.flow.walk import walk
from trainlint.syntax import portions as made
from trainlint.syntax.cut import MARK, cuts_of
from trainlint.syntax.lower import lower
from trainlint.syntax.parse import parse, refused
from trainlint.syntax.portions import Portions
from trainlint.syntax.source import Source, UnreadableSource
from trainlint.syntax.words import words_of

_SOURCES = [
    path
    for package in (json, asyncio)
    for path in sorted(Path(package.__file__).parent.glob("*.py"))
]

_PROGRAM = dedent(
    '''
    """A file of many shapes."""
    import torch

    def short(): return 1

    def train(model, loader, *, epochs=10):  # a comment behind the colon
        # a comment before the body
        """What it does.

        def is_no_function(): of a string
        """
        for epoch in range(epochs):
    # a comment at the left margin
            for x, y in loader:
                model(x); loss = 1; y = """
    no indentation"""
        return f"{model.name!r:>{epochs}}"  # a comment at the end

    async def served(queue):
        async for each in queue:
            await each
        @decorated
        def inner(): yield 1

    class Net(torch.nn.Module):
        width = 3

        @property
        def deep(self):

            @functools.cache
            def inner(a, /, b):
                return a + b + self.width
            return [inner(i, j) for i, j in self.pairs if i]; pass;

        class Nested:
            def method(self):
                nonlocal_name = (
                    yield self
                )
                global elsewhere; elsewhere = "ä𝔘" + nonlocal_name; return "ö"

    if torch.cuda.is_available():
        def conditional():
            first, *others = torch.everything_there_is(keyword=short)
            with torch.no_grad(), open("f") as f: pass
    else:
        try:
            conditional = None
        except (ImportError, OSError) as error:
            def conditional(error=error): \\
                raise error
        finally:
            match conditional:
                case None:
                    def other(): # the last function
                        return conditional(lambda: (yield), {"key": [1, 2, *others]})
    '''
).lstrip()


@pytest.fixture(autouse=True, scope="module")
def even_short_bodies() -> Iterator[None]:
    """Leave every body out, however short."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainlint.syntax.cut.MIN_BODY", 0)
        yield


def in_portions(text: str, path: str = "file.py") -> ir.Module:
    """The file with its bodies put off."""
    return Portions(text, cuts_of(text)).lower(path)


def places(module: ir.Module) -> Iterator[tuple[str, Span, Span]]:
    """Kind and place of every node that has one."""
    nodes = [node for node in walk(module.body) if node.node >= 0]
    found = module.tree.locate({node.node for node in nodes})
    for node in nodes:
        yield type(node).__name__, found[node.node].span, found[node.node].statement


def program(module: ir.Module) -> str:
    """A module's text, without the numbers in the names of hidden variables."""
    return re.sub(r"\$([a-z]+)\d+", r"$\1", dump(module))


def assert_same(text: str) -> None:
    """Compare the two ways of parsing a text."""
    whole, portions = lower(text, "file.py"), in_portions(text)
    assert whole.words <= portions.words
    assert program(portions) == program(whole)
    assert list(places(portions)) == list(places(whole))
    assert portions.length == whole.length


@pytest.mark.parametrize("path", _SOURCES, ids=lambda path: path.name)
def test_real_files(path: Path) -> None:
    assert_same(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"], ids=["lf", "crlf", "cr"])
@pytest.mark.parametrize("end", ["", "\n", "\n\n  # comment"], ids=["none", "newline", "comment"])
@pytest.mark.parametrize("indent", ["    ", "\t", "  "], ids=["four", "tab", "two"])
def test_all_shapes(newline: str, end: str, indent: str) -> None:
    text = (_PROGRAM.rstrip("\n") + end).replace("    ", indent).replace("\n", newline)
    assert len(cuts_of(text)) >= 6
    assert_same(text)


@pytest.mark.filterwarnings("ignore::SyntaxWarning")  # hypothesmith compiles what it makes
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(hypothesmith.from_grammar())
def test_generated_programs(source: str) -> None:
    body = "".join(f"    {line}\n" for line in source.splitlines())
    for text in (source, f"def f():\n    x = 1\n{body}", f"class C:\n  def f(self):\n{body}"):
        try:
            libcst.parse_module(text)
        except libcst.ParserSyntaxError:
            continue
        assert_same(text)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("a.b(c, d=e)[f]", "a b c e f"),
        ("x, y = f(key=1)", "x y f"),
        ("(x.a, (b, c)), d = f()", "x a b c d f"),
        ("if a == 'eval': b = \"train\"  # step", "a b"),
        ("f(a,\n  b = c)", "f a c"),
        ("f'{a.b!r:>{c}} train {d({1: 2}[e])}' rb'g'", "a b r c d e"),
        ("f'train {a[{1: {2: b}}[c]]}'", "train a b c"),
        ("'''{a}''' + f\"{b['c']}\"", "b c"),
        ("1e5 + 0x1f + 1_000j", ""),
        ("class C: pass", "class C"),
        ("def f(a, b=c): yield", "f a c"),
    ],
)
def test_words_are_read_from_the_text(code: str, words: str) -> None:
    """Those of keyword arguments, strings and comments are none."""
    assert words_of(code) == set(words.split())


def _function(body: str) -> str:
    return f"def f(a):\n    {body}\n    return a.b.c\n"


def test_a_body_is_parsed_once_and_only_if_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []

    def parse_module(text: str) -> libcst.Module:
        parsed.append(text)
        return libcst.parse_module(text)

    monkeypatch.setattr(made, "parse_module", parse_module)
    one, other = in_portions(_function("x = 1") + _function("y = 2").replace("f(", "g(")).body
    assert isinstance(one, ir.Function)
    assert isinstance(other, ir.Function)
    assert len(parsed) == 1
    assert one.words == {"a", "x", "b", "c"}
    assert not one.may_show(re.compile("y"))
    assert len(parsed) == 1
    assert one.locals == {"a", "x"}
    assert len(one.body) == 2
    assert not one.is_generator
    assert len(parsed) == 2
    assert one.may_show(re.compile("x = 1"))
    assert not one.may_show(re.compile("y"))


def test_what_is_found_does_not_depend_on_the_trees_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = list(places(in_portions(_PROGRAM)))
    monkeypatch.setattr(made._Recent, "MAX_CHARACTERS", 0)
    assert list(places(in_portions(_PROGRAM))) == expected


def test_the_trees_kept_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made._Recent, "MAX_CHARACTERS", 100)
    module = in_portions("".join(_function(f"x = {n}") for n in range(20)))
    dump(module)
    assert 0 < sum(len(tree.text) for tree in made._TREES._trees.values()) <= 100


@pytest.mark.parametrize(
    "text",
    ["def f(:\n    pass\n", f"x = {MARK}1\n{_function('y = 1')}", "x = 1\n"],
    ids=["no Python", "the mark itself", "no function"],
)
def test_nothing_is_left_out(text: str) -> None:
    assert cuts_of(text) == ()


def test_what_libcst_does_not_take_is_told_when_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = Source("file.py", "import a\n\n" + _function("(name): int"))
    module = parse(source)
    assert refused(source, module) is None
    (_, function) = module.body
    assert isinstance(function, ir.Function)
    assert function.body == ()
    monkeypatch.setattr("trainlint.syntax.parse.cuts_of", lambda text: ())
    with pytest.raises(UnreadableSource) as caught:
        parse(source)
    problem = refused(source, module)
    assert isinstance(problem, UnreadableSource)
    assert problem.problem == caught.value.problem
    assert refused(source, module) is None
    assert function.locals == frozenset()
    assert refused(source, module) is not None


def test_what_libcst_does_not_take_outside_functions_is_told_at_once() -> None:
    with pytest.raises(UnreadableSource, match="is Python that libcst"):
        parse(Source("file.py", "(name): int\n" + _function("x = 1")))


def _table(item: str) -> str:
    items = "".join(
        f"    ({n}, {item}, 'text(here)'): [{n}.5, None],  # f(x)\n" for n in range(2_000)
    )
    return f"import torch\nTABLE = {{\n{items}}}\nmodel.eval\n"


def test_a_huge_table_is_not_parsed() -> None:
    """Nothing is known of it, and what comes after it keeps its place."""
    text = _table("torch.float16")
    module = in_portions(text)
    (_, assignment, reference) = module.body
    assert isinstance(assignment, ir.Assign)
    assert isinstance(assignment.value, ir.Name)
    assert isinstance(reference, ir.Expression)
    found = module.tree.locate([assignment.value.node, reference.node])
    table = found[assignment.value.node].span
    assert (table.start.row, table.start.column) == (2, 9)
    assert (table.end.row, table.end.column) == (2_003, 2)
    assert found[reference.node].span.start.row == 2_004


def test_a_table_of_calls_is_parsed() -> None:
    assert cuts_of(_table("torch.device(0)")) == ()
    assert cuts_of("TABLE = [1, 2, 3]\n") == ()
