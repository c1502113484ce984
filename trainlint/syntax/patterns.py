"""The patterns of `match` as tests and assignments on the subject."""

from __future__ import annotations

from collections.abc import Iterable

import libcst as cst

from trainlint.flow import ir
from trainlint.syntax.expressions import ExpressionLowering

# `case int(x)` binds the subject itself for these classes, not an attribute of it.
_SELF_MATCHING = frozenset(
    (
        "bool",
        "bytearray",
        "bytes",
        "dict",
        "float",
        "frozenset",
        "int",
        "list",
        "set",
        "str",
        "tuple",
    )
)


class PatternLowering:
    """Lowers one pattern: `tests` must all hold for it to match, `captures` are what it binds.

    The subject is read afresh for each part, so it must be cheap and free of effects: a name, or
    an attribute or item of one.
    """

    def __init__(self, expressions: ExpressionLowering) -> None:
        self._expressions = expressions
        self.tests: list[ir.Expr] = []
        self.captures: list[ir.Statement] = []

    def lower(self, pattern: cst.CSTNode, subject: ir.Expr) -> None:
        """Add what it takes for `subject` to match `pattern`; unknown patterns always match."""
        if isinstance(pattern, cst.MatchAs):
            self._as(pattern, subject)
        elif isinstance(pattern, cst.MatchValue):
            self._compare(subject, "==", self._expressions.expr(pattern.value), pattern)
        elif isinstance(pattern, cst.MatchSingleton):
            self._compare(subject, "is", self._expressions.expr(pattern.value), pattern)
        elif isinstance(pattern, cst.MatchOr):
            self._or(pattern, subject)
        elif isinstance(pattern, cst.MatchClass):
            self._class(pattern, subject)
        elif isinstance(pattern, cst.MatchSequence):
            self._sequence(pattern, subject)
        elif isinstance(pattern, cst.MatchMapping):
            self._mapping(pattern, subject)

    def _compare(self, left: ir.Expr, op: str, right: ir.Expr, node: cst.CSTNode) -> None:
        self.tests.append(ir.Compare(left, op, right, self._expressions.number(node)))

    def _capture(self, name: cst.Name, value: ir.Expr) -> None:
        target = self._expressions.target(name)
        self.captures.append(ir.Assign((target,), value, target.node))

    def _as(self, pattern: cst.MatchAs, subject: ir.Expr) -> None:
        if pattern.pattern is not None:
            self.lower(pattern.pattern, subject)
        if pattern.name is not None:
            self._capture(pattern.name, subject)

    def _or(self, pattern: cst.MatchOr, subject: ir.Expr) -> None:
        alternatives: list[ir.Expr] = []
        always = False
        for element in pattern.patterns:
            alternative = PatternLowering(self._expressions)
            alternative.lower(element.pattern, subject)
            self.captures += alternative.captures
            test = alternative.test
            if test is None:
                always = True
            else:
                alternatives.append(test)
        if not always:
            self.tests.append(
                ir.BoolOp("or", tuple(alternatives), self._expressions.number(pattern))
            )

    def _class(self, pattern: cst.MatchClass, subject: ir.Expr) -> None:
        expressions = self._expressions
        kind = expressions.expr(pattern.cls)
        arguments = (ir.Argument(subject), ir.Argument(kind))
        index = expressions.number(pattern)
        self.tests.append(ir.Call(ir.Name("isinstance"), arguments, index))
        itself = isinstance(kind, ir.Name) and kind.id in _SELF_MATCHING
        for position, element in enumerate(pattern.patterns):
            part = subject if itself else ir.Attribute(subject, f"${position}")
            self.lower(element.value, part)
        for keyword in pattern.kwds:
            self.lower(keyword.pattern, ir.Attribute(subject, keyword.key.value))

    def _sequence(self, pattern: cst.MatchSequence, subject: ir.Expr) -> None:
        elements = pattern.patterns
        stars = [at for at, each in enumerate(elements) if isinstance(each, cst.MatchStar)]
        size = ir.Call(ir.Name("len"), (ir.Argument(subject),))
        wanted = ir.Literal(len(elements) - len(stars))
        self._compare(size, ">=" if stars else "==", wanted, pattern)
        for position, element in enumerate(elements):
            if isinstance(element, cst.MatchSequenceElement):
                after_star = bool(stars) and position > stars[0]
                place = position - len(elements) if after_star else position
                self.lower(element.value, ir.Subscript(subject, ir.Literal(place)))
            elif element.name is not None:
                end = position + 1 - len(elements)
                self._capture(element.name, _slice(subject, position, end or None))

    def _mapping(self, pattern: cst.MatchMapping, subject: ir.Expr) -> None:
        for element in pattern.elements:
            key = self._expressions.expr(element.key)
            self._compare(key, "in", subject, element)
            self.lower(element.pattern, ir.Subscript(subject, key))
        if pattern.rest is not None:
            self._capture(pattern.rest, ir.Call(ir.Name("dict"), (ir.Argument(subject),)))

    @property
    def test(self) -> ir.Expr | None:
        """The whole pattern's test; None if it always matches."""
        return conjunction(self.tests)


def conjunction(tests: Iterable[ir.Expr]) -> ir.Expr | None:
    """`and` over the tests there are."""
    values = tuple(tests)
    if len(values) > 1:
        return ir.BoolOp("and", values, values[0].node)
    return values[0] if values else None


def _slice(subject: ir.Expr, start: int, end: int | None) -> ir.Expr:
    bounds = (ir.Literal(start), ir.Literal(end))
    return ir.Subscript(subject, ir.Sequence(ir.SequenceKind.SLICE, bounds))
