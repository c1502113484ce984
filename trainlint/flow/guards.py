"""Which expressions of a function stand under a test of the mode."""

from __future__ import annotations

import re
from collections.abc import Iterator

from trainlint.core import late
from trainlint.flow import ir
from trainlint.flow.reading import leaves, mentioned
from trainlint.flow.walk import below

_MODE_WORD = late.pattern(r"train|eval|infer|test|deterministic", re.IGNORECASE)


def asks_for_mode(test: ir.Expr) -> bool:
    """`self.training`, `not is_train`, `mode == "eval"`."""
    return any(_MODE_WORD.search(word) for word in mentioned(test))


def calls_in(block: ir.Block, guarded: bool = False) -> Iterator[tuple[ir.Call, bool]]:
    """Every call below a block, and whether a test of the mode decides over it."""
    for statement in block:
        yield from _calls(statement, guarded)
        if isinstance(statement, ir.If) and asks_for_mode(statement.test):
            # What follows a branch that leaves stands under the branch's test.
            guarded |= leaves(statement.body) or leaves(statement.orelse)


def _calls(node: ir.Node, guarded: bool) -> Iterator[tuple[ir.Call, bool]]:
    match node:
        case ir.If(test=test, body=body, orelse=orelse):
            inner = guarded or asks_for_mode(test)
            yield from _calls(test, guarded)
            yield from calls_in(body, inner)
            yield from calls_in(orelse, inner)
        case ir.For(body=body) | ir.While(body=body) | ir.With(body=body):
            yield from _others(node, guarded, body)
            yield from calls_in(body, guarded)
        case ir.Try(body=body, handlers=handlers, orelse=orelse, final=final):
            for block in (body, *(h.body for h in handlers), orelse, final):
                yield from calls_in(block, guarded)
        case ir.Function(body=body):
            yield from calls_in(body, guarded)
        case ir.Lambda(function=function):
            yield from calls_in(function.body, guarded)
        case ir.IfExp(test=test, body=yes, orelse=no):
            inner = guarded or asks_for_mode(test)
            yield from _calls(test, guarded)
            yield from _calls(yes, inner)
            yield from _calls(no, inner)
        case ir.BoolOp(values=values):
            for value in values:
                yield from _calls(value, guarded)
                guarded |= asks_for_mode(value)
        case _:
            if isinstance(node, ir.Call):
                yield node, guarded
            for part in below(node):
                yield from _calls(part, guarded)


def _others(node: ir.Node, guarded: bool, body: ir.Block) -> Iterator[tuple[ir.Call, bool]]:
    inside = {id(statement) for statement in body}
    for part in below(node):
        if id(part) not in inside:
            yield from _calls(part, guarded)
