"""Finding statements in a program's syntax tree and writing it back changed."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator

Block = list[ast.stmt]
Spot = tuple[Block, int]
Files = dict[str, str]


def blocks(tree: ast.AST) -> Iterator[Block]:
    """Every list of statements, outermost first."""
    for node in ast.walk(tree):
        for name in ("body", "orelse", "finalbody"):
            found = getattr(node, name, None)
            if isinstance(found, list) and found and isinstance(found[0], ast.stmt):
                yield found


def spots(tree: ast.AST, wanted: Callable[[ast.stmt], bool]) -> list[Spot]:
    """Where the statements stand that are wanted."""
    return [(b, i) for b in blocks(tree) for i, s in enumerate(b) if wanted(s)]


def each(
    source: str, wanted: Callable[[ast.stmt], bool], edit: Callable[[ast.Module, Block, int], bool]
) -> Iterator[str]:
    """The source once for every wanted statement that `edit` could change."""
    for at in range(len(spots(ast.parse(source), wanted))):
        tree = ast.parse(source)
        block, index = spots(tree, wanted)[at]
        if edit(tree, block, index):
            yield written(tree)


def each_node(
    source: str, wanted: Callable[[ast.AST], bool], edit: Callable[[ast.AST], None]
) -> Iterator[str]:
    """The source once for every wanted node, changed in place."""
    for at in range(sum(wanted(n) for n in ast.walk(ast.parse(source)))):
        tree = ast.parse(source)
        edit([n for n in ast.walk(tree) if wanted(n)][at])
        yield written(tree)


def written(tree: ast.Module) -> str:
    """The program's text, with `pass` where a block lost its last statement."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and not body and not isinstance(node, ast.Module):
            body.append(ast.Pass())
    return ast.unparse(ast.fix_missing_locations(tree)) + "\n"


def called(statement: ast.AST) -> tuple[str, str]:
    """Receiver and method of a statement that is only a method call, else two empty strings."""
    if isinstance(statement, ast.Expr):
        statement = statement.value
    if isinstance(statement, ast.Call) and isinstance(statement.func, ast.Attribute):
        return ast.unparse(statement.func.value), statement.func.attr
    return "", ""


def is_call(*methods: str, of: str = "") -> Callable[[ast.stmt], bool]:
    """Whether a statement is a call of one of these methods on something named so."""

    def wanted(statement: ast.stmt) -> bool:
        if not isinstance(statement, ast.Expr):
            return False
        receiver, method = called(statement)
        return method in methods and (not of or of in receiver)

    return wanted


def is_optimizer_name(receiver: str) -> bool:
    """By the names that the programs use."""
    last = receiver.rsplit(".", 1)[-1]
    return last.startswith("opt")


def parse_one(text: str) -> ast.stmt:
    """One statement."""
    return ast.parse(text).body[0]
