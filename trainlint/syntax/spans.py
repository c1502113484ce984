"""Rows and columns, computed only for the nodes that something is reported at.

libcst nodes know no places: a place is found by generating code again and counting.
`PositionProvider` does so for each node of a file and keeps a table of all. Here only the code of
the top-level statement or of the method around a wanted node is generated, and looked for in the
file's text: libcst loses nothing, so that where it is found once, it is there. The whole file's
code is the fallback.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import NamedTuple

import libcst as cst
from libcst._nodes.internal import CodegenState

from trainlint.core.diagnostic import Position, Span
from trainlint.syntax.depth import deep_stack
from trainlint.syntax.source import line_starts

_BYTE_ORDER_MARK = "\ufeff"


class Tree:
    """A parsed file and the syntax nodes that its IR refers to by index.

    Nodes are numbered so that a statement comes before everything in its header and its header
    before its body, from `first` on; `statements` holds the indexes of statements, clauses with a
    header of their own (`elif`, `except`, `case`) included, in that order.
    """

    __slots__ = ("file", "first", "module", "nodes", "statements", "text")

    def __init__(
        self, text: str, module: cst.Module, file: Excerpt | None = None, first: int = 0
    ) -> None:
        self.text = text
        self.module = module
        self.file = file
        """What the text is an excerpt of, if it is no whole file."""
        self.first = first
        self.nodes: list[cst.CSTNode] = []
        self.statements: list[int] = []

    def node(self, index: int) -> cst.CSTNode:
        """The syntax node that the IR refers to by `index`."""
        return self.nodes[index - self.first]

    def locate(self, nodes: Iterable[int]) -> dict[int, Location]:
        """As the function of that name."""
        return locate(self, nodes)

    def statement_of(self, node: int) -> int:
        """The index of the innermost statement that holds `node` in its header or line."""
        return self.statements[bisect_right(self.statements, node) - 1]


class Excerpt(NamedTuple):
    """How a text was made from that of a file."""

    starts: Sequence[int]
    """Where the file's lines begin."""
    offset: Callable[[int], int]
    """Where in the file something is, by where it is in the text made from it."""


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
    text = tree.text.removeprefix(_BYTE_ORDER_MARK)  # libcst drops it from the code as well
    rows = _Rows(tree.file or Excerpt(line_starts(text), _same))
    with deep_stack():
        portions = _portions(tree, wanted)
        found = [_located(tree, inside, at, text, rows) for at, inside in portions.items()]
        if None in found:
            found = [_located(tree, wanted, _Portion(tree.module, ()), text, rows)]
    return {index: place for part in found if part for index, place in part.items()}


def _same(offset: int) -> int:
    return offset


def _located(
    tree: Tree, wanted: Mapping[int, int], portion: _Portion, text: str, rows: _Rows
) -> dict[int, Location] | None:
    """The places of what a portion holds; None if the text does not tell where the portion is."""
    recorder = _Recorder(tree.module, portion.indents)
    extents = _extents(tree, wanted, portion.node, recorder)
    start = 0 if portion.node is tree.module else recorder.only_place_in(text)
    if start is None:
        return None
    return {
        index: Location(rows.span(start, span), rows.span(start, statement))
        for index, (span, statement) in extents.items()
    }


_Offsets = tuple[int, int]
"""Where something begins and ends in generated code."""


def _extents(
    tree: Tree, wanted: Mapping[int, int], portion: cst.CSTNode, recorder: _Recorder
) -> dict[int, tuple[_Offsets, _Offsets]]:
    """For each wanted node of a portion of the file: its own range, and its statement's."""
    statements = {index: _Extent.of(tree.node(index)) for index in set(wanted.values())}
    recorder.want(tree.node(index) for index in wanted)
    recorder.want(landmark for extent in statements.values() for landmark in extent.landmarks)
    portion._codegen(recorder)
    return {
        index: (
            recorder.extents[id(tree.node(index))],
            statements[statement].offsets(recorder),
        )
        for index, statement in wanted.items()
    }


class _Portion(NamedTuple):
    """A statement of the file, or of a class in it, and the indentation that it has there."""

    node: cst.CSTNode
    indents: tuple[str, ...]


_MAX_PORTIONS = 200
"""Looking for so many portions in the text takes about half as long as generating all of it."""


def _portions(tree: Tree, wanted: Mapping[int, int]) -> dict[_Portion, dict[int, int]]:
    """The wanted nodes, with their statements, by the portion that holds them."""
    number = {id(tree.node(index)): index for index in tree.statements}
    found: dict[_Portion, dict[int, int]] = {}
    for index, statement in wanted.items():
        portion = _portion_of(statement, tree.module.body, (), number, tree.module)
        found.setdefault(portion, {})[index] = statement
    if len(found) > _MAX_PORTIONS:
        return {_Portion(tree.module, ()): dict(wanted)}
    return found


def _portion_of(
    statement: int,
    body: Sequence[cst.CSTNode],
    indents: tuple[str, ...],
    number: Mapping[int, int],
    module: cst.Module,
) -> _Portion:
    """The last statement of `body` that begins no later, or, in a class, of the class's body."""
    known = [child for child in body if id(child) in number]
    if not known:
        return _Portion(module, ())
    starts = [number[id(child)] for child in known]
    node = known[bisect_right(starts, statement) - 1]
    if isinstance(node, cst.ClassDef) and isinstance(node.body, cst.IndentedBlock):
        first = next((number[id(c)] for c in node.body.body if id(c) in number), statement + 1)
        if first <= statement:
            indent = module.default_indent if node.body.indent is None else node.body.indent
            return _portion_of(statement, node.body.body, (*indents, indent), number, module)
    return _Portion(node, indents)


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
    """Generates code and notes where in it the wanted nodes begin and end.

    `entered` is where a node's own whitespace begins, `extents` the range that `PositionProvider`
    gives, in character offsets, by node identity.
    """

    def __init__(self, module: cst.Module, indents: Iterable[str] = ()) -> None:
        super().__init__(module.default_indent, module.default_newline)
        self.indent_tokens.extend(indents)
        self.offset = 0
        self.entered: dict[int, int] = {}
        self.extents: dict[int, _Offsets] = {}
        self._wanted: set[int] = set()

    def only_place_in(self, text: str) -> int | None:
        """Where the generated code is in a text, unless it is there more than once."""
        code = "".join(self.tokens)
        start = text.find(code)
        return start if start >= 0 and text.rfind(code) == start else None

    def want(self, nodes: Iterable[cst.CSTNode | None]) -> None:
        self._wanted.update(id(node) for node in nodes if node is not None)

    def add_indent_tokens(self) -> None:
        for token in self.indent_tokens:
            self.add_token(token)

    def add_token(self, value: str) -> None:
        self.tokens.append(value)
        self.offset += len(value)

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

    def __init__(self, excerpt: Excerpt) -> None:
        self._starts, self._moved = excerpt

    def span(self, base: int, offsets: _Offsets) -> Span:
        return Span(*(self._position(base + offset) for offset in offsets))

    def _position(self, generated: int) -> Position:
        offset = self._moved(generated)
        row = bisect_right(self._starts, offset)
        return Position(row, offset - self._starts[row - 1] + 1)
