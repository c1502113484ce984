"""Micro-batches whose gradients are cleared before the step that should have used them.

A backward whose gradients nothing uses is no defect by itself: SAM climbs on the first of two,
PCGrad and gradients per sample take them aside, a probe only measures. A loss divided by the number
of backwards between two steps says that all of them were meant to count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

_FEWEST = 3
"""Backwards between two steps: SAM has two."""
_ROUNDS = 2
"""So many steps in a row show it."""
_DEEP = 4
"""A GradScaler's factor and a cast stand between the loss given and the division."""


@dataclass(slots=True)
class Dropped:
    """What one optimizer's backwards since its last step came to."""

    wiped: int = 0
    """Backwards whose gradients were cleared since the last step."""
    divided: bool = True
    """All losses since were divided by the same number."""
    by: float = 0.0
    """That number."""
    filled: tuple[int, int] | None = None
    """The sentinel's gradient right after the last backward: address and version."""
    writes: int = 0
    """Writes to the gradients by clips and scalers since then."""
    rounds: int = 0
    """Steps in a row that used the last of the backwards only."""

    def backward(self, losses: Sequence[torch.Tensor]) -> None:
        """A backward follows one whose gradients were cleared: is its loss a part."""
        by = divisor(losses[0]) if len(losses) == 1 else 0.0
        self.divided = self.divided and by >= _FEWEST and by == (self.by or by)
        self.by = by

    def step(self, now: tuple[int, int] | None) -> bool:
        """A step uses the gradients as they are `now`: were others dropped that should be there."""
        whole = self.divided and self.wiped + 1 >= _FEWEST and self.by == self.wiped + 1
        self.rounds = self.rounds + 1 if whole and self._untouched(now) else 0
        self.wiped, self.divided, self.by, self.writes = 0, True, 0.0, 0
        return self.rounds == _ROUNDS

    def _untouched(self, now: tuple[int, int] | None) -> bool:
        """Whether the gradients are those of the last backward, and not put there by hand."""
        if now is None or self.filled is None:
            return False
        return now[0] == self.filled[0] and now[1] <= self.filled[1] + self.writes


def divisor(loss: torch.Tensor) -> float:
    """The plain number that a loss was divided by, or 0."""
    node: Any = loss.grad_fn
    for _ in range(_DEEP):
        kind = "" if node is None else node.name()
        if kind not in ("MulBackward0", "DivBackward0", "ToCopyBackward0"):
            return 0.0
        other = None if kind == "ToCopyBackward0" else node._saved_other
        if kind == "DivBackward0":
            return _number(other)
        part = _number(other)
        if 0.0 < part < 1.0:
            return float(round(1.0 / part))
        above = [n for n, _ in node.next_functions if n is not None]
        node = above[0] if len(above) == 1 else None
    return 0.0


def _number(value: object) -> float:
    """A plain number as autograd keeps it; reading any other tensor may wait for a device."""
    if isinstance(value, torch.Tensor) and value.dim() == 0 and value.device.type == "cpu":
        return float(value)
    return 0.0
