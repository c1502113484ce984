"""The names that lowering collects are those that Python's own compiler finds."""

from __future__ import annotations

import ast
import asyncio
import json
import symtable
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

import pytest

from trainlint.flow import ir
from trainlint.syntax.lower import lower

_SOURCES = [
    path
    for package in (json, asyncio)
    for path in sorted(Path(package.__file__).parent.glob("*.py"))
]
_COMPREHENSIONS = {"<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>"}

Names = Counter[tuple[str, frozenset[str]]]


def functions(node: object) -> Iterator[ir.Function]:
    """All functions and lambdas below any piece of IR."""
    if isinstance(node, ir.Function):
        yield node
    if isinstance(node, tuple):
        for each in node:
            yield from functions(each)
    elif type(node).__module__ == ir.__name__:
        for kind in type(node).__mro__:
            for slot in getattr(kind, "__slots__", ()):
                if slot != "tree":
                    yield from functions(getattr(node, slot))


def code_objects(code: CodeType) -> Iterator[CodeType]:
    """A code object and all within it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from code_objects(constant)


class Lowered(ast.NodeTransformer):
    """Cuts off what is not lowered: types of variables and results, messages, causes."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        """Drop the fields that have no counterpart in the IR."""
        super().generic_visit(node)
        if isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
        for field in ("returns", "msg", "cause"):
            if hasattr(node, field):
                setattr(node, field, None)
        return node


def _plain(name: str) -> str:
    return "<lambda>" if name == "lambda" else name


def _unmangled(names: frozenset[str]) -> frozenset[str]:
    """Without the private names that the compiler renames, and without hidden ones."""
    return frozenset(name for name in names if "__" not in name and name[0] not in "$.")


def compiled_locals(table: symtable.SymbolTable) -> Iterator[tuple[str, frozenset[str]]]:
    """Each function's name and local names, as the compiler sees them."""
    kinds = {"listcomp", "setcomp", "dictcomp", "genexpr"}
    if isinstance(table, symtable.Function) and table.get_name() not in kinds:
        names = frozenset(symbol.get_name() for symbol in table.get_symbols() if symbol.is_local())
        yield _plain(table.get_name()), _unmangled(names)
    for child in table.get_children():
        yield from compiled_locals(child)


@pytest.mark.parametrize("path", _SOURCES, ids=lambda path: path.name)
def test_locals_are_the_compiler_s(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    found = functions(lower(source, str(path)).body)
    ours = Counter((each.name, _unmangled(each.locals)) for each in found)
    assert ours == Counter(compiled_locals(symtable.symtable(source, str(path), "exec")))


@pytest.mark.parametrize("path", _SOURCES, ids=lambda path: path.name)
def test_generators_are_the_compiler_s(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    found = functions(lower(source, str(path)).body)
    generator, asynchronous_generator = 0x20, 0x200
    compiled = Counter(
        code.co_name
        for code in code_objects(compile(source, str(path), "exec"))
        if code.co_flags & (generator | asynchronous_generator)
        and code.co_name not in _COMPREHENSIONS
    )
    assert Counter(each.name for each in found if each.is_generator) == compiled


@pytest.mark.parametrize("path", _SOURCES, ids=lambda path: path.name)
def test_words_leave_out_nothing_that_runs(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    mentioned = {
        node.id if isinstance(node, ast.Name) else node.attr
        for node in ast.walk(Lowered().visit(ast.parse(source)))
        if isinstance(node, ast.Name | ast.Attribute)
    }
    words = lower(source, str(path)).words
    assert mentioned <= words
    assert "" not in words
