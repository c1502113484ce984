"""A file's outline, and what need not be parsed with it: bodies of functions, and huge tables.

Most bodies are never asked for: nothing that runs in the program leads to them, or their names
alone say that they do nothing of interest. libcst's parser is the dearest step of a check, and its
trees are some forty times as large as their text.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from trainlint.syntax.source import line_starts
from trainlint.syntax.words import code_of

MARK = "0x7e11_"
"""How the number begins that stands in the outline for a body."""

MIN_BODY = 60
"""Characters; a shorter body is parsed with the outline, at less than it costs to leave it out."""


class Body(NamedTuple):
    """Where the statements of a function stand, from the first one's line to the last one's end."""

    start: int
    end: int
    indent: str
    is_async: bool

    def mark(self, number: int) -> str:
        """What stands in the outline for this body, the file's `number`-th."""
        return f"{self.indent}{MARK}{number:x}"

    def program(self, text: str) -> str:
        """A function of that body alone; `start` is at the beginning of its second line."""
        return f"{self.header(text)}{text[self.start : self.end]}\n"

    def header(self, text: str) -> str:
        """The line before the body in `program`, with the file's own line end."""
        newline = _NEWLINE.search(text)
        return f"{'async ' if self.is_async else ''}def _():{newline[0] if newline else ''}"


_NEWLINE = re.compile(r"\r\n?|\n")


class Table(NamedTuple):
    """Where a huge display without calls stands, whose items nobody asks for."""

    start: int
    end: int

    def mark(self, number: int) -> str:
        """What stands in the outline for this table: a value of which nothing is known."""
        return "__left_out__"


MIN_TABLE = 50_000
"""Characters; libcst takes a kilobyte and more for each of a table's items."""


def cuts_of(text: str) -> tuple[Body | Table, ...]:
    """What can be left out of a file, in order; nothing if Python does not take the file.

    The bodies are those of functions that are in no other function.
    """
    if MARK in text:
        return ()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text, "<checked>")
    except (SyntaxError, ValueError, MemoryError, RecursionError, OverflowError):
        return ()
    starts = line_starts(text)
    found = (
        _body(node, text, starts) if isinstance(node, _Function) else _table(node, text, starts)
        for node in _outermost(tree.body)
    )
    return tuple([cut for cut in found if cut is not None])


_Function = ast.FunctionDef | ast.AsyncFunctionDef
_Display = ast.Dict | ast.List | ast.Set | ast.Tuple


def _outermost(body: Sequence[ast.AST]) -> Iterator[_Function | _Display]:
    for node in body:
        if isinstance(node, _Function):
            yield node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            if isinstance(node.value, _Display):
                yield node.value
        else:
            for field in ("body", "handlers", "orelse", "finalbody", "cases"):
                inner = getattr(node, field, None)
                if isinstance(inner, list):
                    yield from _outermost(inner)


_CALL = re.compile(r"[\w)\]][ \t]*\(")


def _table(display: _Display, text: str, starts: Sequence[int]) -> Table | None:
    start = _offset(text, starts[display.lineno - 1], display.col_offset)
    end = _offset(text, starts[(display.end_lineno or 1) - 1], display.end_col_offset or 0)
    if end - start < MIN_TABLE or _CALL.search(code_of(text[start:end])):
        return None
    return Table(start, end)


_INDENT = re.compile(r"[ \t]+(?=\S)")


def _body(function: _Function, text: str, starts: Sequence[int]) -> Body | None:
    first, last = function.body[0], function.body[-1]
    row = min([first.lineno, *(each.lineno for each in getattr(first, "decorator_list", ()))])
    start = starts[row - 1]
    indent = _INDENT.match(text, start)
    if indent is None or not _begins_line(first, text, indent):
        return None
    end = _offset(text, starts[(last.end_lineno or 1) - 1], last.end_col_offset or 0)
    if end - start < MIN_BODY:
        return None
    return Body(start, end, indent[0], isinstance(function, ast.AsyncFunctionDef))


def _begins_line(statement: ast.stmt, text: str, indent: re.Match[str]) -> bool:
    """Whether a statement's line, that of its first decorator, begins with it and is a new one."""
    if text[max(indent.start() - 3, 0) : indent.start()].rstrip("\r\n")[-1:] == "\\":
        return False
    if getattr(statement, "decorator_list", ()):
        return text[indent.end()] == "@"
    return statement.col_offset == len(indent[0])


def _offset(text: str, line: int, column: int) -> int:
    """Where a column is that counts the bytes of UTF-8."""
    ahead = text[line : line + column]
    if ahead.isascii():
        return line + column
    return line + len(ahead.encode()[:column].decode())
