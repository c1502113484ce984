"""An optimizer's step, and a scheduler's."""

from __future__ import annotations

from collections.abc import Collection
from operator import attrgetter
from typing import Any

import torch

from trainlint.runtime import patches
from trainlint.runtime.judge.causes import is_root
from trainlint.runtime.judge.optimizers import held, moves_frozen
from trainlint.runtime.judge.verdict import Verdict
from trainlint.runtime.report import HIDDEN
from trainlint.runtime.source import where
from trainlint.runtime.watching.coverage import Coverage
from trainlint.runtime.watching.forwards import Forwards
from trainlint.runtime.watching.gradients import GradientJudge, absent_in
from trainlint.runtime.watching.ledger import GradientLedger
from trainlint.runtime.watching.model_view import CLOSE_STEPS
from trainlint.runtime.watching.movement import Movement
from trainlint.runtime.watching.optimizers import Grads, Optimizers, OptimizerView
from trainlint.runtime.watching.run import Run

__tracebackhide__ = HIDDEN

_requires = attrgetter("requires_grad")


class Steps:
    """Judges what a step is about to use, before it, or after it if it was given a closure."""

    def __init__(
        self,
        run: Run,
        optimizers: Optimizers,
        forwards: Forwards,
        ledger: GradientLedger,
        coverage: Coverage,
        gradients: GradientJudge,
    ) -> None:
        self._run, self._optimizers, self._forwards = run, optimizers, forwards
        self._ledger, self._coverage, self._gradients = ledger, coverage, gradients
        self._movement = Movement(run)

    def before(self, optimizer: Any, args: Any, kwargs: Any, threads: Collection[int]) -> None:
        """An optimizer is about to step; `threads` are those in which the model runs."""
        view = self._ours(self._optimizers.view(optimizer), optimizer)
        if view is None:
            self._say(self._coverage.stranger(optimizer, threads))
            return
        view.closure = _has_closure(optimizer, args, kwargs)
        if patches.local.backward:
            self._run.fused = True  # optimizer-in-backward: one parameter a step, in a backward
            return
        if not view.closure:
            self._judge(view, optimizer)

    def after(self, optimizer: Any) -> None:
        """An optimizer stepped."""
        # a closure's gradients are there only now
        run, view = self._run, self._ours(self._optimizers.known(optimizer), optimizer)
        if view is None:
            return
        view.steps += 1
        if run.fused:
            view.grads = Grads.CONSUMED
            return
        if view.closure:
            self._judge(view, optimizer)
        found = self._movement.judge(view, optimizer) + self._forwards.retained()
        if found:
            run.findings.emit(found, where(4))
        run.findings.report.steps += 1
        self._ledger.stepped(view)
        # the step has just read every gradient: now they are near, before it they were not
        view.differs = self._gradients.differ(view)
        run.since_step = 0
        run.forwards = 0
        run.cut = None
        run.look_again = run.steps % run.settings.every == 0

    def _ours(self, view: OptimizerView | None, optimizer: Any) -> OptimizerView | None:
        """The same view, unless the optimizer was given and trains something else."""
        if view is None or not self._coverage.trains_something_else(view):
            return view
        self._optimizers.dismiss(optimizer)
        return None

    def _judge(self, view: OptimizerView, optimizer: Any) -> None:
        run = self._run
        if run.steps % run.settings.every and run.steps >= CLOSE_STEPS:
            return
        withheld, run.withheld = run.withheld, []
        self._say(withheld + self._ledger.passed_by_scaler(view))
        sentinel = view.sentinel
        all_of_it = run.view.looks(run.steps)
        found = self._held(view, optimizer, close=all_of_it)
        self._say(found)
        if any(is_root(v) for v in found):
            return
        close = all_of_it or view.differs or sentinel is None or sentinel.grad is None
        absent = absent_in(view.own) if close else b""
        if absent and all(absent):
            self._say(self._gradients.empty(view))
            return
        view.empty = 0
        found = self._gradients.missing(view, absent) if close else []
        found += self._ledger.uncleared(view) or self._ledger.parts_lost(view)
        if not patches.local.scaler_step:
            found += self._gradients.finite(view)
            if not view.closure:
                self._movement.sample(view)
        self._say(found)

    def _say(self, found: list[Verdict]) -> None:
        """Report at the line of the step, which is looked up only if there is something to say."""
        if found:
            self._run.findings.emit(found, where(5))

    def _held(self, view: OptimizerView, optimizer: Any, *, close: bool) -> list[Verdict]:
        """What the optimizer holds against what trains, and against what is frozen."""
        found = self._coverage.judge(view)
        if close and not all(map(_requires, view.own)):
            state = self._run.view.observe()
            if state is not None:
                found += moves_frozen(state, [held(optimizer, state)])
        return found

    def scheduler(self, scheduler: Any) -> None:
        """A learning rate scheduler is about to step."""
        optimizer = getattr(scheduler, "optimizer", None)
        view = self._optimizers.known(optimizer)
        if view is None and isinstance(optimizer, torch.optim.Optimizer):
            view = self._optimizers.view(optimizer)
        if view is None or optimizer is None:
            return
        if not view.raised:
            view.raised = any(float(g.get("lr", 1.0)) != 0.0 for g in optimizer.param_groups)
            view.at_zero += not view.raised
        if view.steps or view.attempts:
            return
        if getattr(scheduler, "_is_initial", False) or getattr(scheduler, "_step_count", 0) != 1:
            return
        if getattr(optimizer, "_opt_called", False):
            return
        text = (
            "the scheduler steps before the optimizer's first step: the first learning rate is lost"
        )
        advice = "call `optimizer.step()` before `scheduler.step()`"
        self._run.findings.emit([Verdict("TL208", text, help=advice, cause="order")], where(4))


def _has_closure(optimizer: Any, args: Any, kwargs: Any) -> bool:
    """Whether `step` was given a function that evaluates the loss again."""
    if kwargs.get("closure") or (len(args) > 1 and callable(args[1])):
        return True
    return len(args) == 1 and callable(args[0]) and args[0] is not optimizer
