"""DeepSpeed's engine: the model it gets, with `backward` and `step` of its own.

`engine, optimizer, loader, scheduler = deepspeed.initialize(model=..., optimizer=...)`. The engine
passes modes and attributes on to the model. `engine.step()` steps and clears where enough
micro-batches have been gathered, and does nothing before, so that none of the rules on their order
has anything to ask of it. From DeepSpeed's own documentation: the library is not run here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from trainlint.core.facts import Gradients
from trainlint.flow.adapters import Place
from trainlint.flow.arguments import Arguments
from trainlint.flow.state import OptimizerObject
from trainlint.flow.values import NONE, ObjectId, Ref, TupleValue, Value

if TYPE_CHECKING:
    from trainlint.flow.frames import Evaluated
    from trainlint.flow.interpret import Interpreter

ENGINE = "engine"
"""The kind of wrapper that it is."""

_OPTIMIZER = "optimizer"


class Engines:
    """What `deepspeed.initialize` returns, and its methods."""

    def __init__(self, interpreter: Interpreter) -> None:
        self.run = interpreter

    def initialize(self, arguments: Arguments, place: Place) -> Value:
        """The engine, its optimizer, the loader and the scheduler."""
        state, frame, node = place.state, place.frame, place.node
        model = arguments.get("model", 1)
        optimizer = self._optimizer(arguments.get(_OPTIMIZER, 2), place)
        rest = self.run.fresh(state, frame, node, "loader"), arguments.get("lr_scheduler", 6)
        if not isinstance(model, Ref):
            engine = self.run.fresh(state, frame, node, ENGINE)
        else:
            engine = self.run.library.wrap(model, ENGINE, "module", state, frame, node)
            state.attrs[engine.oid, _OPTIMIZER] = optimizer
        return TupleValue((engine, optimizer, rest[0], rest[1] or NONE))

    def _optimizer(self, given: Value | None, place: Place) -> Ref:
        """The one it gets, or one that DeepSpeed makes of the parameters and its settings."""
        state = place.state
        known = state.optimizer(given.oid) if isinstance(given, Ref) else None
        if isinstance(given, Ref) and known is not None:
            state.heap[given.oid] = replace(known, managed=True)
            return given
        made = self.run.fresh(state, place.frame, place.node, _OPTIMIZER)
        state.heap[made.oid] = OptimizerObject(managed=True)
        return made

    def method(
        self, oid: ObjectId, name: str, arguments: Arguments, place: Place
    ) -> Evaluated | None:
        """A method of an engine that a model has not; None if the module is no engine."""
        state, module = place.state, place.state.module(oid)
        if module is None or module.wrapper != ENGINE:
            return None
        optimizer = state.attrs.get((oid, _OPTIMIZER))
        if not isinstance(optimizer, Ref):
            return None
        match name:
            case "backward" if arguments.values:
                loss = arguments.values[0]
                self.run.training.backward(loss, "loss", state, place.frame, place.node)
                return [(state, loss)]
            case "step":
                self.run.training.step(optimizer.oid, state, place.frame, place.node)
                if state.optimizer(optimizer.oid) is not None:
                    state.update(optimizer.oid, gradients=Gradients.CLEARED)
                return [(state, NONE)]
            case "save_checkpoint" | "load_checkpoint" | "save_16bit_model":
                return [(state, self.run.fresh(state, place.frame, place.node, "result"))]
            case _:
                return None
