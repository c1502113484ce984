"""The record of forwards: which one a backward used, which recorded a graph for nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from types import FrameType

import torch
from torch import nn

from trainlint.runtime import hooks
from trainlint.runtime.judge.verdict import Verdict
from trainlint.runtime.report import HIDDEN
from trainlint.runtime.source import calling, runs
from trainlint.runtime.source import place as place_of
from trainlint.runtime.watching.evaluation import EvaluationProbe
from trainlint.runtime.watching.forward import Forward
from trainlint.runtime.watching.modes import ModeJudge
from trainlint.runtime.watching.plan import Plan
from trainlint.runtime.watching.run import Run

__tracebackhide__ = HIDDEN

_EVALUATES = ("eval", "valid", "predict", "infer")
"""How functions that evaluate are named: only beside a graph that nothing used."""
_MANY = 64
"""How many forwards may wait for their backward."""
_LABELS = 3
"""Up to so many forwards with gradients off may make the targets of the trained one after them."""
_RETAINED = 4
"""Up to so many graphs of earlier steps may be alive."""


class Forwards:
    """Every outermost forward of the model, from its start until a backward or its graph's end."""

    def __init__(self, run: Run, modes: ModeJudge, probe: EvaluationProbe) -> None:
        self._run, self._modes, self._probe = run, modes, probe
        self._stacks: dict[int, list[tuple[Forward, FrameType]]] = {}
        """By thread: the forwards it is in, outermost first, each with the frame that calls it."""
        self._pending: list[Forward] = []
        self._old: list[Forward] = []
        self._kept: list[Forward] = []
        """Used by a backward, and their graphs still alive."""
        self._attacks: tuple[str, int] | None = None
        """The function and the step of the last forward in eval mode that a backward used."""
        self._aside = 0
        """Forwards with gradients off in a row."""
        self.last: Forward | None = None

    @property
    def waiting(self) -> bool:
        """Whether some forward's graph waits for a backward."""
        return bool(self._pending)

    def current(self) -> Forward | None:
        """The outermost forward that this thread is in."""
        stack = self._stacks.get(threading.get_ident())
        return stack[0][0] if stack else None

    # --- begin and end ------------------------------------------------------------------------

    def begin(self, module: nn.Module, given: Iterable[object] = ()) -> None:
        """A forward of the root, or of the module inside its wrappers, begins."""
        run = self._run
        stack = self._stacks.setdefault(threading.get_ident(), [])
        while stack and not runs(stack[-1][1]):
            stack.pop()  # a KeyboardInterrupt ended it, for which torch calls no hook
            self._probe.stop()
        plan = run.view.plan
        if plan is None:
            return
        if stack:
            stack.append((stack[0][0], calling()))
            if module is run.view.inner():
                self._probe.again()
            return
        grad = torch.is_grad_enabled()
        forward = self._record(plan, module, grad)
        forward.wanted = grad and any(
            isinstance(t, torch.Tensor) and t.requires_grad for t in given
        )
        stack.append((forward, calling()))
        before, self.last = self.last, forward
        run.begun += 1
        self._aside = 0 if grad else self._aside + 1
        if before is not None and _labels(before, forward):
            run.findings.drop_deferred("eval")
        found = self.unused()
        if grad or self._aside > _LABELS:
            found = [*run.findings.take_deferred(), *found]
        if grad:
            run.forwards += 1
            found += self._with_gradients(plan, forward)
        else:
            # a backward that follows shows that this was meant to train: wait for the next event
            verdicts = self._modes.evaluation(forward)
            run.findings.deferred += [
                v.at(forward.where) if v.cause == "eval" else v for v in verdicts
            ]
        run.findings.emit(found, forward.where)
        if not grad and not forward.disabled:
            self._probe.start(forward)

    def _record(self, plan: Plan, module: nn.Module, grad: bool) -> Forward:
        run = self._run
        self._modes.notice_assignment(plan)
        flags = run.view.flags(run.steps)
        line, function = place_of(5)
        return Forward(
            grad,
            flags,
            line,
            run.steps,
            bool(flags[0]),
            disabled=run.view.passes_by(),
            function=function,
            bypassed=run.view.bypassed_by(module),
        )

    def _with_gradients(self, plan: Plan, forward: Forward) -> list[Verdict]:
        run = self._run
        found: list[Verdict] = []
        if run.look_again and not run.steps and plan.has_adapters:
            found += self._modes.status()
        if run.settings.phase is not None:  # declared: no need to wait for a backward
            found += self._modes.flags(forward, training=run.settings.phase == "train")
        return found

    def end(self, output: object) -> None:
        """The forward is over; `output` is None if it raised."""
        stack = self._stacks.get(threading.get_ident())
        if not stack:
            return
        forward, _ = stack.pop()
        if stack:
            return
        found = self._probe.stop()
        if forward.grad and torch.is_grad_enabled():
            graphs = hooks.tensors(output)
            if graphs:
                forward.has_graph = True
                forward.graph = hooks.mark(graphs, forward)
                self._pending.append(forward)
                if len(self._pending) > _MANY:
                    self._old.append(self._pending.pop(0))
        self._run.findings.emit(found, forward.where)

    # --- what became of them ------------------------------------------------------------------

    def leading_to(self, losses: list[torch.Tensor]) -> list[Forward]:
        """The pending forwards that this loss leads back to."""
        marked = [f for f in self._pending if not f.consumed and f.alive]
        refs = [f.graph for f in marked if f.graph is not None]
        return [marked[i] for i in sorted(hooks.reaches(losses, refs))]

    def consumed(self) -> bool:
        """A backward is over: whether it used some of them, which then no longer wait."""
        used = self._used()
        if used:
            self._pending = [f for f in self._pending if not f.consumed]
            if "TL213" in self._run.settings.codes:  # nothing else asks for them
                self._kept.extend(f for f in used if f.alive)
        return bool(used)

    def _used(self) -> list[Forward]:
        used = [f for f in self._pending if f.consumed]
        for forward in used:
            if not forward.root_train:
                self._attacks = forward.function, forward.step
        return used

    def unused(self, *, final: bool = False) -> list[Verdict]:
        """Forwards that recorded a graph for nothing; `final`: nothing follows any more."""
        if not self._pending and not self._old:
            return []
        keep: list[Forward] = []
        found: list[Verdict] = []
        self._used()
        for forward in (*self._old, *self._pending):
            if forward.consumed:
                continue
            if final or self._is_over(forward):
                found += self._judge_unused(forward)
            else:
                keep.append(forward)
        self._old, self._pending = [], keep[-_MANY:]
        return found

    def _is_over(self, forward: Forward) -> bool:
        return not forward.alive or (not forward.root_train and self._run.steps > forward.step)

    def _judge_unused(self, forward: Forward) -> list[Verdict]:
        run = self._run
        phase = run.settings.phase
        if forward.disabled or phase == "train" or (run.only_training and not run.trained):
            return []
        named = forward.function.strip("_").startswith(_EVALUATES)
        if not (phase == "eval" or not forward.root_train or named):
            return []
        if (forward.function, forward.step) == self._attacks:
            return []  # the other half of an attack's loss, as of TRADES
        if forward.root_train and phase is None:
            return [v.at(forward.where) for v in self._modes.flags(forward, training=False)]
        text = (
            "an evaluation records a graph that nothing uses: gradients are on, no backward "
            "follows (memory and time lost)"
        )
        advice = "wrap the evaluation in `with torch.no_grad():`"
        return [Verdict("TL201", text, help=advice, cause="graph", line=forward.where)]

    def retained(self) -> list[Verdict]:
        """Graphs that outlive their step."""
        if "TL213" not in self._run.settings.codes:
            return []
        self._kept = [f for f in self._kept if f.alive]
        if len(self._kept) <= _RETAINED:
            return []
        count = len(self._kept)
        text = f"the graphs of {count} earlier forwards are still alive: something keeps them"
        advice = "keep `loss.item()` or `loss.detach()`, not the loss"
        return [Verdict("TL213", text, help=advice, cause="kept", line=self._kept[0].where)]


def _labels(before: Forward, forward: Forward) -> bool:
    """Whether a forward with gradients off made the targets of the one that begins.

    Pseudo-labels (FixMatch, UDA) and the clean prediction of virtual adversarial training come from
    the model in train mode, a few lines above the trained forward. An evaluation at the end of
    the loop stands below it.
    """
    if before.grad or not forward.grad or not forward.root_train or before.step != forward.step:
        return False
    if before.where is None or forward.where is None or before.function != forward.function:
        return False
    file, _, line = before.where.rpartition(":")
    other, _, below = forward.where.rpartition(":")
    return file == other and int(line) < int(below)
