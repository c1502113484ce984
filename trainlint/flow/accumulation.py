"""`with accelerator.accumulate(model)`: what is put off there, and what is not.

A prepared optimizer leaves out its `step()` and `zero_grad()` between the micro-batches.
`model.zero_grad()` is the module's own: it clears what the micro-batches before have gathered.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from trainlint.core.events import GradientsCleared
from trainlint.core.facts import Gradients
from trainlint.flow import ir
from trainlint.flow.frames import Frame
from trainlint.flow.state import ContextObject, LibraryObject, State
from trainlint.flow.values import ObjectId, Ref, Value, const

if TYPE_CHECKING:
    from trainlint.flow.interpret import Interpreter

STEPS = "gradient_accumulation_steps"
ONE = const(1)


class Accumulation:
    """The blocks of `accumulate` that run now."""

    def __init__(self, interpreter: Interpreter) -> None:
        self.run = interpreter
        self._blocks: list[int] = []
        """For each block, the number of tests around it."""

    def enter(self, context: Value, state: State) -> bool:
        """Note a block of an accelerator that was told to accumulate; False if it was not."""
        thing = state.heap.get(context.oid) if isinstance(context, Ref) else None
        if not isinstance(thing, ContextObject):
            return False
        accelerator = state.heap.get(thing.target)
        if not isinstance(accelerator, LibraryObject):
            return False
        steps = accelerator.link(STEPS)
        if steps is None or steps == ONE:
            return False
        self._blocks.append(len(self.run.tests))
        return True

    def leave(self) -> None:
        """The innermost block ends."""
        self._blocks.pop()

    def cleared(
        self, optimizers: list[ObjectId], state: State, frame: Frame, node: ir.Node
    ) -> None:
        """A model's `zero_grad()`: under a test of its own it may wait for the step."""
        if not self._blocks or len(self.run.tests) != self._blocks[-1] or not self.run.loops:
            return
        for oid in optimizers:
            facts = self.run.training.facts(oid, state)
            event = GradientsCleared(
                site=self.run.site(frame, node),
                when=self.run.when,
                optimizer=replace(facts, gradients=Gradients.FRESH),
                between_micro_batches=True,
            )
            self.run.recorder.raise_event(event, self.run.rounds, state.decisions)
