"""Parameters that a step with gradients does not move."""

from __future__ import annotations

from typing import Any

import torch

from trainlint.runtime.judge.verdict import Verdict
from trainlint.runtime.report import grouped
from trainlint.runtime.watching.optimizers import OptimizerView
from trainlint.runtime.watching.run import Run

_EARLY = (3, 4)
"""Steps at which movement is looked at first: LoRA's zero gradients are over by then."""
_SPARSE = 50
"""After them every so many steps."""
_SAMPLES = 4
_NEVER_RAISED = 50
"""So many steps of a scheduler at a rate of 0 from the start on are no warm-up."""
_ENDED = 0.01
"""A schedule that has brought the rate below this part of its start is at its end."""


class Movement:
    """A few small parameters are copied before a step and compared after it."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def sample(self, view: OptimizerView) -> None:
        """Keep copies, on the CPU only, of parameters that have a gradient other than 0."""
        view.samples = []
        step = view.steps + 1
        if step not in _EARLY and step % _SPARSE and not view.unmoved:
            return
        for parameter in view.smallest:
            grad = parameter.grad
            if grad is not None and type(grad) is torch.Tensor and bool(grad.any()):
                view.samples.append((parameter, parameter.detach().clone()))
            if len(view.samples) >= _SAMPLES:
                break

    def judge(self, view: OptimizerView, optimizer: Any) -> list[Verdict]:
        """After the step: did any of them move, and if not, is the learning rate the reason."""
        samples, view.samples = view.samples, []
        if not samples:
            return []
        if not all(torch.equal(p.detach(), was) for p, was in samples):
            view.unmoved = 0
            return []
        view.unmoved += 1
        groups = optimizer.param_groups
        rates = [float(g.get("lr", 1.0)) for g in groups]
        scheduled = [float(g["initial_lr"]) for g in groups if "initial_lr" in g]
        if max(rates, default=1.0) == 0.0:
            if any(scheduled) and view.at_zero < _NEVER_RAISED:
                return []  # a scheduler will raise it, or has brought it down to its end
            return self._still(view, "the learning rate is 0")
        if scheduled and max(rates) < _ENDED * max(scheduled):
            return []
        if view.unmoved < 2:
            return []
        return self._still(view, "gradients arrive and the step runs")

    def _still(self, view: OptimizerView, why: str) -> list[Verdict]:
        names = self._run.view.names(view.own)
        text = f"the parameters do not move ({why}): {grouped(names)}"
        return [Verdict("TL703", text, (), names, cause="still")]
