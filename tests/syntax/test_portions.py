"""A file parsed in portions is the file parsed as a whole: the same program, at the same places."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from tests.syntax.ir_text import dump
from trainlint.core.diagnostic import Span
from trainlint.flow import ir
from trainlint.flow.walk import walk
from trainlint.syntax.cut import bodies_of
from trainlint.syntax.lower import lower
from trainlint.syntax.portions import Portions

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


def in_portions(text: str, path: str = "file.py") -> ir.Module:
    """The file with its bodies put off."""
    return Portions(text, bodies_of(text)).lower(path)


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
    assert len(bodies_of(text)) >= 6
    assert_same(text)
