"""What is remembered of one outermost forward."""

from __future__ import annotations

import weakref
from dataclasses import dataclass

from trainlint.runtime.hooks import Marker


@dataclass(slots=True, weakref_slot=True)
class Forward:
    """One outermost forward; holds no tensor."""

    grad: bool
    """Gradients were on when it began."""
    flags: bytes
    """The training flags that matter, as `ModelView.flags` read them."""
    where: str | None
    """The user's line that called it, as `file:line`."""
    step: int
    """Optimizer steps before it."""
    root_train: bool
    disabled: bool = False
    """The adapters were passed by: a reference pass."""
    has_graph: bool = False
    consumed: bool = False
    """A backward used it."""
    function: str = ""
    """The user's function that called it."""
    wanted: bool = False
    """An input requires grad: the backward may be for that, and train nothing."""
    bypassed: bool = False
    """It went past the DDP wrapper."""
    graph: weakref.ref[Marker] | None = None

    @property
    def alive(self) -> bool:
        """Whether its graph still exists."""
        return self.graph is not None and self.graph() is not None
