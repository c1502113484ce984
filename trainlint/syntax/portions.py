"""A file that is parsed in portions: its outline at once, a function's body when it is asked for.

Only the last trees are kept: one is some forty times as large as its text, and only those few are
needed again in which something is reported. What the IR refers to by number is then found by
lowering the portion once more, which numbers its nodes as before.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Sequence, Set
from itertools import accumulate
from typing import NamedTuple

from libcst import ParserSyntaxError

from trainlint.flow import ir
from trainlint.syntax.cut import Body, Table
from trainlint.syntax.depth import deep_stack
from trainlint.syntax.lean import parse_module
from trainlint.syntax.lower import lower_body, lower_outline
from trainlint.syntax.source import line_starts
from trainlint.syntax.spans import Excerpt, Location, Tree, locate
from trainlint.syntax.words import code_of, words_of

_NUMBERS = 1 << 32
"""Numbers that each portion has for its nodes, many more than a text can have."""


class Refusal(NamedTuple):
    """What libcst has against a body that Python takes."""

    error: Exception
    lines_before: int


class Portions:
    """The text of a file and what is left out of its outline."""

    __slots__ = ("_cuts", "_line_starts", "_text", "refusal")

    def __init__(self, text: str, cuts: Sequence[Body | Table]) -> None:
        self._text = text
        self._cuts = cuts
        self._line_starts = line_starts(text)
        self.refusal: Refusal | None = None
        """Why the bodies that were asked for are not all known; who asks anew sets it back."""

    def lower(self, path: str) -> ir.Module:
        """The file, with its bodies put off.

        Raises `libcst.ParserSyntaxError` for an outline that libcst does not take, and `TooDeep`.
        """
        with deep_stack():
            tree = self._outline()
            block, words = lower_outline(tree, self._left_out())
        _TREES.keep(self, 0, tree)
        return ir.Module(path, block, words, False, self, len(self._line_starts))

    def locate(self, nodes: Iterable[int]) -> dict[int, Location]:
        """The places of nodes."""
        wanted: dict[int, list[int]] = {}
        for node in nodes:
            if node >= 0:
                wanted.setdefault(node // _NUMBERS, []).append(node)
        found: dict[int, Location] = {}
        for portion, inside in sorted(wanted.items()):
            with deep_stack():
                found |= locate(self._lowered(portion), inside)
        return found

    def _lowered(self, portion: int) -> Tree:
        tree = _TREES.kept(self, portion)
        if tree is None:
            if portion:
                tree = self._body(portion - 1)
                lower_body(tree)
            else:
                tree = self._outline()
                lower_outline(tree, self._left_out())
        return tree

    def _left_out(self) -> list[ir.LeftOut]:
        return [_LeftOut(self, number) for number in range(len(self._cuts))]

    def text(self, number: int) -> str:
        """The text of a body."""
        return self._text[self._cuts[number].start : self._cuts[number].end]

    def inside(self, number: int) -> ir.Inside | None:
        """A body; None if libcst does not take it."""
        try:
            with deep_stack():
                tree = self._body(number)
                inside = lower_body(tree)
        except (ParserSyntaxError, RecursionError, ValueError) as error:
            before = bisect_left(self._line_starts, self._cuts[number].start) - 1
            self.refusal = self.refusal or Refusal(error, before)
            return None
        _TREES.keep(self, number + 1, tree)
        return inside

    def _body(self, number: int) -> Tree:
        body = self._cuts[number]
        assert isinstance(body, Body)
        program = body.program(self._text)
        moved = body.start - len(body.header(self._text))
        file = Excerpt(self._line_starts, moved.__add__)
        return Tree(program, parse_module(program), file, (number + 1) * _NUMBERS)

    def _outline(self) -> Tree:
        text, cuts = self._text, self._cuts
        marks = [cut.mark(number) for number, cut in enumerate(cuts)]
        ends = [0, *(cut.end for cut in cuts)]
        starts = [*(cut.start for cut in cuts), len(text)]
        kept = [text[end:start] for end, start in zip(ends, starts, strict=True)]
        pieces = [piece for pair in zip(kept, marks) for piece in pair]
        outline = "".join([*pieces, kept[-1]])
        lengths = map(sum, zip(map(len, kept), map(len, marks)))
        marked = [0, *accumulate(lengths)]

        def offset(generated: int) -> int:
            before = bisect_right(marked, generated) - 1
            return generated - marked[before] + ends[before]

        return Tree(outline, parse_module(outline), Excerpt(self._line_starts, offset))


class _LeftOut(NamedTuple):
    """One of a file's bodies."""

    file: Portions
    number: int

    @property
    def words(self) -> Set[str]:
        return words_of(self.file.text(self.number))

    def code(self) -> str:
        return code_of(self.file.text(self.number))

    def inside(self) -> ir.Inside | None:
        return self.file.inside(self.number)


class _Recent:
    """The trees that were made last, whatever file they are of."""

    MAX_CHARACTERS = 200_000
    """Of their texts: some eight megabytes of nodes, and more text than most files have."""

    def __init__(self) -> None:
        self._trees: OrderedDict[tuple[Portions, int], Tree] = OrderedDict()
        self._characters = 0

    def keep(self, file: Portions, portion: int, tree: Tree) -> None:
        self._trees[file, portion] = tree
        self._characters += len(tree.text)
        while self._characters > self.MAX_CHARACTERS:
            _, old = self._trees.popitem(last=False)
            self._characters -= len(old.text)

    def kept(self, file: Portions, portion: int) -> Tree | None:
        return self._trees.get((file, portion))


_TREES = _Recent()
