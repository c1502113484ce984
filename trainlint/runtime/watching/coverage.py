"""The optimizers against what trains, and a network that no optimizer holds."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Collection
from typing import Any

import torch

from trainlint.runtime import patches
from trainlint.runtime.judge import optimizers as verdicts
from trainlint.runtime.judge.causes import is_root
from trainlint.runtime.judge.optimizers import Held
from trainlint.runtime.judge.verdict import Verdict
from trainlint.runtime.observation import Observation
from trainlint.runtime.report import grouped
from trainlint.runtime.watching.model_view import CLOSE_STEPS
from trainlint.runtime.watching.optimizers import (
    Optimizers,
    OptimizerView,
    live_optimizers,
    parameters_of,
)
from trainlint.runtime.watching.plan import Plan
from trainlint.runtime.watching.run import Run


class Coverage:
    """Judged again when the optimizers, or what requires gradients, changed."""

    def __init__(self, run: Run, optimizers: Optimizers) -> None:
        self._run, self._optimizers = run, optimizers
        self._known: dict[int, tuple[weakref.ref[torch.Tensor], int]] = {}
        """By optimizer that holds nothing of ours: its first gradient and how often it was
        written to, at its last step. An address would not do: the next gradient often has it."""
        self._pile: tuple[weakref.ref[torch.Tensor], int] | None = None
        """The same of our own first gradient."""

    def judge(self, view: OptimizerView) -> list[Verdict]:
        """Before a step of this optimizer: is everything that has a gradient held by some."""
        run = self._run
        plan = run.view.plan
        if plan is None:
            return []
        key = (run.view.requires, id(plan), view.count, len(self._optimizers), run.trained)
        unchanged = key == view.coverage
        if unchanged and (run.steps > CLOSE_STEPS or not self._loose_gradients(plan)):
            return []
        view.coverage = key
        state = run.view.observe()
        if state is None:
            return []
        holders = self._optimizers.held(state)
        turn = next((h for h in holders if h.optimizer is view.ref()), None)
        found = verdicts.coverage(state, holders, graded=True, steps=turn)
        if any(is_root(v) for v in found) and any(h.inside for h in holders):
            found = self._with_others(state, holders, found)
        return found + verdicts.moves_frozen(state, [] if turn is None else [turn])

    def _with_others(
        self, state: Observation, holders: list[Held], found: list[Verdict]
    ) -> list[Verdict]:
        """The same with the optimizers that exist and have not stepped yet, if there are any."""
        known = self._optimizers.alive()
        others = [o for o in live_optimizers() if not any(o is k for k in known)]
        more = [h for h in (verdicts.held(o, state) for o in others) if h.inside]
        if not more:
            return found
        return verdicts.coverage(state, [*holders, *more], graded=True)

    def _loose_gradients(self, plan: Plan) -> bool:
        """Whether more than the optimizers hold has a gradient."""
        held = {id(p) for view in self._optimizers for p in view.own}
        return any(p.grad is not None and id(p) not in held for p in plan.parameters)

    def trains_something_else(self, view: OptimizerView) -> bool:
        """Whether an optimizer given to the watch trains an image or a prompt through the model.

        Its tensors have gradients, none is the model's and none has the form of a weight of the
        model: an optimizer of an earlier model would share them.
        """
        plan, optimizer = self._run.view.plan, view.ref()
        if view.own or plan is None or optimizer is None or self._optimizers.hold_some():
            return False
        tensors = parameters_of(optimizer)
        if not any(p.grad is not None for p in tensors):
            return False
        shapes = {tuple(p.shape) for p in plan.parameters if p.dim() > 1}
        return not any(tuple(p.shape) in shapes for p in tensors)

    def stranger(self, optimizer: Any, threads: Collection[int]) -> list[Verdict]:
        """An optimizer that holds nothing of ours steps after our backward: whose is it."""
        run = self._run
        plan = run.view.plan
        if plan is None or not run.since_step or len(self._optimizers) or not run.trained:
            return []
        if threading.get_ident() not in threads or patches.local.backward:
            return []
        if not any(p.grad is not None for p in plan.parameters) or self._held_by_some():
            return []
        state = run.view.observe()
        if state is None:
            return []
        holder = verdicts.held(optimizer, state)
        if holder.flat:
            return []
        shapes = {tuple(p.shape) for p in plan.parameters if p.requires_grad}
        if any(tuple(p.shape) in shapes and p.dim() > 1 for p in holder.parameters):
            if self._filled_anew(optimizer):
                return []
            return verdicts.coverage(state, [holder], graded=True)
        return [_piles_up(plan)] if self._added_to(plan) else []

    def _added_to(self, plan: Plan) -> bool:
        """Whether gradients of this network were added to since another's optimizer stepped."""
        grad = next(g for p in plan.parameters if (g := p.grad) is not None)
        version = grad._version
        known, self._pile = self._pile, (weakref.ref(grad), version)
        return known is not None and known[0]() is grad and known[1] < version

    def _filled_anew(self, optimizer: Any) -> bool:
        """Whether somebody gives it gradients: master weights in another precision are trained so.

        Those of an optimizer of an earlier model are None, or stay what they were.
        """
        graded = (p.grad for p in parameters_of(optimizer))
        grad = next((g for g in graded if g is not None), None)
        if not isinstance(grad, torch.Tensor):
            return False
        version = grad._version
        known = self._known.get(id(optimizer))
        self._known[id(optimizer)] = weakref.ref(grad), version
        return known is None or known[0]() is not grad or known[1] != version

    def _held_by_some(self) -> bool:
        """Whether any optimizer that exists holds parameters of the model."""
        ids = self._run.view.ids()
        return any(id(p) in ids for o in live_optimizers() for p in parameters_of(o))

    def unused(self) -> bool:
        """Backwards ran, no optimizer ever stepped, and yet one holds the model."""
        run = self._run
        never = not run.steps and run.backwards and not len(self._optimizers)
        return bool(never) and run.view.plan is not None and self._held_by_some()


def _piles_up(plan: Plan) -> Verdict:
    names = tuple(n for n, p in zip(plan.parameter_names, plan.parameters) if p.grad is not None)
    text = (
        f"no optimizer holds this network, yet every backward fills its gradients "
        f"({grouped(names)}) and nobody clears them"
    )
    advice = "freeze it with `requires_grad_(False)`"
    return Verdict("TL308", text, (), names, help=advice, cause="pile")
