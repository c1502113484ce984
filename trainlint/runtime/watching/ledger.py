"""Gradients between backward and step: filled, scaled, clipped, cleared.

No hook sits on any parameter: one gradient of each optimizer, its sentinel, is stamped with its
address and its version, which tell filling, adding and clearing apart (RUNTIME 4.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from trainlint.runtime import patches
from trainlint.runtime.judge.verdict import Verdict
from trainlint.runtime.report import HIDDEN, grouped
from trainlint.runtime.source import where
from trainlint.runtime.watching.optimizers import Grads, Optimizers, OptimizerView
from trainlint.runtime.watching.run import Run

__tracebackhide__ = HIDDEN

_LOOKED = 64
"""So many of the clipped parameters tell whose they are."""
_CYCLES = 16
"""So many backwards in vain show that there is no step: fewer may be parts of one, whose gradients
are taken aside (PCGrad, gradients per sample)."""


class GradientLedger:
    """What happened to each optimizer's gradients since they were filled."""

    def __init__(self, run: Run, optimizers: Optimizers) -> None:
        self._run, self._optimizers = run, optimizers
        self._scale_next = False
        self._scale_line: str | None = None
        self._scaled_now = False

    # --- backward -----------------------------------------------------------------------------

    def before_backward(self, losses: Sequence[torch.Tensor]) -> None:
        """Stamp the sentinels; gradients that a step has used are about to be added to."""
        self._scaled_now, self._scale_next = self._scale_next, False
        for view in self._optimizers:
            self._stamp_before(view)
            if view.dropped.wiped:
                view.dropped.backward(losses)

    def _stamp_before(self, view: OptimizerView) -> None:
        grad = None if view.sentinel is None else view.sentinel.grad
        now = None if grad is None else stamp(grad)
        view.before = now
        if view.dirty is None and now is not None and now == view.mark:
            view.dirty = where(6)
        if grad is None:
            view.dirty = None
        view.mark = None
        if self._scaled_now:
            view.scale_line = self._scale_line

    def after_backward(self) -> bool:
        """Whether this backward filled some optimizer's gradients."""
        filled = [self._filled(view) for view in self._optimizers]
        return any(filled)

    def _filled(self, view: OptimizerView) -> bool:
        sentinel = view.sentinel
        if sentinel is None or sentinel.grad is None:
            sentinel = next((p for p in view.own if p.grad is not None), None)
            view.sentinel = sentinel
            if sentinel is None or sentinel.grad is None:
                return False
            view.before = None
        now = stamp(sentinel.grad)
        if view.before is not None and now == view.before:
            return False
        view.dropped.filled, view.dropped.writes = now, 0
        view.grads = Grads.FRESH
        view.wiped = None
        view.scaled = view.scaled or self._scaled_now
        return True

    # --- GradScaler ---------------------------------------------------------------------------

    def scale(self) -> None:
        """A GradScaler scaled a loss."""
        self._scale_next = True
        self._scale_line = where(4)

    def unscale(self, optimizer: Any) -> None:
        """`unscale_` ran."""
        view = self._optimizers.known(optimizer)
        if view is not None:
            view.scaled = False
            view.dropped.writes += 1

    def scaler_step(self, optimizer: Any) -> None:
        """`scaler.step` ran; it may have skipped the optimizer's own step."""
        view = self._optimizers.known(optimizer)
        if view is not None:
            view.attempts += 1
            view.scaled = False
            view.cycles = 0
            if view.grads is not Grads.CONSUMED:  # the step was skipped
                view.dirty = None
                view.mark = None

    def passed_by_scaler(self, view: OptimizerView) -> list[Verdict]:
        """A step on gradients that are still scaled, outside the scaler."""
        if not view.scaled or patches.local.scaler_step:
            return []
        text = (
            "`optimizer.step()` on gradients still multiplied by the GradScaler's factor: the "
            "scaler was passed by"
        )
        advice = "call `scaler.step(optimizer)` and `scaler.update()`"
        related = (f"{view.scale_line}: the loss was scaled here",)
        return [Verdict("TL209", text, related=related, help=advice, cause="scaler")]

    # --- clearing -----------------------------------------------------------------------------

    def zero_grad(self, optimizer: Any) -> None:
        """An optimizer cleared its gradients."""
        view = self._optimizers.known(optimizer)
        if view is None and not self._optimizers.is_stranger(optimizer):
            view = self._optimizers.view(optimizer)
        if view is not None:
            self._clear(view)

    def zero_grad_of_all(self) -> None:
        """The model cleared its gradients."""
        for view in self._optimizers:
            self._clear(view)

    def _clear(self, view: OptimizerView) -> None:
        self._run.withheld.clear()
        view.dirty = None
        view.mark = None
        view.scaled = False
        if view.grads is not Grads.FRESH:
            if view.grads is not Grads.WIPED:
                view.grads = Grads.CLEARED
            return
        view.grads = Grads.WIPED
        view.wiped = where(5)
        view.last_wiped = view.wiped
        view.dropped.wiped += 1
        if self._run.for_inputs or view.steps or view.attempts:
            return  # an attack, or Fisher information gathered after training
        view.cycles += 1
        alone = len(self._optimizers) == 1 and not self._run.fused and view.ref() is not None
        if view.cycles >= _CYCLES and not view.closure and alone:
            self._run.findings.emit([never_stepped()], view.wiped)

    def idle(self) -> list[Verdict]:
        """At the end: an optimizer that never stepped, while another did, on gradients of its own.

        Not said before: a backbone's optimizer may begin after a warm-up.
        """
        stepped = {id(p) for v in self._optimizers if v.steps or v.attempts for p in v.own}
        idle = [v for v in self._optimizers if not any(id(p) in stepped for p in v.own)]
        lost = [v for v in idle if v.cycles >= _CYCLES and v.ref() is not None]
        if not lost or self._run.fused:
            return []
        names = self._run.view.names(lost[0].own)
        text = f"one of the optimizers never stepped: the gradients of {grouped(names)} are lost"
        related = (f"{lost[0].last_wiped}: cleared here",) if lost[0].last_wiped else ()
        return [Verdict("TL207", text, (), names, related=related, cause="idle")]

    def uncleared(self, view: OptimizerView) -> list[Verdict]:
        """A step on gradients of which the last step has used a part."""
        if view.dirty is None:
            return []
        text = (
            "the gradients were not cleared between steps: this step uses gradients that the "
            "last one already used"
        )
        related = (f"{view.dirty}: this backward added to them",)
        advice = "call `optimizer.zero_grad()` once per step"
        return [Verdict("TL205", text, related=related, help=advice, cause="clear")]

    def parts_lost(self, view: OptimizerView) -> list[Verdict]:
        """A step on the last of several micro-batches: the others were cleared before it."""
        count = view.dropped.wiped + 1
        sentinel = view.sentinel
        grad = None if sentinel is None else sentinel.grad
        if not view.dropped.step(None if grad is None else stamp(grad)):
            return []
        text = (
            f"each loss is divided by {count}, for {count} backwards a step, and the gradients of "
            f"all but the last are cleared before the step"
        )
        related = (f"{view.last_wiped}: cleared here",) if view.last_wiped else ()
        advice = "call `zero_grad()` once per step, not before each backward"
        return [Verdict("TL206", text, related=related, help=advice, cause="parts")]

    # --- clipping -----------------------------------------------------------------------------

    def clip(self, clipped: list[Any]) -> None:
        """Parameters or their gradients are about to be clipped, to a finite limit."""
        judged = [(view, self._judge_clip(view)) for view in self._clipped(clipped)]
        for view, found in judged:
            if not found:
                view.mark = None  # the clip writes to the gradients: that is no second backward
                view.dropped.writes += 1
        if judged and all(found for _, found in judged):
            self._run.findings.emit(judged[0][1], where(4))

    def _judge_clip(self, view: OptimizerView) -> list[Verdict]:
        if view.scaled and not patches.local.scaler_step:
            text = (
                "gradients are clipped while they are still multiplied by the GradScaler's factor: "
                "the clipped update nearly vanishes"
            )
            advice = "call `scaler.unscale_(optimizer)` before clipping"
            return [Verdict("TL211", text, help=advice, cause="clip")]
        advice = "clip between backward and step"
        if view.grads is Grads.CONSUMED and view.steps:
            if not _as_stepped(view):
                return []  # others were put there by hand
            text = "gradients are clipped after the step that used them"
            return [Verdict("TL210", text, help=advice, cause="clip")]
        if view.grads not in (Grads.CLEARED, Grads.WIPED) or not _empty(view):
            return []
        if self._run.forwards:
            text = "gradients are clipped before the backward that fills them"
            return [Verdict("TL210", text, help=advice, cause="clip")]
        if view.steps and not self._run.since_step:
            text = "gradients are clipped after the step, when they are already cleared"
            return [Verdict("TL210", text, help=advice, cause="clip")]
        return []

    def _clipped(self, clipped: list[Any]) -> list[OptimizerView]:
        """The optimizers whose gradients are clipped."""
        looked = clipped if len(self._optimizers) > 1 else clipped[:_LOOKED]
        given = {id(t) for t in looked}
        return [view for view in self._optimizers if _any_of(view, given)]

    # --- step ---------------------------------------------------------------------------------

    def stepped(self, view: OptimizerView) -> None:
        """A step used the gradients."""
        if view.grads is Grads.FRESH:
            view.grads = Grads.CONSUMED
        view.cycles = 0
        view.scaled = False
        view.dirty = None
        sentinel = view.sentinel
        if sentinel is not None and sentinel.grad is not None:
            view.mark = stamp(sentinel.grad)


