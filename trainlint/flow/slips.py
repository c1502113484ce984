"""One cause is told once: what a told slip was to set is unknown from there on.

`model.eval` without its parentheses, `torch.no_grad()` on a line of its own,
`backbone.requires_grad = False`: the rule about the line tells what is wrong. That the evaluation
after it runs in train mode, with gradients, or that the backbone piles up gradients, follows from
it and would go away with it. So once a rule has spoken, what the line was meant to set is taken as
not known, and whoever judges by it is silent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainlint.core.facts import ModeFact, TrainableFact
from trainlint.flow.frames import Frame
from trainlint.flow.state import State
from trainlint.flow.values import ObjectId, Ref, Tensor, Value

if TYPE_CHECKING:
    from trainlint.flow.interpret import Interpreter


class Slips:
    """Forgets what a line that has no effect was to set."""

    def __init__(self, interpreter: Interpreter) -> None:
        self.run = interpreter
        self._recording: set[object] = set()

    def not_called(self, owner: Value, method: str, state: State) -> None:
        """`model.eval`, `optimizer.step`, `loss.backward` as a line."""
        training = self.run.training
        if isinstance(owner, Tensor) and method == "backward":
            training.perhaps_backward(owner, state)
        if not isinstance(owner, Ref):
            return
        module, optimizer = state.module(owner.oid), state.optimizer(owner.oid)
        match method:
            case "train" | "eval" if module is not None:
                for part in self.run.models.reach(owner.oid, state):
                    state.update(part, flag=ModeFact())
            case "zero_grad" if module is not None:
                training.clear_unknown(state, training.of_model(owner.oid, state))
            case "zero_grad" if optimizer is not None:
                training.clear_unknown(state, [owner.oid])
            case "step" if owner.oid in training.records:
                training.records[owner.oid].by_hand = True
            case _:
                pass

    def not_entered(self, frame: Frame) -> None:
        """`torch.no_grad()` as a line: meant for what the function does from there on."""
        self._recording.add(frame.id)

    def records_unmeant(self, frame: Frame | None) -> bool:
        """Whether a forward there records a graph only because of such a line."""
        if not self._recording:
            return False
        while frame is not None:
            if frame.id in self._recording:
                return True
            frame = frame.caller
        return False

    def not_frozen(self, oid: ObjectId, state: State) -> None:
        """`module.requires_grad = False`."""
        for part in self.run.models.reach(oid, state):
            state.update(part, trainable=TrainableFact())
