"""Each live optimizer as a watch sees it: which of its parameters are the model's."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import torch
from torch import nn

from trainlint.runtime.judge.optimizers import Held, held
from trainlint.runtime.observation import Observation
from trainlint.runtime.watching.dropped import Dropped
from trainlint.runtime.watching.plan import Rotation
from trainlint.runtime.watching.run import Run

_SMALLEST = 64


class Grads(Enum):
    """What the gradients of one optimizer hold."""

    ABSENT = "no backward yet"
    FRESH = "filled"
    CONSUMED = "stepped on"
    CLEARED = "cleared"
    WIPED = "cleared before a step used them"


@dataclass(slots=True)
class OptimizerView:
    """What a watch knows of one optimizer; holds it weakly."""

    ref: weakref.ref[Any]
    own: list[nn.Parameter] = field(default_factory=list)
    """Its parameters that belong to the model and require gradients."""
    smallest: list[nn.Parameter] = field(default_factory=list)
    """The smallest of its own on the CPU, which are cheap to copy."""
    turns: Rotation = field(default_factory=lambda: Rotation(0, 1))
    """Which of its own are looked at next, in a huge model."""
    count: int = 0
    """How many parameters its groups hold."""
    steps: int = 0
    attempts: int = 0
    """Calls of `scaler.step`, skipped steps included."""
    closure: bool = False
    """Its last step was given a closure."""
    grads: Grads = Grads.ABSENT
    wiped: str | None = None
    """The line that cleared gradients which no step had used."""
    last_wiped: str | None = None
    """The last line that did, whatever followed."""
    dropped: Dropped = field(default_factory=Dropped)
    cycles: int = 0
    """Backwards whose gradients were cleared again with no step between."""
    scaled: bool = False
    """Its gradients are multiplied by a GradScaler's factor."""
    scale_line: str | None = None
    sentinel: nn.Parameter | None = None
    """One parameter with a gradient, which stands for all of them."""
    before: tuple[int, int] | None = None
    """The sentinel gradient's stamp before the backward that runs."""
    mark: tuple[int, int] | None = None
    """The sentinel gradient's stamp right after the last step."""
    dirty: str | None = None
    """The backward that added to gradients which a step had already used."""
    empty: int = 0
    """Steps in a row without any gradient."""
    coverage: object = None
    """The state for which coverage was judged last."""
    missing: bytes = b""
    """Which of its own had no gradient, one byte each; empty if all had one."""
    missing_rounds: int = 0
    """Looks in a row at which the same were missing."""
    differs: bool = False
    """After the last step others than those were."""
    unmoved: int = 0
    """Samplings in a row in which nothing moved."""
    at_zero: int = 0
    """How often a scheduler stepped at a rate of 0; no longer counted once it was above."""
    raised: bool = False
    """A scheduler found the rate above 0."""
    samples: list[tuple[nn.Parameter, torch.Tensor]] = field(default_factory=list)
    """Parameters and what they were before the step."""
    offset: int = 0
    """Where the turn of the finite test stands."""


class Optimizers:
    """All optimizers that hold parameters of the model, known by use or given."""

    def __init__(self, run: Run, given: Iterable[Any]) -> None:
        self._run = run
        self._given = [weakref.ref(o) for o in given]
        self._views: dict[int, OptimizerView] = {}
        self._strangers: set[int] = set()

    def __iter__(self) -> Iterator[OptimizerView]:
        return iter(tuple(self._views.values()))

    def __len__(self) -> int:
        return len(self._views)

    def known(self, optimizer: object) -> OptimizerView | None:
        """The view of an optimizer that was met before."""
        return self._views.get(id(optimizer))

    def is_stranger(self, optimizer: object) -> bool:
        """Whether it is known to hold nothing of the model."""
        return id(optimizer) in self._strangers

    def hold_some(self) -> bool:
        """Whether any of them holds parameters of the model, frozen ones included."""
        ids = self._run.view.ids()
        return any(id(p) in ids for o in self.alive() for p in parameters_of(o))

    def dismiss(self, optimizer: Any) -> None:
        """It was given, and turned out to train something else."""
        self._given = [ref for ref in self._given if ref() is not optimizer]
        if self._views.pop(id(optimizer), None) is not None:
            self._strangers.add(id(optimizer))
        self._run.optimized = bool(self._views)

    def view(self, optimizer: Any) -> OptimizerView | None:
        """The view of an optimizer, if it is one of ours."""
        known = self._views.get(id(optimizer))
        if known is not None and known.ref() is optimizer:
            if _count(optimizer) != known.count:
                self.refresh(known)
            return known
        if self._run.view.plan is None:
            return None
        given = any(ref() is optimizer for ref in self._given)
        ids = self._run.view.ids()
        if not given and not any(id(p) in ids for p in parameters_of(optimizer)):
            self._strangers.add(id(optimizer))
            return None
        view = OptimizerView(weakref.ref(optimizer))
        self._views[id(optimizer)] = view
        self._run.optimized = True
        self.refresh(view)
        return view

    def refresh(self, view: OptimizerView) -> None:
        """Read its groups again: parameters came, went, or were frozen."""
        optimizer, plan = view.ref(), self._run.view.plan
        if optimizer is None or plan is None:
            return
        ids = self._run.view.ids()
        parameters = parameters_of(optimizer)
        view.count = len(parameters)
        view.own = [p for p in parameters if id(p) in ids and p.requires_grad]
        view.turns = Rotation(len(view.own), plan.turns)
        on_cpu = [p for p in view.own if p.device.type == "cpu" and p.numel()]
        view.smallest = sorted(on_cpu, key=torch.Tensor.numel)[:_SMALLEST]
        if view.sentinel is not None and not view.sentinel.requires_grad:
            view.sentinel = None
        view.coverage = None

    def refresh_all(self) -> None:
        """What requires gradients, or the model's structure, changed."""
        for view in self:
            self.refresh(view)

    def alive(self) -> list[Any]:
        """The optimizers themselves."""
        return [o for view in self if (o := view.ref()) is not None]

    def held(self, state: Observation) -> list[Held]:
        """What each of them holds of an observed model."""
        return [held(o, state) for o in self.alive()]


def _count(optimizer: Any) -> int:
    return sum(len(group["params"]) for group in optimizer.param_groups)


def parameters_of(optimizer: Any) -> list[Any]:
    """All parameters in an optimizer's groups."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def live_optimizers() -> list[Any]:
    """Every optimizer that exists; walks all objects, so only once something is off."""
    return [
        o
        for o in gc.get_objects()
        if issubclass(type(o), torch.optim.Optimizer) and "param_groups" in o.__dict__
    ]
