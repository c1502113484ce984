"""What becomes of objects that leave the code that is seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainlint.flow import ir
from trainlint.flow.frames import Frame
from trainlint.flow.state import (
    LibraryObject,
    ListObject,
    ModuleObject,
    OptimizerObject,
    ParametersObject,
    State,
)
from trainlint.flow.values import (
    Ref,
    Tensor,
    TupleValue,
    Value,
)

if TYPE_CHECKING:
    from trainlint.flow.interpret import Interpreter


class Escapes:
    """What becomes of objects that leave the code that is seen."""

    def __init__(self, interpreter: Interpreter) -> None:
        self.run = interpreter

    def escape(self, value: Value, state: State, depth: int = 0, *, dropped: bool = False) -> None:
        """A value goes where the analysis does not: a backward may follow there."""
        match value:
            case Tensor():
                self.run.training.escaped(value, dropped=dropped)
            case TupleValue(items=items):
                for item in items:
                    self.escape(item, state, depth + 1, dropped=dropped)
            case Ref(oid=oid) if depth < 4:
                thing = state.heap.get(oid)
                if isinstance(thing, ListObject):
                    for item in (*(thing.items or ()), *thing.summary):
                        if item != value:
                            self.escape(item, state, depth + 1, dropped=dropped)
            case _:
                pass

    def havoc(self, value: Value, state: State, depth: int = 0) -> None:
        """Something unknown got the value: what was known of it is not known any more."""
        match value:
            case TupleValue(items=items):
                for item in items:
                    self.havoc(item, state, depth + 1)
            case Ref(oid=oid) if depth < 3:
                thing = state.heap.get(oid)
                match thing:
                    case ModuleObject(loss=None):
                        self.run.models.forget_mode(oid, state)
                    case OptimizerObject():
                        state.update(oid, escaped=True)
                        self.run.training.clear_unknown(state, [oid])
                    case ListObject():
                        for item in thing.items or ():
                            self.havoc(item, state, depth + 1)
                    case ParametersObject():
                        pass
                    case LibraryObject(role="loader" | "distributed_sampler"):
                        self.run.epochs.manages(value, state)
                    case _:
                        for _, held in state.attrs.of(oid):
                            self.havoc(held, state, depth + 1)
            case _:
                pass

    def escape_arguments(self, call: ir.Call, state: State, frame: Frame) -> None:
        """`runner.optimize(loss)` may run backward on what it is given."""
        for argument in call.args:
            if isinstance(argument.value, ir.Name):
                value = self.run.scopes.load_name(argument.value.id, state, frame)
                self.escape(value, state)
                if isinstance(value, Tensor):
                    self.run.training.perhaps_backward(value, state)
