"""What a loop does to every part of a module, it does to the module.

`for m in model.modules(): m.requires_grad_(False)` freezes the model: all of it, while the loop
itself sees one part that stands for all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainlint.core.facts import Share, TrainableFact
from trainlint.flow import ir
from trainlint.flow.state import LibraryObject, State
from trainlint.flow.values import ObjectId, Ref, Value
from trainlint.flow.walk import walk

if TYPE_CHECKING:
    from trainlint.flow.interpret import Interpreter

_CHOOSES = (ir.If, ir.IfExp, ir.BoolOp, ir.While, ir.Try, ir.Jump, ir.Generator, ir.Comprehension)


class PartWalk:
    """A loop over all parts of a module, whose body treats each of them alike."""

    def __init__(self, run: Interpreter, owner: ObjectId, part: ObjectId, state: State) -> None:
        self.run = run
        self.owner = owner
        self.part = part
        self.before = self._trainable(state)

    def _trainable(self, state: State) -> TrainableFact | None:
        module = state.module(self.part)
        return module.trainable if module is not None else None

    def done(self, states: list[State]) -> None:
        """After the loop: what holds of every part now holds of the whole."""
        for state in states:
            after = self._trainable(state)
            if after is None or after.origin is None:
                continue
            if self.before is not None and after.origin == self.before.origin:
                continue
            if after.share in (Share.NONE, Share.ALL):
                on = after.share is Share.ALL
                whole = state.params_partial == 0
                self.run.models.set_trainable(self.owner, on, whole, state, after.origin)


def part_walk(run: Interpreter, s: ir.For, iterable: Value, state: State) -> PartWalk | None:
    """The walk that a loop is, None if it leaves something out or may."""
    thing = state.heap.get(iterable.oid) if isinstance(iterable, Ref) else None
    if not isinstance(thing, LibraryObject) or thing.role != "modules":
        return None
    if not isinstance(s.iter, ir.Call) or _method(s.iter) != thing.path:
        return None  # through `islice`, `sample` and their like it is some of the parts
    part = thing.links[0][1]
    if not isinstance(part, Ref) or not isinstance(part.oid, tuple):
        return None
    owner: ObjectId = part.oid[1]
    if not thing.path.endswith("modules") and not _all_in_children(owner, state):
        return None
    return PartWalk(run, owner, part.oid, state) if _alike(s) else None


def _all_in_children(owner: ObjectId, state: State) -> bool:
    """Whether a module has no parameters beside its children's: a wrapper has none."""
    module = state.module(owner)
    if module is None:
        return False
    if module.wraps is not None:
        return True
    return module.cls is not None and not module.cls.has_own_parameters


def _alike(s: ir.For) -> bool:
    """Whether the body asks nothing of a part and hands it to nobody who might."""
    for node in walk(s.body):
        if isinstance(node, _CHOOSES):
            return False
        if isinstance(node, ir.Call) and not (_is_parameters(node) or _is_plain(node)):
            return False
    return True


def _is_parameters(call: ir.Call) -> bool:
    """Not `parameters(recurse=False)`, which leaves out those of the parts below."""
    return _method(call).endswith("parameters") and not call.args


def _is_plain(call: ir.Call) -> bool:
    """A method with nothing or a constant: the part itself goes nowhere."""
    constants = all(isinstance(argument.value, ir.Literal) for argument in call.args)
    return constants and bool(_method(call)) and not _method(call).endswith("parameters")


def _method(call: ir.Call) -> str:
    return call.func.attr if isinstance(call.func, ir.Attribute) else ""
