"""Gradients at a step: absent, missing in part, not finite."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from trainlint.core.diagnostic import Severity
from trainlint.runtime import hooks
from trainlint.runtime.judge.checkpoint import checkpoint_cut
from trainlint.runtime.judge.verdict import Verdict
from trainlint.runtime.report import grouped
from trainlint.runtime.watching.model_view import CLOSE_STEPS
from trainlint.runtime.watching.optimizers import Grads, Optimizers, OptimizerView
from trainlint.runtime.watching.run import Run
from trainlint.runtime.wrappers import unwrap, walk

_FEW = 256
"""Up to so many gradients are tested for being finite at every step."""
_SUMMED = 2
"""Up to so many are summed one by one rather than reduced together."""
_DIAGNOSED_AT_ONCE = 64
_DIAGNOSED = 200
"""How many modules may be watched, in all, for having run."""


class GradientJudge:
    """What arrived of the gradients that a step is about to use."""

    def __init__(self, run: Run, optimizers: Optimizers) -> None:
        self._run, self._optimizers = run, optimizers
        self._diagnosis = Diagnosis(run)

    def close(self) -> None:
        """Remove the diagnosis's hooks."""
        self._diagnosis.end()

    def after_backward(self) -> None:
        """Do those that had no gradient get one, whatever is left of it at the step."""
        self._diagnosis.after_backward()

    # --- none at all --------------------------------------------------------------------------

    def empty(self, view: OptimizerView) -> list[Verdict]:
        """A step on no gradient at all: why."""
        run = self._run
        names = run.view.names(view.own)
        view.empty += 1
        if view.grads is Grads.WIPED and not (view.empty > 1 and run.forwards):
            text = "the gradients were cleared between backward and step: the step does nothing"
            related = (f"{view.wiped}: cleared here",) if view.wiped else ()
            advice = "call `zero_grad()` before backward or after step"
            return [Verdict("TL206", text, related=related, help=advice, cause="wipe")]
        if run.forwards and (not run.since_step or view.grads is Grads.WIPED):
            text = "the optimizer steps before the backward that fills its gradients"
            advice = "call `loss.backward()` before `optimizer.step()`"
            return [Verdict("TL207", text, help=advice, cause="order")]
        if not run.since_step:
            return self._never_filled(view)
        if run.cut is not None:
            return [checkpoint_cut(run.cut, names)]
        if run.forwards:
            text = "backward ran on a loss that was cut from the model's graph: no gradient arrived"
            return [Verdict("TL212", text, (), names, cause="cut")]
        if len(self._optimizers) > 1 and view.empty < CLOSE_STEPS:
            return []
        text = f"none of the optimizer's parameters got a gradient: {grouped(names)}"
        return [Verdict("TL701", text, (), names, cause="none")]

    def _never_filled(self, view: OptimizerView) -> list[Verdict]:
        """Step after step no backward reaches the model: one that trains another, a copy of it."""
        if view.empty < CLOSE_STEPS or len(self._optimizers) > 1 or self._run.fused:
            return []
        text = f"{view.empty} steps in a row, and no backward reached the optimizer's parameters"
        advice = "is the loss computed with this model, or with a copy of it?"
        return [Verdict("TL207", text, help=advice, cause="never filled")]

    # --- some missing -------------------------------------------------------------------------

    def differ(self, view: OptimizerView) -> bool:
        """Whether, in the next part, other gradients are absent than known: look closer then."""
        if view.missing_rounds == 1:
            return True  # a diagnosis runs: the next step tells
        model, steps = self._run.view, self._run.steps
        if model.looks(steps) or not model.glances(steps):
            return False
        part = view.turns.part()
        absent = absent_in(view.own[part])
        return absent != view.missing[part] if view.missing else any(absent)

    def missing(self, view: OptimizerView, absent: bytes) -> list[Verdict]:
        """Some parameters got no gradient in this step; `absent` has one byte for each own."""
        if not any(absent):
            view.missing, view.missing_rounds = b"", 0
            return []
        if absent != view.missing:
            view.missing, view.missing_rounds = absent, 1
        else:
            view.missing_rounds += 1
        names = self._run.view.names([p for p, none in zip(view.own, absent) if none])
        if self._run.cut is not None:
            return [checkpoint_cut(self._run.cut, names)]
        if view.missing_rounds == 1:
            self._diagnosis.begin(names)
        if view.missing_rounds != 2 or not self._diagnosis.runs:
            return []
        return self._diagnosis.verdicts(names)

    # --- not finite ---------------------------------------------------------------------------

    def finite(self, view: OptimizerView) -> list[Verdict]:
        """NaN or infinity about to reach the parameters; never synchronises a GPU."""
        plain = [g for p in self._turn(view) if (g := p.grad) is not None and _readable(g)]
        if not plain:
            return []
        with torch.no_grad():
            if _all_finite(plain):
                return []
            bad = [p for p in view.own if p.grad is not None and not bool(p.grad.isfinite().all())]
        if not bad:
            return []
        names = self._run.view.names(bad)
        universe = self._run.view.names(view.own)
        text = f"NaN or infinity in the gradients of {grouped(names, universe)}"
        return [Verdict("TL702", text, (), names, cause="finite")]

    def _turn(self, view: OptimizerView) -> list[nn.Parameter]:
        """The parameters whose gradients are tested at this step: all, or the first and another.

        What is not finite in the loss, in a weight or on the way back through a layer reaches the
        gradient of the first parameter, which lies deepest, in this step or the next, and
        stays there: the weights are not finite either from then on.
        """
        own, steps = view.own, view.steps
        if len(own) <= _FEW or steps < CLOSE_STEPS:
            return own
        model = self._run.view
        if not (model.looks(steps) or model.glances(steps)):
            return []
        view.offset = (view.offset + 1) % len(own)
        return [own[0], own[view.offset]]


