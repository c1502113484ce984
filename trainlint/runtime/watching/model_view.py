"""The watched model, held weakly, and what its state was at the last look.

The hot path compares prepared lists (`plan`) with what they were; a whole `Observation` is made
only once something differs (RUNTIME 4.1: the comparison is some 170 times cheaper than PEFT's
`get_model_status`).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import nn

from trainlint.runtime.judge.modes import Modes, Switch
from trainlint.runtime.observation import Observation
from trainlint.runtime.observe import observe
from trainlint.runtime.watching.plan import (
    GLANCE_EVERY,
    Plan,
    Rotation,
    Status,
    copied,
    make_plan,
    part_of,
)
from trainlint.runtime.wrappers import unwrap

CLOSE_STEPS = 3
"""How many first steps are looked at in full."""


def chain(model: nn.Module) -> list[nn.Module]:
    """A model and what it wraps, outermost first."""
    inner = unwrap(model)
    found = [model]
    while found[-1] is not inner:
        for child in found[-1]._modules.values():
            if child is not None and unwrap(child) is inner:
                found.append(child)
                break
        else:
            break
    return found


class ModelView:
    """The model of one open watch; `plan` is None once the model is gone."""

    def __init__(self, model: nn.Module, on_death: Callable[[Any], object]) -> None:
        self.root: weakref.ref[nn.Module] = weakref.ref(model, on_death)
        self.inner: weakref.ref[nn.Module] = weakref.ref(unwrap(model))
        self.parallel = any(
            type(m).__name__ in ("DistributedDataParallel", "DataParallel") for m in chain(model)
        )
        self.shells: list[weakref.ref[nn.Module]] = []
        """Modules that `torch.compile` made around it during the watch."""
        self.plan: Plan | None = None
        self.requires: bytes = b""
        """Which parameters required gradients at the last look."""
        self._known_flags: bytes | None = None
        self._status: Status = []
        self._version = 0
        self._flag_turns = self._turns = self._strides = Rotation(0, 1)

    def prepare(self) -> None:
        """Make the lists anew: at the start, and when the structure changed."""
        state = self.observe()
        plan = None if state is None else make_plan(state)
        self.plan, self._known_flags = plan, None
        if plan is not None:
            self._flag_turns = Rotation(len(plan.flag_dicts), plan.turns)
            self._turns = Rotation(0, plan.turns)
            self._strides = Rotation(0, len(plan.shapes))

    def observe(self) -> Observation | None:
        """Everything about the model now, or None if it is gone."""
        root = self.root()
        return None if root is None else observe(root)

    def called(self, module: nn.Module) -> bool:
        """Whether a hook fired for the model, and not for a copy that took the hook along."""
        if module is self.root() or module is self.inner():
            return True
        return any(module is ref() for ref in self.shells)

    def wraps(self, module: nn.Module) -> bool:
        """Whether this is the model or one of the wrappers around it."""
        root = self.root()
        return root is not None and any(module is shell for shell in chain(root))

    def bypassed_by(self, module: nn.Module) -> bool:
        """Whether this call goes past the DDP wrapper that is watched."""
        return self.parallel and module is self.inner() and module is not self.root()

    def looks(self, steps: int) -> bool:
        """Whether this step reads everything again: any, but for the later ones of huge models."""
        plan = self.plan
        return plan is None or steps <= CLOSE_STEPS or plan.turns == 1

    def glances(self, steps: int) -> bool:
        """Whether this step reads one part of everything, if it does not look at all of it."""
        return steps % GLANCE_EVERY == 0

    def flags(self, steps: int) -> bytes:
        """The flags that matter; read anew after `train()`, else as `looks` says or in turns."""
        plan = self.plan
        if plan is None:
            return b""
        known = self._known_flags
        if known is not None and not self.looks(steps):
            if not self.glances(steps):
                return known
            part = self._flag_turns.part()
            if plan.flags(part) == known[part]:
                return known
        self._known_flags = plan.flags()
        return self._known_flags

    def switched(self) -> None:
        """Some `train()` or `eval()` ran: read the flags again."""
        self._known_flags = None

    def differs(self, steps: int) -> bool:
        """Whether the next part of `requires_grad` and of the adapters' status is not as known."""
        plan = self.plan
        if plan is None or not self.glances(steps):
            return False
        turn = self._turns.index()
        part = part_of(len(plan.parameters), plan.turns, turn)
        if plan.requires(part) != self.requires[part]:
            return True
        count = len(plan.whole)
        part = part_of(count, plan.turns, turn)
        return plan.status(part) != self._status[part] + self._status[count:]

    def reshaped(self, steps: int) -> bool:
        """Whether a module, a parameter or a scaling came or went: all are looked at, or a part."""
        plan = self.plan
        if plan is None:
            return False
        if len(plan.configs) != plan.adapters:
            return True
        if steps > CLOSE_STEPS:
            if len(plan.shapes) > 1 and not self.glances(steps):
                return False
            turn = self._strides.index()
            return plan.shape(turn) != plan.shapes[turn]
        return any(plan.shape(turn) != shape for turn, shape in enumerate(plan.shapes))

    def read(self) -> None:
        """Read `requires_grad` of all parameters and the status of all layers anew."""
        if self.plan is not None:
            self.requires = self.plan.requires()
            self.status()

    def status(self) -> int:
        """A number that changes with disabled, active or merged of any PEFT layer."""
        if self.plan is not None:
            status = self.plan.status()
            if status != self._status:
                self._status = copied(status)
                self._version += 1
        return self._version

    def passes_by(self) -> bool:
        """Whether the adapters are disabled: `with disable_adapter()`."""
        tuners = [] if self.plan is None else self.plan.tuners
        if not tuners:
            return False
        if tuners[-1].get("_adapters_disabled"):
            return True
        return all(
            d.get("_disable_adapters", False) for d in tuners if "_disable_adapters" in d
        ) and any("_disable_adapters" in d for d in tuners)

    def names(self, parameters: Sequence[nn.Parameter]) -> tuple[str, ...]:
        """Dotted names of those that belong to the model."""
        plan = self.plan
        if plan is None:
            return ()
        by_id = {id(p): n for n, p in zip(plan.parameter_names, plan.parameters)}
        return tuple(by_id[id(p)] for p in parameters if id(p) in by_id)

    def ids(self) -> set[int]:
        """Ids of all the model's parameters."""
        return set() if self.plan is None else {id(p) for p in self.plan.parameters}

    def modes(
        self,
        state: Observation,
        keep_eval: Iterable[str],
        keep_train: Iterable[str],
        switches: Iterable[Switch],
    ) -> Modes:
        """What a verdict on flags needs beside them."""
        by_name = {n: i for i, (n, _) in enumerate(state.modules)}
        names = {id(m): n for n, m in state.modules}
        root = self.root()
        if root is not None:
            for shell in chain(root):
                names[id(shell)] = ""
        return Modes(
            frozenset(by_name[n] for n in keep_eval if n in by_name),
            frozenset(by_name[n] for n in keep_train if n in by_name),
            tuple(switches),
            names,
        )
