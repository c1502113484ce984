"""`watch`: every forward, backward and step of a block, verified as it happens.

Here the events come in, from the hooks on the model (`hooks`) and from the few patched entry
points (`patches`); the parts in `watching` judge them.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
import warnings
import weakref
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any

from torch import nn

from trainlint.runtime import hooks, patches
from trainlint.runtime.expect import Expect, Kept, check_model, check_optimizers
from trainlint.runtime.judge.modes import Switch
from trainlint.runtime.judge.verdict import Verdict
from trainlint.runtime.observe import observe
from trainlint.runtime.report import HIDDEN, Report, grouped
from trainlint.runtime.source import caller, where
from trainlint.runtime.watching import settings
from trainlint.runtime.watching.backwards import Backwards
from trainlint.runtime.watching.coverage import Coverage
from trainlint.runtime.watching.evaluation import EvaluationProbe
from trainlint.runtime.watching.findings import Findings, TrainingStateWarning
from trainlint.runtime.watching.forwards import Forwards
from trainlint.runtime.watching.gradients import GradientJudge
from trainlint.runtime.watching.ledger import GradientLedger, never_stepped
from trainlint.runtime.watching.model_view import ModelView
from trainlint.runtime.watching.modes import ModeJudge
from trainlint.runtime.watching.optimizers import Grads, Optimizers
from trainlint.runtime.watching.run import Run
from trainlint.runtime.watching.settings import Action, Codes, Settings
from trainlint.runtime.watching.steps import Steps
from trainlint.runtime.watching.training import TrainingJudge
from trainlint.runtime.wrappers import unwrap

__tracebackhide__ = HIDDEN

__all__ = ["Action", "TrainingStateWarning", "Watch", "watch"]


class _Parts:
    """The parts of one open watch; dropped as a whole when it closes or its model dies."""

    def __init__(self, run: Run, given: Sequence[Any]) -> None:
        self.run = run
        self.modes = ModeJudge(run)
        self.probe = EvaluationProbe(run)
        self.forwards = Forwards(run, self.modes, self.probe)
        self.optimizers = Optimizers(run, given)
        self.training = TrainingJudge(run, self.modes, self.optimizers)
        self.ledger = GradientLedger(run, self.optimizers)
        self.backwards = Backwards(run, self.forwards, self.modes, self.training, self.ledger)
        self.coverage = Coverage(run, self.optimizers)
        self.gradients = GradientJudge(run, self.optimizers)
        self.steps = Steps(
            run, self.optimizers, self.forwards, self.ledger, self.coverage, self.gradients
        )

    def close(self) -> None:
        """Undo what the parts themselves hooked or replaced."""
        self.probe.stop()
        self.gradients.close()
        self.training.close()

    def last_words(self) -> list[Verdict]:
        """What only the end of the block shows."""
        found = self.forwards.unused(final=True)
        if self.run.steps:
            return found + self.ledger.idle()
        for view in self.optimizers:
            if view.ref() is not None and view.grads is Grads.FRESH:
                found.append(never_stepped())
        if self.coverage.unused():
            found.append(never_stepped())
        return found


class Watch:
    """Made by `watch()`; a context manager. `report` fills as the block runs."""

    def __init__(self, model: nn.Module, given: Sequence[Any], asked: Settings) -> None:
        self._root: weakref.ref[nn.Module] = weakref.ref(model)
        self._given = [weakref.ref(o) for o in given]
        self._settings = asked
        self._closed = True
        self._entered = False
        self._parts: _Parts | None = None
        self._findings: Findings | None = None
        self._handles: list[Any] = []
        self.report = Report()
        self.threads: set[int] = set()
        """The threads in which the model runs."""
        self.only_training = False
        """Say nothing about a model that never trains (`pytest --trainlint`)."""
        self.close_on_raise = False
        """For callbacks, which have no `with` block that would close the watch."""

    # --- opening and closing ------------------------------------------------------------------

    def __enter__(self) -> Watch:
        if not self._closed:
            raise RuntimeError("this watch is already open: make another with `watch(...)`")
        root = self._root()
        if root is None:
            raise RuntimeError("the model of this watch no longer exists")
        self._entered = True
        self._closed = False
        self.threads.add(threading.get_ident())
        try:
            self._open(root)
        except BaseException:
            self.close()
            raise
        return self

    def _open(self, root: nn.Module) -> None:
        me = weakref.ref(self)  # no cycle: a watch left open is to be collected at once
        close = weakref.WeakMethod(self.close)
        self._findings = Findings(
            self._settings, (lambda: _call(close)) if self.close_on_raise else None
        )
        self.report = self._findings.report
        view = ModelView(root, lambda _: _forget(me))
        run = Run(self._settings, view, self._findings, self.only_training)
        given = [o for ref in self._given if (o := ref()) is not None]
        parts = _Parts(run, given)
        self._parts = parts
        parts.training.prepare()
        self._hook(root, view)
        patches.attach(self)
        for optimizer in given:
            parts.optimizers.view(optimizer)

    def _hook(self, root: nn.Module, view: ModelView) -> None:
        inner = view.inner()
        targets = [root] if inner is None or inner is root else [root, inner]
        if type(root).__name__ == "OptimizedModule":
            targets = [root]  # a hook inside would be traced
        for module in targets:
            self._hook_one(module)
        if "torch._dynamo" in sys.modules:
            for found in gc.get_objects():
                if type(found).__name__ == "OptimizedModule":
                    self.on_compiled(found)

    def _hook_one(self, module: nn.Module) -> None:
        self._handles.append(_before(module, hooks.ForwardBegins(self)))
        ends = hooks.ForwardEnds(self)
        self._handles.append(module.register_forward_hook(ends, always_call=True))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None and not self._closed:
                self._finish()
        finally:
            self.close()

    def _finish(self) -> None:
        if self._findings is None:
            return
        found = [*self._findings.lent, *self._findings.take_deferred()]
        if self._parts is not None:
            found += self._parts.last_words()
        self._findings.emit(found, None)

    def close(self) -> None:
        """Remove every hook and patch; also writes the report. Harmless if closed."""
        if self._closed:
            return
        self._closed = True
        patches.detach(self)
        parts, self._parts = self._parts, None
        if parts is not None:
            parts.close()
        for handle in self._handles:
            handle.remove()
        self._handles = []
        if self._settings.report is not None:
            self.report.write(self._settings.report)

    def forget(self) -> None:
        """The model is gone: let go of its parameters too."""
        parts, self._parts = self._parts, None
        if parts is not None:
            parts.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            self.close()
            text = "a trainlint watch was left open: use `with watch(model): ...`"
            warnings.warn(text, ResourceWarning, stacklevel=2)
        elif not getattr(self, "_entered", True):
            text = "a trainlint watch was made and never entered: use `with watch(model): ...`"
            warnings.warn(text, ResourceWarning, stacklevel=2)

    # --- the model ----------------------------------------------------------------------------

    def on_compiled(self, compiled: nn.Module) -> None:
        """`torch.compile` wrapped a module, before or during the watch: ours."""
        parts = self._parts
        if parts is None or compiled is self._root():
            return
        view = parts.run.view
        inner = view.inner()
        if inner is not None and unwrap(compiled) is inner:
            view.shells.append(weakref.ref(compiled))
            self._hook_one(compiled)

    def on_train(self, module: nn.Module, mode: bool) -> None:
        """`train()` or `eval()` was called on this module, ours or not."""
        parts = self._parts
        if parts is None:
            return
        who = caller(3)
        run = parts.run
        run.note(Switch(id(module), mode, who.where, who.through, run.begun))
        parts.modes.switched()

    def on_forward(self, module: nn.Module, given: Iterable[object] = ()) -> None:
        """A forward of the root, or of the module inside its wrappers, begins."""
        parts = self._parts
        if parts is None or not parts.run.view.called(module):
            return
        self.threads.add(threading.get_ident())
        parts.forwards.begin(module, given)

    def on_forward_end(self, module: nn.Module, output: object) -> None:
        """The forward is over; `output` is None if it raised."""
        parts = self._parts
        if parts is not None and parts.run.view.called(module):
            parts.forwards.end(output)

    def on_checkpoint_cut(self) -> None:
        """A reentrant checkpoint ran on inputs of which none requires grad."""
        parts = self._parts
        forward = None if parts is None else parts.forwards.current()
        if parts is not None and forward is not None and forward.grad:
            parts.run.cut = where(3)

    def on_disable_left(
        self, owner: nn.Module, before: list[tuple[str, nn.Parameter, bool]]
    ) -> None:
        """`with disable_adapter()` was left: did it unfreeze what was frozen on purpose."""
        parts = self._parts
        if parts is None:
            return
        ids = parts.run.view.ids()
        thawed = [n for n, p, was in before if not was and p.requires_grad and id(p) in ids]
        if thawed:
            parts.run.findings.emit([_unfrozen(thawed)], where(3))

    def on_disable_not_entered(self, owner: nn.Module) -> None:
        """`disable_adapter()` as a statement: said at the next event, as here nothing can raise."""
        parts = self._parts
        inner = None if parts is None else parts.run.view.inner()
        if parts is not None and (inner is unwrap(owner) or parts.run.view.wraps(owner)):
            parts.run.findings.deferred.append(_not_entered().at(where(3)))

    # --- backward, gradients, step ------------------------------------------------------------

    def before_backward(self, given: Any) -> None:
        """A backward is about to run in one of our threads."""
        if self._parts is not None:
            self._parts.backwards.before(given)

    def after_backward(self) -> None:
        """A backward in one of our threads is over."""
        if self._parts is not None:
            self._parts.backwards.after()
            self._parts.gradients.after_backward()

    def on_scale(self) -> None:
        """A GradScaler scaled a loss."""
        if self._parts is not None:
            self._parts.ledger.scale()

    def on_unscale(self, optimizer: Any) -> None:
        """`unscale_` ran."""
        if self._parts is not None:
            self._parts.ledger.unscale(optimizer)

    def on_scaler_step(self, optimizer: Any) -> None:
        """`scaler.step` ran; it may have skipped the optimizer's own step."""
        if self._parts is not None:
            self._parts.ledger.scaler_step(optimizer)

    def on_zero_grad(self, optimizer: Any) -> None:
        """An optimizer cleared its gradients."""
        if self._parts is not None:
            self._parts.ledger.zero_grad(optimizer)

    def on_module_zero_grad(self, module: nn.Module) -> None:
        """A module cleared its gradients."""
        if self._parts is not None and self._parts.run.view.wraps(module):
            self._parts.ledger.zero_grad_of_all()

    def on_clip(self, parameters: list[Any], limit: float) -> None:
        """Gradients are about to be clipped; a limit of infinity only measures them."""
        if self._parts is not None and limit != float("inf") and not patches.local.backward:
            self._parts.ledger.clip(parameters)

    def on_scheduler(self, scheduler: Any) -> None:
        """A learning rate scheduler is about to step."""
        if self._parts is not None:
            self._parts.steps.scheduler(scheduler)

    def on_step_before(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        """An optimizer is about to step."""
        if self._parts is not None:
            self._parts.steps.before(optimizer, args, kwargs, self.threads)

    def on_step_after(self, optimizer: Any) -> None:
        """An optimizer stepped."""
        if self._parts is not None:
            self._parts.steps.after(optimizer)


def _before(module: nn.Module, hook: hooks.ForwardBegins) -> Any:
    return module.register_forward_pre_hook(hook, with_kwargs=True)


def _call(method: weakref.WeakMethod[Any]) -> None:
    found = method()
    if found is not None:
        found()


def _forget(watch: weakref.ref[Watch]) -> None:
    held = watch()
    if held is not None:
        held.forget()


def _unfrozen(names: Sequence[str]) -> Verdict:
    text = (
        f"leaving `with disable_adapter()` unfroze {grouped(names)}, frozen before it "
        "(peft enables what is active, frozen or not)"
    )
    advice = "freeze it again after the block"
    return Verdict("TL415", text, (), tuple(names), help=advice, cause="thawed")


def _not_entered() -> Verdict:
    text = "`disable_adapter()` as a statement disables nothing: it is a context manager"
    advice = "write `with model.disable_adapter():`"
    return Verdict("TL409", text, help=advice, cause="not entered")


def watch(
    model: nn.Module,
    optimizer: Any = None,
    phase: str | None = None,
    *,
    expect: Expect | None = None,
    allow_eval: Kept = (),
    allow_train: Kept = (),
    select: Codes = None,
    ignore: Codes = None,
    on_violation: Action = "raise",
    every: int = 1,
    report: str | os.PathLike[str] | None = None,
) -> Watch:
    """Verify every forward, backward and step of the model in a `with` block.

    Leaves the model, the optimizer, the random state and the results exactly as they would be
    without it, and removes every hook on exit. Raises TypeError or ValueError for wrong use, and
    in the block TrainingStateError for what it finds, unless `on_violation` says otherwise.
    """
    check_model(model)
    given = check_optimizers(optimizer)
    asked = settings.read(
        observe(model),
        phase=phase,
        expect=expect,
        allow_eval=allow_eval,
        allow_train=allow_train,
        select=select,
        ignore=ignore,
        on_violation=on_violation,
        every=every,
        report=report,
    )
    return Watch(model, given, asked)
