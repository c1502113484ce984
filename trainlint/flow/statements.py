"""Which functions are worth running for what a single statement of theirs shows.

Such are a flag that is set, a method that is named and not called, a context that is dropped or
not called, and an adapter model that is merged and thrown away: wherever a function shows one, it
has a statement of that form.
"""

from __future__ import annotations

import re

from trainlint.core.late import pattern
from trainlint.flow import ir
from trainlint.flow.walk import statements_of
from trainlint.libraries.words import DROPPED, FLAGS, MISSPELLINGS, STATEMENTS

_SET = FLAGS | MISSPELLINGS
_NAMED = STATEMENTS - _SET | {"requires_grad_"}
_FLAG_SET = pattern(
    rf"\.(?:{'|'.join(sorted(_SET))})\b[^=(\n]{{0,200}}="
    r"|\bsetattr\b|^[ \t]*\)[^=\n]*=",
    re.MULTILINE,
)
"""The text of what sets a flag, of a comparison with one, and some other code."""


def may_tell(function: ir.Function) -> bool:
    """Whether a statement of the function may be wrong by itself."""
    if function.words.isdisjoint(_NAMED) and not (
        function.words & _SET and function.may_show(_FLAG_SET)
    ):
        return False
    return any(map(_may_be_wrong, statements_of(function.body)))


def _may_be_wrong(statement: ir.Node) -> bool:
    match statement:
        case ir.Assign(targets=targets):
            return any(map(_sets_flag, targets))
        case ir.With(context=context):
            return not isinstance(context, ir.Call)
        case ir.Expression(value=ir.Attribute() | ir.Compare()):
            return True
        case ir.Expression(value=ir.Call(func=ir.Name(id=name) | ir.Attribute(attr=name))):
            return name in DROPPED or name == "setattr"
        case ir.Expression(value=ir.Call()):
            return True
        case _:
            return False


def _sets_flag(target: ir.Expr) -> bool:
    match target:
        case ir.Attribute(attr=attr):
            return attr in _SET
        case ir.Sequence(items=items):
            return any(map(_sets_flag, items))
        case _:
            return False
