"""Rows and columns, computed only for the nodes that something is reported at.

libcst nodes know no places: a place is found by generating the file's code again and counting.
`PositionProvider` does so for each node and keeps a table of all; this does it for the few wanted
ones and keeps neither text nor table.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import NamedTuple

import libcst as cst
from libcst._nodes.internal import CodegenState

from trainlint.core.diagnostic import Position, Span
from trainlint.syntax.depth import deep_stack

_NEWLINE = re.compile(r"\r\n?|\n")
_BYTE_ORDER_MARK = "\ufeff"


class Tree:
    """A parsed file and the syntax nodes that its IR refers to by index.

    Nodes are numbered so that a statement comes before everything in its header and its header
    before its body; `statements` holds the indexes of statements, clauses with a header of their
    own (`elif`, `except`, `case`) included, in that order.
    """

    __slots__ = ("module", "nodes", "statements", "text")

    def __init__(self, text: str, module: cst.Module) -> None:
        self.text = text
        self.module = module
        self.nodes: list[cst.CSTNode] = []
        self.statements: list[int] = []

    def statement_of(self, node: int) -> int:
        """The index of the innermost statement that holds `node` in its header or line."""
        return self.statements[bisect_right(self.statements, node) - 1]


class Location(NamedTuple):
    """Where a node is, and the lines on which a comment speaks for it.

    `statement` spans a simple statement's line, or a compound statement's header from its first
    decorator to its colon.
    """

    span: Span
    statement: Span


def locate(tree: Tree, nodes: Iterable[int]) -> dict[int, Location]:
    """The places of `nodes`, in time linear in the file; -1, which means "nowhere", is left out."""
    wanted = {index: tree.statement_of(index) for index in nodes if index >= 0}
    if not wanted:
        return {}
    statements = {index: _Extent.of(tree.nodes[index]) for index in set(wanted.values())}
    recorder = _Recorder(tree.module)
    recorder.want(tree.nodes[index] for index in wanted)
    recorder.want(landmark for extent in statements.values() for landmark in extent.landmarks)
    with deep_stack():
        tree.module._codegen(recorder)
    rows = _Rows(tree.text)
    return {
        index: Location(
            rows.span(*recorder.extents[id(tree.nodes[index])]),
            rows.span(*statements[statement].offsets(recorder)),
        )
        for index, statement in wanted.items()
    }


class _Extent(NamedTuple):
    """The nodes between which a suppression comment counts for a statement."""

    first: cst.CSTNode
    statement: cst.CSTNode
    suite: cst.CSTNode | None
    """What follows the colon of a compound statement."""

    @classmethod
    def of(cls, statement: cst.CSTNode) -> _Extent:
        if isinstance(statement, cst.SimpleStatementLine | cst.SimpleStatementSuite):
            return cls(statement, statement, None)
        if isinstance(statement, cst.Match):
            return cls(statement, statement, statement.whitespace_after_colon)
        decorators: tuple[cst.CSTNode, ...] = tuple(getattr(statement, "decorators", ()))
        return cls((*decorators, statement)[0], statement, getattr(statement, "body", None))

    @property
    def landmarks(self) -> tuple[cst.CSTNode, ...]:
        return (self.first, self.statement, *(() if self.suite is None else (self.suite,)))

    def offsets(self, recorder: _Recorder) -> tuple[int, int]:
        start = recorder.extents[id(self.first)][0]
        if self.suite is None:
            return start, recorder.extents[id(self.statement)][1]
        return start, recorder.entered[id(self.suite)]


_UNWANTED: AbstractContextManager[None] = nullcontext()


class _Recorder(CodegenState):
    """Generates no code: counts its characters and notes where the wanted nodes begin and end.

    `entered` is where a node's own whitespace begins, `extents` the range that `PositionProvider`
    gives, in character offsets, by node identity.
    """

    def __init__(self, module: cst.Module) -> None:
        super().__init__(module.default_indent, module.default_newline)
        self.offset = 0
        self.entered: dict[int, int] = {}
        self.extents: dict[int, tuple[int, int]] = {}
        self._wanted: set[int] = set()

    def want(self, nodes: Iterable[cst.CSTNode | None]) -> None:
        self._wanted.update(id(node) for node in nodes if node is not None)

    def add_indent_tokens(self) -> None:
        for token in self.indent_tokens:
            self.offset += len(token)

    def add_token(self, value: str) -> None:
        self.offset += len(value)

    def pop_trailing_newline(self) -> None:
        """A missing last newline ends no node but the module."""

    def before_codegen(self, node: cst.CSTNode) -> None:
        if id(node) in self._wanted:
            self.entered[id(node)] = self.offset

    def after_codegen(self, node: cst.CSTNode) -> None:
        key = id(node)
        if key in self._wanted and key not in self.extents:
            self.extents[key] = (self.entered[key], self.offset)

    def record_syntactic_position(  # type: ignore[override]  # a context, but no generator
        self,
        node: cst.CSTNode,
        *,
        start_node: cst.CSTNode | None = None,
        end_node: cst.CSTNode | None = None,
    ) -> AbstractContextManager[None]:
        if id(node) not in self._wanted:
            return _UNWANTED
        self.want((start_node, end_node))
        return _Syntactic(self, node, start_node, end_node)


class _Syntactic(AbstractContextManager[None]):
    """Notes a node's range without the whitespace it owns."""

    __slots__ = ("end_node", "node", "recorder", "start", "start_node")

    def __init__(
        self,
        recorder: _Recorder,
        node: cst.CSTNode,
        start_node: cst.CSTNode | None,
        end_node: cst.CSTNode | None,
    ) -> None:
        self.recorder = recorder
        self.node = node
        self.start_node = start_node
        self.end_node = end_node
        self.start = recorder.offset

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            return
        extents = self.recorder.extents
        start = self.start if self.start_node is None else extents[id(self.start_node)][0]
        end = self.recorder.offset if self.end_node is None else extents[id(self.end_node)][1]
        extents[id(self.node)] = (start, end)


class _Rows:
    """Turns offsets in a text into rows and columns."""

    def __init__(self, text: str) -> None:
        text = text.removeprefix(_BYTE_ORDER_MARK)  # libcst drops it from the code as well
        self._starts = [0, *(newline.end() for newline in _NEWLINE.finditer(text))]

    def span(self, start: int, end: int) -> Span:
        return Span(self._position(start), self._position(end))

    def _position(self, offset: int) -> Position:
        row = bisect_right(self._starts, offset)
        return Position(row, offset - self._starts[row - 1] + 1)