def _any_of(view: OptimizerView, given: set[int]) -> bool:
    """Whether some of these are its parameters, or their gradients."""
    return any(id(p) in given or (p.grad is not None and id(p.grad) in given) for p in view.own)


def _as_stepped(view: OptimizerView) -> bool:
    """Whether the gradients still are those that the last step used."""
    grad = None if view.sentinel is None else view.sentinel.grad
    return grad is not None and (view.mark is None or stamp(grad) == view.mark)


def _empty(view: OptimizerView) -> bool:
    """Whether nothing put gradients there by hand since they were cleared.

    Says no where only reading a device could tell.
    """
    grads = [p.grad for p in view.own if p.grad is not None]
    return all(g.device.type == "cpu" and not bool(g.any()) for g in grads)


def stamp(tensor: torch.Tensor) -> tuple[int, int]:
    """A tensor's storage and how often it was written to."""
    try:
        return tensor.data_ptr(), tensor._version
    except RuntimeError:  # DTensor and the like have no address
        return id(tensor), tensor._version


def never_stepped() -> Verdict:
    """Gradients are computed, and nobody uses them."""
    text = "backward runs, and the optimizer never steps"
    advice = "call `optimizer.step()` after `loss.backward()`"
    return Verdict("TL207", text, help=advice, cause="never")