def absent_in(parameters: Sequence[nn.Parameter]) -> bytes:
    """One byte for each: whether it has no gradient."""
    return bytes([p.grad is None for p in parameters])


def _readable(grad: torch.Tensor) -> bool:
    """A plain tensor on the CPU: reading any other may wait for a device, or for other ranks."""
    return type(grad) is torch.Tensor and not grad.is_sparse and grad.device.type == "cpu"


def _all_finite(grads: list[torch.Tensor]) -> bool:
    if len(grads) <= _SUMMED:
        return all(math.isfinite(float(g.sum())) for g in grads)
    return bool(torch.isfinite(torch.stack(torch._foreach_norm(grads))).all())


class Diagnosis:
    """Watches the owners of parameters without gradient for one step: did they run at all."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._seen: dict[str, bool] | None = None
        """By module: whether it ran with gradients on; absent if it did not run."""
        self._handles: list[Any] = []
        self._names: Sequence[str] = ()
        self._arrived: set[str] = set()
        """Those that a backward gave a gradient after all: the user took it away (DINO)."""
        self._count = 0

    @property
    def runs(self) -> bool:
        """Whether a diagnosis was begun."""
        return self._seen is not None

    def begin(self, names: Sequence[str]) -> None:
        """Hook the modules that own these parameters."""
        root = self._run.view.root()
        if root is None or self._count > _DIAGNOSED:
            return
        self.end()
        modules = dict(walk(unwrap(root)))
        seen: dict[str, bool] = {}
        self._seen = seen
        self._names, self._arrived = names, set()
        for owner in list(dict.fromkeys(_owner(name, modules) for name in names)):
            if _is_container(modules[owner]) or len(self._handles) >= _DIAGNOSED_AT_ONCE:
                continue
            self._count += 1
            ran = hooks.Ran(seen, owner)
            self._handles.append(modules[owner].register_forward_pre_hook(ran))

    def after_backward(self) -> None:
        """A backward is over: whose gradient is there now."""
        plan = self._run.view.plan
        if self._seen is None or plan is None:
            return
        wanted = set(self._names)
        self._arrived.update(
            n
            for n, p in zip(plan.parameter_names, plan.parameters)
            if n in wanted and p.grad is not None
        )

    def end(self) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._seen = None

    def verdicts(self, names: Sequence[str]) -> list[Verdict]:
        """Why these got no gradient in two steps."""
        root, seen = self._run.view.root(), self._seen or {}
        self.end()
        if root is None:
            return []
        modules = dict(walk(unwrap(root)))
        groups: dict[str, list[str]] = {"off": [], "on": [], "idle": []}
        for name in names:
            if name in self._arrived:
                continue
            ran = seen.get(_owner(name, modules))
            groups["idle" if ran is None else "on" if ran else "off"].append(name)
        off, on, idle = (tuple(groups[k]) for k in ("off", "on", "idle"))
        on = tuple(n for n in on if "shadow_update" not in n)  # unused in SHADOW's last layer
        return [*_computed_off(off), *_not_reached(on), *_took_no_part(idle)]


def _computed_off(names: tuple[str, ...]) -> list[Verdict]:
    if not names:
        return []
    text = f"computed with gradients off inside a trained forward: {grouped(names)} get none"
    advice = "run the part that is to be trained outside `torch.no_grad()`"
    return [Verdict("TL203", text, (), names, help=advice, cause="inside")]


def _not_reached(names: tuple[str, ...]) -> list[Verdict]:
    if not names:
        return []
    text = f"no gradient in two steps: {grouped(names)} ran, and the loss does not reach it"
    return [Verdict("TL701", text, (), names, cause="part")]


def _took_no_part(names: tuple[str, ...]) -> list[Verdict]:
    if not names:
        return []
    text = f"no gradient in two steps: {grouped(names)} took no part in the forward"
    return [Verdict("TL701", text, (), names, severity=Severity.INFO, cause="idle")]


def _is_container(module: nn.Module) -> bool:
    return isinstance(module, (nn.ModuleDict, nn.ModuleList, nn.ParameterDict, nn.ParameterList))


def _owner(name: str, modules: dict[str, nn.Module]) -> str:
    """The nearest module above a parameter that is called, and not merely a container."""
    owner = name.rpartition(".")[0]
    while owner and (owner not in modules or _is_container(modules[owner])):
        owner = owner.rpartition(".")[0]
    return owner
