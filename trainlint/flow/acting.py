"""Loops that act in an environment: what a network says there is done, not measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainlint.core.events import Evidence
from trainlint.flow import ir

if TYPE_CHECKING:
    from trainlint.flow.frames import Loop
    from trainlint.flow.training import Seen

_OBSERVED = 3
"""How much an environment's step gives at least: what is seen, the reward, whether it is over."""


class Acting:
    """The loops around `observation, reward, done, info = environment.step(action)`."""

    def __init__(self) -> None:
        self._loops: set[int] = set()

    def assigned(self, s: ir.Assign, loops: list[Loop]) -> None:
        """See whether a statement steps an environment."""
        match s:
            case ir.Assign(
                targets=(ir.Sequence(items=items),),
                value=ir.Call(func=ir.Attribute(attr="step"), args=(_, *_)),
            ) if len(items) >= _OBSERVED:
                self._loops.update(loop.node for loop in loops)
            case _:
                pass

    def chose_an_action(self, seen: Seen) -> bool:
        """Whether nothing but the choice of an action was taken for a metric."""
        if seen.event.evidence - {Evidence.GRAD_OFF} != {Evidence.METRICS}:
            return False
        return not self._loops.isdisjoint(seen.loops)
