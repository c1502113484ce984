"""`watch`: every forward, backward and step of a block, verified as it happens."""

from __future__ import annotations

import gc
import logging
import math
import os
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from operator import attrgetter, itemgetter
from types import TracebackType
from typing import Any

import torch
from torch import nn

from trainlint.core.diagnostic import Severity
from trainlint.runtime import hooks, judge, patches
from trainlint.runtime.codes import selected
from trainlint.runtime.expect import (
    Expect,
    Kept,
    check_expect,
    check_model,
    check_optimizers,
    check_phase,
    kept,
    unmet,
)
from trainlint.runtime.judge import Held, Modes, Switch, Verdict
from trainlint.runtime.look import _CONSEQUENCES, FOLLOWS, created_before, fold, is_root, violation
from trainlint.runtime.observe import Observation, observe, unwrap
from trainlint.runtime.report import Report, TrainingStateError, Violation, grouped
from trainlint.runtime.source import caller, where
from trainlint.runtime.source import place as place_of

logger = logging.getLogger("trainlint")

Action = str | Callable[[Violation], object]
_flag = itemgetter("training")
_requires = attrgetter("requires_grad")
_CLOSE_STEPS = 3
"""How many first steps are looked at in full."""
_SPARSE = 50
"""How often the dear checks come back after that."""
_AT_ONCE = 300
_FEW = 256
"""Up to so many gradients are tested for being finite at every step."""
_TURN = 3
"""Beyond that so many are, in turn."""
_EVALUATES = ("eval", "valid", "predict", "infer")
"""How functions that evaluate are named: only beside a graph that nothing used."""
_MANY_FORWARDS = 64
_RETAINED = 4


class TrainingStateWarning(UserWarning):
    """What a watch with `on_violation="warn"` says."""


class Grads(Enum):
    """What the gradients of one optimizer hold."""

    ABSENT = "no backward yet"
    FRESH = "filled"
    CONSUMED = "stepped on"
    CLEARED = "cleared"
    WIPED = "cleared before a step used them"


@dataclass(slots=True, weakref_slot=True)
class Forward:
    """One outermost forward; holds no tensor."""

    grad: bool
    flags: bytes
    where: str | None
    step: int
    root_train: bool
    disabled: bool = False
    has_graph: bool = False
    consumed: bool = False
    function: str = ""
    bypassed: bool = False
    graph: weakref.ref[hooks.Marker] | None = None

    @property
    def alive(self) -> bool:
        """Whether its graph still exists."""
        return self.graph is not None and self.graph() is not None


@dataclass(slots=True)
class Stepping:
    """What a watch knows of one optimizer; holds it weakly."""

    ref: weakref.ref[Any]
    held: Held
    own: list[nn.Parameter]
    """Its parameters that belong to the model."""
    count: int
    given: bool
    steps: int = 0
    grads: Grads = Grads.ABSENT
    wiped: str | None = None
    cycles: int = 0
    """Backwards whose gradients were cleared again with no step between."""
    scaled: bool = False
    scale_line: str | None = None
    sentinel: nn.Parameter | None = None
    mark: tuple[int, int] | None = None
    """The sentinel gradient's address and version right after the last step."""
    dirty: str | None = None
    """The backward that added to gradients which a step had already used."""
    before: tuple[int, int] | None = None
    empty: int = 0
    coverage: object = None
    missing: bytes = b""
    missing_rounds: int = 0
    unmoved: int = 0
    samples: list[tuple[int, torch.Tensor]] = field(default_factory=list)
    closure: bool = False
    offset: int = 0
    attempts: int = 0


@dataclass(slots=True)
class Plan:
    """Prepared lists for the hot path: dicts and parameters, never the root module itself."""

    names: list[str]
    acting: list[int]
    """Positions of the modules whose flag matters; the root first."""
    flag_dicts: list[dict[str, Any]]
    parameters: list[nn.Parameter]
    parameter_names: list[str]
    tuners: list[dict[str, Any]]
    pairs: list[tuple[dict[str, Any], dict[str, Any]]]
    has_adapters: bool
    scalings: list[dict[str, Any]]
    rhythm: int = 1
    """Everything is read again every so many steps: 1 below 900 parameters or so."""
    shape: int = 0


class Watch:
    """Made by `watch()`; a context manager. `report` fills as the block runs."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: Any,
        phase: str | None,
        expect: Expect | None,
        allow_eval: Kept,
        allow_train: Kept,
        select: str | Iterable[str] | None,
        ignore: str | Iterable[str] | None,
        on_violation: Action,
        every: int,
        report: str | os.PathLike[str] | None,
    ) -> None:
        self._closed = True
        self._entered = False
        check_model(model)
        given = check_optimizers(optimizer)
        self._phase = check_phase(phase)
        self._codes = selected(select, ignore)
        self._action = _check_action(on_violation)
        if not isinstance(every, int) or isinstance(every, bool) or every < 1:
            raise ValueError(f"every: expected a number of steps from 1, got {every!r}")
        self._every = every
        self._path = report
        if report is not None and not str(report).endswith((".json", ".html")):
            raise ValueError(f"report: expected a path that ends in .json or .html, got {report!r}")
        state = observe(model)
        self._expect = check_expect(expect, state)
        self._keep_eval, self._keep_train = _kept_names(
            state, allow_eval, allow_train, self._expect
        )
        self._root: weakref.ref[nn.Module] = weakref.ref(model)
        inner = unwrap(model)
        self._inner: weakref.ref[nn.Module] = weakref.ref(inner)
        self._wrapped = inner is not model
        self._parallel = any(
            type(m).__name__ in ("DistributedDataParallel", "DataParallel") for m in _chain(model)
        )
        self._given = [weakref.ref(o) for o in given]
        self.report = Report()
        self.only_training = False
        """Say nothing about a model that never trains (`pytest --trainlint`)."""
        self.close_on_raise = False
        """For callbacks, which have no `with` block that would close the watch."""
        self.threads: set[int] = set()
        self._plan: Plan | None = None
        self._handles: list[Any] = []
        self._reset()

    def _reset(self) -> None:
        self._stacks: dict[int, list[Forward]] = {}
        self._pending: list[Forward] = []
        self._deferred: list[Verdict] = []
        self._old: list[Forward] = []
        self._evals: list[Forward] = []
        self._optimizers: dict[int, Stepping] = {}
        self._strangers: set[int] = set()
        self._switches: list[Switch] = []
        self._seen: set[object] = set()
        self._rooted = False
        self._led: frozenset[str] = frozenset()
        self._good: set[tuple[bool, bytes, int]] = set()
        self._judged_state: object = None
        self._judged_status: object = None
        self._judge_next = True
        self._trained = False
        self._backwards = 0
        self._since_step = 0
        """Backwards of ours since the last step."""
        self._forwards = 0
        """Forwards with gradients on since the last backward."""
        self._last: Forward | None = None
        self._scale_next = False
        self._scale_line: str | None = None
        self._cut: str | None = None
        self._fused = False
        self._requires: bytes = b""
        self._diagnosis: dict[str, bool] | None = None
        self._diagnosed: list[str] = []
        self._diagnosis_handles: list[Any] = []
        self._root_flag: bool | None = None
        self._known_flags: bytes | None = None
        self._changed = True
        """Something was called since the last look that may have changed more than flags."""
        self._root_assigned = False
        self._probes = 0
        self._probe: list[str] | None = None
        self._buffers: list[tuple[str, torch.Tensor, torch.Tensor]] = []
        self._lazy: list[tuple[str, _Attribute, torch.Tensor]] = []
        self._unprobe: tuple[Any, Any] | None = None
        self._scaled_now = False
        self._ranks: Any = None
        self._shells: list[weakref.ref[nn.Module]] = []

    # --- opening and closing ------------------------------------------------------------------

    def __enter__(self) -> Watch:
        if not self._closed:
            raise RuntimeError("this watch is already open: make another with `watch(...)`")
        root = self._root()
        if root is None:
            raise RuntimeError("the model of this watch no longer exists")
        self._entered = True
        self._reset()
        self.report = Report()
        self._closed = False
        self.threads.add(threading.get_ident())
        me = weakref.ref(self)  # no cycle: a watch left open is to be collected at once
        self._root = weakref.ref(root, lambda _: _forget(me))
        try:
            self._prepare()
            self._hook(root)
            patches.attach(self)
            self._start_ranks()
        except BaseException:
            self.close()
            raise
        for ref in self._given:
            optimizer = ref()
            if optimizer is not None:
                self._stepping(optimizer)
        return self

    def _hook(self, root: nn.Module) -> None:
        inner = self._inner()
        targets = [root] if inner is None or inner is root else [root, inner]
        if type(root).__name__ == "OptimizedModule":
            targets = [root]  # a hook inside would be traced
        for module in targets:
            self._hook_one(module)
        if "torch._dynamo" in sys.modules:
            for found in gc.get_objects():
                if type(found).__name__ == "OptimizedModule":
                    self.on_compiled(found)

    def on_compiled(self, compiled: nn.Module) -> None:
        """`torch.compile` wrapped a module, before or during the watch: ours."""
        if self._closed or compiled is self._root():
            return
        inner = self._inner()
        if inner is not None and unwrap(compiled) is inner:
            self._shells.append(weakref.ref(compiled))
            self._hook_one(compiled)

    def _watched(self, module: nn.Module) -> bool:
        """Whether a hook fired for the model, and not for a copy that took the hook along."""
        if module is self._root() or module is self._inner():
            return True
        return any(module is ref() for ref in self._shells)

    def _hook_one(self, module: nn.Module) -> None:
        self._handles.append(module.register_forward_pre_hook(hooks.ForwardBegins(self)))
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
        found = [*self._deferred, *self._unused(final=True)]
        self._deferred = []
        for stepping in list(self._optimizers.values()):
            optimizer = stepping.ref()
            if optimizer is not None and stepping.grads is Grads.FRESH and not self.report.steps:
                found.append(_never_stepped(stepping))
        if not self.report.steps and self._backwards and not self._optimizers:
            found += self._never_stepped_by_anyone()
        self._emit(found, None)

    def _never_stepped_by_anyone(self) -> list[Verdict]:
        plan = self._plan
        if plan is None:
            return []
        ids = {id(p) for p in plan.parameters}
        for optimizer in _live_optimizers():
            if any(id(p) in ids for g in optimizer.param_groups for p in g["params"]):
                return [_never_stepped(None)]
        return []

    def close(self) -> None:
        """Remove every hook and patch; also writes the report. Harmless if closed."""
        if self._closed:
            return
        self._closed = True
        patches.detach(self)
        self._stop_probe()
        for handle in (*self._handles, *self._diagnosis_handles):
            handle.remove()
        self._handles, self._diagnosis_handles = [], []
        if self._ranks is not None:
            self._ranks.leave(self.report.steps)
            self._ranks = None
        self._plan = None
        self._optimizers = {}
        self._pending, self._old, self._evals, self._stacks = [], [], [], {}
        self._buffers, self._lazy = [], []
        if self._path is not None:
            self.report.write(self._path)

    def forget(self) -> None:
        """The model is gone: let go of its parameters too."""
        self._plan = None
        self._optimizers = {}
        self._pending, self._old, self._evals = [], [], []
        self._buffers = []

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            self.close()
            text = "a trainlint watch was left open: use `with watch(model): ...`"
            warnings.warn(text, ResourceWarning, stacklevel=2)
        elif not getattr(self, "_entered", True):
            text = "a trainlint watch was made and never entered: use `with watch(model): ...`"
            warnings.warn(text, ResourceWarning, stacklevel=2)

    # --- prepared lists -----------------------------------------------------------------------

    def _prepare(self) -> None:
        root = self._root()
        if root is None:
            self._plan = None
            return
        state = observe(root)
        acting = [0, *(i for i in state.sensitive if i != 0)]
        pairs = [(m._modules, m._parameters) for _, m in state.modules]
        tuners = [x.module.__dict__ for x in state.layers]
        if state.peft is not None:
            tuners.append(state.peft.__dict__)
        scalings = [d["scaling"] for d in tuners if isinstance(d.get("scaling"), dict)]
        self._plan = Plan(
            names=[n for n, _ in state.modules],
            acting=acting,
            flag_dicts=[state.modules[i][1].__dict__ for i in acting],
            parameters=[p for _, p in state.parameters],
            parameter_names=[n for n, _ in state.parameters],
            tuners=tuners,
            pairs=pairs,
            has_adapters=state.has_adapters,
            scalings=scalings,
            rhythm=max(1, (len(state.parameters) // _AT_ONCE) ** 2 // 3),
        )
        self._known_flags = None
        self._plan.shape = self._shape()
        self._good = set()
        self._judged_state = None
        self._judge_next = True
        for stepping in self._optimizers.values():
            self._refresh(stepping)

    def _shape(self) -> int:
        """Changes when anything is added, removed, replaced or scaled to nothing."""
        plan = self._plan
        if plan is None:
            return 0
        total = 0
        for children, parameters in plan.pairs:
            for child in children.values():
                total += id(child)
            for parameter in parameters.values():
                total += id(parameter)
        for scaling in plan.scalings:
            for value in scaling.values():
                if value == 0:
                    total += 1
        return total

    def _flags(self) -> bytes:
        """The flags that matter; read again if `train()` was called, or on a step that looks."""
        plan = self._plan
        if plan is None:
            return b""
        if self._known_flags is None or self._close_look():
            self._known_flags = bytes(map(_flag, plan.flag_dicts))
        return self._known_flags

    def _close_look(self) -> bool:
        """Whether this step reads everything again: always, but now and then in huge models."""
        plan, steps = self._plan, self.report.steps
        return plan is None or steps <= _CLOSE_STEPS or steps % plan.rhythm == 0

    def _tuner_state(self) -> list[object]:
        plan = self._plan
        if plan is None:
            return []
        result: list[object] = []
        for d in plan.tuners:
            active = d.get("_active_adapter", d.get("active_adapter"))
            merged = d.get("merged_adapters", ())
            disabled = d.get("_disable_adapters", d.get("_adapters_disabled"))
            result.append(
                (disabled, active if type(active) is str else tuple(active or ()), len(merged))
            )
        return result

    def _observe(self) -> Observation | None:
        root = self._root()
        return None if root is None else observe(root)

    def _modes(self, state: Observation) -> Modes:
        by_name = {n: i for i, (n, _) in enumerate(state.modules)}
        names = {id(m): n for n, m in state.modules}
        root = self._root()
        if root is not None:
            for shell in _chain(root):
                names[id(shell)] = ""
        return Modes(
            frozenset(by_name[n] for n in self._keep_eval if n in by_name),
            frozenset(by_name[n] for n in self._keep_train if n in by_name),
            self._switches,
            names,
        )

    # --- findings -----------------------------------------------------------------------------

    def _emit(self, verdicts: Sequence[Verdict], place: str | None) -> None:
        """Report what is new; raise, warn, log or call for what acts."""
        fresh: list[Violation] = []
        for verdict in fold(verdicts):
            if verdict.key in self._seen:
                continue
            if verdict.code in self._led or (self._rooted and verdict.code in _CONSEQUENCES):
                continue
            self._seen.add(verdict.key)
            self._led |= FOLLOWS.get(verdict.code, frozenset())
            if is_root(verdict):
                self._rooted = True
            if verdict.code not in self._codes:
                continue
            step = self.report.steps + 1
            fresh.append(violation(verdict, step, place))
        self.report.violations.extend(fresh)
        acting = [v for v in fresh if v.acts]
        if not acting:
            return
        if callable(self._action):
            for found in acting:
                self._action(found)
        elif self._action == "raise":
            if self.close_on_raise:
                self.close()
            raise TrainingStateError(acting)
        else:
            for found in acting:
                if self._action == "warn":
                    warnings.warn(str(found), TrainingStateWarning, stacklevel=3)
                else:
                    level = logging.ERROR if found.severity == "error" else logging.WARNING
                    logger.log(level, "%s", found)

    # --- modes --------------------------------------------------------------------------------

    def on_train(self, module: nn.Module, mode: bool) -> None:
        """`train()` or `eval()` was called on this module, ours or not."""
        plan = self._plan
        if plan is None:
            return
        who = caller(3)
        self._switches.append(Switch(id(module), mode, who.where, who.through, len(self._switches)))
        if len(self._switches) > 2000:
            del self._switches[:1000]
        self._root_flag = None
        self._known_flags = None
        self._changed = True

    def on_forward(self, module: nn.Module) -> None:
        """A forward of the root, or of the module inside its wrappers, begins."""
        if self._closed or not self._watched(module):
            return
        thread = threading.get_ident()
        self.threads.add(thread)
        stack = self._stacks.setdefault(thread, [])
        grad = torch.is_grad_enabled()
        plan = self._plan
        if stack or plan is None:
            stack.append(stack[0] if stack else Forward(grad, b"", None, 0, True))
            return
        self._notice_assignment(plan)
        flags = self._flags()
        line, function = place_of(3)
        forward = Forward(grad, flags, line, self.report.steps, bool(flags[0]), function=function)
        forward.bypassed = self._parallel and module is self._inner() and module is not self._root()
        stack.append(forward)
        self._last = forward
        found = [*self._deferred, *self._unused()]
        self._deferred = []
        if plan.tuners:
            forward.disabled = _passes_by(plan.tuners)
        if grad:
            self._forwards += 1
            if self._judge_next and not self.report.steps and plan.has_adapters:
                found += self._judge_status()
            if self._phase is not None:
                found += self._judge_forward(forward)
        else:
            # a backward that follows shows that this was meant to train: wait for the next event
            self._deferred = [
                judge.with_line(v, forward.where) if v.cause == "eval" else v
                for v in self._judge_evaluation(forward)
            ]
        self._emit(found, forward.where)
        if not grad and not forward.disabled:
            self._start_probe(forward)

    def _notice_assignment(self, plan: Plan) -> None:
        """`model.training = ...` leaves no trace but a flag that changed with no call."""
        flag = plan.flag_dicts[0]["training"] is True
        if self._root_flag is not None and flag != self._root_flag:
            self._root_assigned = True
        self._root_flag = flag

    def _judge_forward(self, forward: Forward) -> list[Verdict]:
        """The phase was declared: no need to wait for a backward."""
        if self._phase == "eval":
            return self._judge_flags(forward, training=False)
        return self._judge_flags(forward, training=True)

    def _judge_flags(self, forward: Forward, *, training: bool) -> list[Verdict]:
        key = (training, forward.flags, len(self._switches) if training else 0)
        if key in self._good or forward.disabled:
            return []
        state = self._observe()
        plan = self._plan
        if state is None or plan is None:
            return []
        flags = bytearray(state.flags())
        for position, flag in zip(plan.acting, forward.flags, strict=False):
            if position < len(flags):
                flags[position] = flag
        modes = self._modes(state)
        if training:
            found = judge.train_mode(state, flags, modes)
            if self._root_assigned and found and flags[0] and found[0].code in ("TL101", "TL107"):
                text = "`training` was assigned on the outermost module and did not reach the rest"
                found = [replace(found[0], code="TL104", message=f"{text}: {found[0].message}")]
        else:
            trained = self._trained or bool(self._optimizers)
            found = judge.eval_mode(state, flags, modes, trained=trained)
        if not found:
            self._good.add(key)
        return found

    def _judge_evaluation(self, forward: Forward) -> list[Verdict]:
        """Gradients are off: nothing trains on this forward. Is all that acts in eval mode."""
        found: list[Verdict] = []
        if self._judge_next and self._plan is not None and self._plan.has_adapters:
            found += self._judge_status()
        plan = self._plan
        if plan is None or not any(forward.flags) or (self.only_training and not self._trained):
            return found
        who = caller(4)
        if _is_exempt(who.through, who.function):
            return found
        return found + self._judge_flags(forward, training=False)

    def _judge_status(self) -> list[Verdict]:
        key = ("status", self._tuner_state())
        if key == self._judged_status:
            return []
        state = self._observe()
        if state is None:
            return []
        self._judged_status = key
        return [v for v in judge.adapters(state, training=False) if v.code in ("TL413", "TL417")]

    # --- the end of a forward -----------------------------------------------------------------

    def on_forward_end(self, module: nn.Module, output: object) -> None:
        """The forward is over; `output` is None if it raised."""
        if self._closed or not self._watched(module):
            return
        stack = self._stacks.get(threading.get_ident())
        if not stack:
            return
        forward = stack.pop()
        if stack:
            return
        line = forward.where
        found = self._stop_probe()
        if forward.grad and torch.is_grad_enabled():
            graphs = hooks.tensors(output)
            if graphs:
                forward.has_graph = True
                forward.graph = hooks.mark(graphs, forward)
                self._pending.append(forward)
                if len(self._pending) > _MANY_FORWARDS:
                    self._old.append(self._pending.pop(0))
        if found:
            self._emit(found, line)

    def _start_probe(self, forward: Forward) -> None:
        """In the first evaluations: does dropout act though nothing is in train mode."""
        plan = self._plan
        if plan is None or any(forward.flags) or self._probes >= 2:
            return
        root = self._root()
        if root is None or type(root).__name__ == "OptimizedModule" or self._shells:
            return
        self._probes += 1
        self._probe = []
        self._remember_buffers(root)
        hits, thread = self._probe, threading.get_ident()
        functional = nn.functional
        dropout, attention = functional.dropout, functional.scaled_dot_product_attention

        def probed(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
            if training and p > 0 and threading.get_ident() == thread:
                hits.append(f"`F.dropout` at {_line_above()}")
            return dropout(input, p, training, inplace)

        def attended(*args: Any, **kwargs: Any) -> Any:
            rate = kwargs.get("dropout_p", args[4] if len(args) > 4 else 0.0)
            if isinstance(rate, float) and rate > 0 and threading.get_ident() == thread:
                hits.append(f"`scaled_dot_product_attention(dropout_p={rate})` at {_line_above()}")
            return attention(*args, **kwargs)

        functional.dropout = probed
        functional.scaled_dot_product_attention = attended
        self._unprobe = (dropout, attention)

    def _remember_buffers(self, root: nn.Module) -> None:
        """Running statistics and lazily computed weights, before an evaluation."""
        self._buffers = []
        for name, module in judge_walk(root):
            hidden = module._non_persistent_buffers_set
            for key, value in module._buffers.items():
                if value is not None and key not in hidden and value.numel() <= 65_536:
                    self._buffers.append(
                        (f"{name}.{key}".lstrip("."), value, value.detach().clone())
                    )
            if any(type(h).__name__ == "SpectralNorm" for h in module._forward_pre_hooks.values()):
                value = module.__dict__.get("weight")
                if isinstance(value, torch.Tensor):
                    holder = _Attribute(module, "weight")
                    self._lazy.append((f"{name}.weight", holder, value.detach().clone()))

    def _stop_probe(self) -> list[Verdict]:
        if self._unprobe is None:
            return []
        nn.functional.dropout, nn.functional.scaled_dot_product_attention = self._unprobe
        self._unprobe = None
        hits, self._probe = self._probe or [], None
        found: list[Verdict] = []
        if hits:
            text = f"dropout acts though the whole model is in eval mode: {hits[0]}"
            advice = "pass `training=self.training`, or use nn.Dropout"
            found.append(Verdict("TL501", text, help=advice, cause="functional"))
        moved = [n for n, now, was in self._buffers if _differs(now, was)]
        moved += [n for n, holder, was in self._lazy if _differs(holder.now(), was)]
        self._buffers, self._lazy = [], []
        if moved:
            text = f"an evaluation forward changed {grouped(moved)}"
            found.append(Verdict("TL704", text, (), tuple(moved), cause="eval"))
        return found

    # --- forwards that no backward used -------------------------------------------------------

    def _unused(self, *, final: bool = False) -> list[Verdict]:
        """Forwards that recorded a graph for nothing."""
        if not self._pending and not self._old:
            return []
        keep: list[Forward] = []
        found: list[Verdict] = []
        for forward in (*self._old, *self._pending):
            if forward.consumed:
                continue
            over = final or not forward.alive
            over = over or (not forward.root_train and self.report.steps > forward.step)
            if not over:
                keep.append(forward)
            else:
                found += self._judge_unused(forward)
        self._old, self._pending = [], keep[-_MANY_FORWARDS:]
        return found

    def _judge_unused(self, forward: Forward) -> list[Verdict]:
        if forward.disabled or self._phase == "train":
            return []
        if self.only_training and not self._trained:
            return []
        named = forward.function.strip("_").startswith(_EVALUATES)
        evaluates = self._phase == "eval" or not forward.root_train or named
        if not evaluates:
            return []
        if forward.root_train and self._phase is None:
            verdicts = self._judge_flags(forward, training=False)
            return [judge.with_line(v, forward.where) for v in verdicts]
        text = (
            "an evaluation records a graph that nothing uses: gradients are on, no backward "
            "follows (memory and time lost)"
        )
        advice = "wrap the evaluation in `with torch.no_grad():`"
        return [Verdict("TL201", text, help=advice, cause="graph", line=forward.where)]

    def _judge_retained(self) -> list[Verdict]:
        """Graphs that outlive their step."""
        if "TL213" not in self._codes:
            return []
        self._evals = [f for f in self._evals if f.alive]
        if len(self._evals) <= _RETAINED:
            return []
        count = len(self._evals)
        text = f"the graphs of {count} earlier forwards are still alive: something keeps them"
        advice = "keep `loss.item()` or `loss.detach()`, not the loss"
        return [Verdict("TL213", text, help=advice, cause="kept", line=self._evals[0].where)]

    # --- backward -----------------------------------------------------------------------------

    def before_backward(self, given: Any) -> None:
        """A backward is about to run in one of our threads."""
        if self._closed or self._plan is None:
            return
        losses = [given] if isinstance(given, torch.Tensor) else list(given)
        losses = [t for t in losses if isinstance(t, torch.Tensor)]
        place = where(3)
        if not losses:
            return
        scaled, self._scale_next = self._scale_next, False
        for stepping in self._optimizers.values():
            self._before(stepping, scaled, place)
        deferred, self._deferred = self._deferred, []
        if all(t.grad_fn is None for t in losses):
            found = self._graphless(losses)
            self._emit(found + self._compare_ranks() if found else found, place)
            return
        if not any(t.requires_grad for t in losses):
            return
        self._emit(deferred, place)
        ours = self._ours(losses)
        if not ours:
            return
        found = []
        for forward in ours:
            found += self._judge_flags(forward, training=True) if self._phase != "eval" else []
            if forward.bypassed:
                text = "the trained forward went through `.module`: gradients are not averaged"
                advice = "call the DistributedDataParallel wrapper itself"
                found.append(
                    Verdict("TL601", text, help=advice, cause="bypass", line=forward.where)
                )
        if self._judge_next or self.report.steps < _CLOSE_STEPS:
            found += self._judge_training()
        found += self._compare_ranks()
        if found:
            for forward in ours:  # whatever becomes of this backward, it was meant for them
                forward.consumed = True
        self._emit(found, place)

    def _ours(self, losses: list[torch.Tensor]) -> list[Forward]:
        """The pending forwards that this loss leads back to."""
        marked = [f for f in self._pending if not f.consumed and f.alive]
        refs = [f.graph for f in marked if f.graph is not None]
        return [marked[i] for i in sorted(hooks.reaches(losses, refs))]

    def _before(self, stepping: Stepping, scaled: bool, place: str | None) -> None:
        sentinel = stepping.sentinel
        grad = None if sentinel is None else sentinel.grad
        now = None if grad is None else _stamp(grad)
        stepping.before = now
        if stepping.dirty is None and now is not None and now == stepping.mark:
            stepping.dirty = place
        if grad is None:
            stepping.dirty = None
        stepping.mark = None
        if scaled:
            stepping.scale_line = self._scale_line
        self._scaled_now = scaled

    def _graphless(self, losses: list[torch.Tensor]) -> list[Verdict]:
        """A loss without a graph: torch raises, or trains nothing."""
        last = self._last
        if not self._forwards and (last is None or last.grad):
            return []
        if last is None or self._phase == "eval":
            return []
        if any(t.requires_grad for t in losses):
            text = (
                "backward on a loss that was cut from its graph and made to require grad again: "
                "no parameter gets a gradient"
            )
            advice = "call backward on the loss itself, not on a copy of its value"
            return [Verdict("TL212", text, help=advice, cause="cut")]
        state = self._observe()
        if state is not None:
            found = [v for v in judge.adapters(state, training=True) if is_root(v)]
            if found:
                return found
            if not state.trainable():
                names = tuple(n for n, _ in state.parameters)
                text = f"all {len(names)} parameters of the model are frozen: nothing will train"
                return [Verdict("TL301", text, (), names, cause="coverage")]
        if not last.grad and self._trained and not torch.is_grad_enabled():
            text = (
                "gradients were turned off after the last training step and never on again: the "
                f"loss was computed without them (the forward at {last.where})"
            )
            advice = "use `with torch.no_grad():`, which ends with its block"
            return [Verdict("TL204", text, help=advice, cause="off")]
        if not last.grad:
            text = f"the loss was computed with gradients off (the forward at {last.where})"
            advice = "run the trained forward outside `torch.no_grad()`"
            if not torch.is_grad_enabled():
                advice += " and turn gradients on again after the evaluation"
            return [Verdict("TL203", text, help=advice, cause="off")]
        if not last.has_graph and not self._pending:
            return []
        text = "backward on a loss that was cut from its graph (`.item()`, `.detach()`, numpy ...)"
        return [Verdict("TL212", text, cause="cut")]

    def _judge_training(self) -> list[Verdict]:
        """The model trains: can it, and as it was declared."""
        plan = self._plan
        if plan is None:
            return []
        self._judge_next = False
        if not self._close_look() and not self._changed:
            return []
        self._changed = False
        if self._slow() and self._shape() != plan.shape:
            self._prepare()
            plan = self._plan
            if plan is None:
                return []
        requires = bytes(map(_requires, plan.parameters))
        key = (requires, self._tuner_state())
        if key == self._judged_state:
            return []
        self._judged_state = key
        changed = bool(self._requires) and requires != self._requires
        self._requires = requires
        if changed:
            for stepping in self._optimizers.values():
                self._refresh(stepping)
        state = self._observe()
        if state is None:
            return []
        found = unmet(self._expect, state, training=True)
        found += judge.adapters(state, training=True)
        if not state.trainable() and not any(is_root(v) for v in found):
            names = tuple(n for n, _ in state.parameters)
            text = (
                f"all {len(names)} parameters are frozen; the loss requires grad only because the "
                "inputs do: no weight will move"
            )
            found.append(Verdict("TL301", text, (), names, cause="coverage"))
        if not self.report.steps:
            found += judge.misset(state)
            found += judge.unregistered(state)
        return found

    def _slow(self) -> bool:
        """Whether this step is one at which the structure is walked."""
        plan = self._plan
        steps = self.report.steps
        rhythm = 1 if plan is None else plan.rhythm * max(1, len(plan.names) // 2000)
        return steps <= _CLOSE_STEPS or steps % rhythm == 0

    def after_backward(self) -> None:
        """A backward in one of our threads is over."""
        if self._closed or self._plan is None:
            return
        used = [f for f in self._pending if f.consumed]
        if used:
            self._pending = [f for f in self._pending if not f.consumed]
            self._evals.extend(f for f in used if f.alive)
            self._trained = True
            self._backwards += 1
            self._since_step += 1
            self._forwards = 0
        else:
            self._since_step += 1 if self._forwards else 0
        filled = [self._after(stepping) for stepping in self._optimizers.values()]
        if any(filled) and not used and not self._forwards and not self._pending:
            self._judge_blind()

    def _judge_blind(self) -> None:
        """Gradients arrived and no forward was seen (`module.compile()`): judge what is now."""
        flags = self._flags()
        self._trained = True
        self._backwards += 1
        self._since_step += 1
        forward = Forward(True, flags, None, self.report.steps, bool(flags[0]))
        found = [] if self._phase == "eval" else self._judge_flags(forward, training=True)
        if self._judge_next or self.report.steps < _CLOSE_STEPS:
            found += self._judge_training()
        self._emit(found, where(4))

    def _after(self, stepping: Stepping) -> bool:
        """Whether this backward filled an optimizer's gradients."""
        sentinel = stepping.sentinel
        if sentinel is None or sentinel.grad is None:
            sentinel = next((p for p in stepping.own if p.grad is not None), None)
            stepping.sentinel = sentinel
            if sentinel is None or sentinel.grad is None:
                return False
            stepping.before = None
        if stepping.before is not None and _stamp(sentinel.grad) == stepping.before:
            return False
        stepping.grads = Grads.FRESH
        stepping.wiped = None
        stepping.scaled = stepping.scaled or self._scaled_now
        return True

    # --- what happens around backward and step ------------------------------------------------

    def on_scale(self) -> None:
        """A GradScaler scaled a loss."""
        self._scale_next = True
        self._scale_line = where(3)

    def on_unscale(self, optimizer: Any) -> None:
        """`unscale_` ran."""
        stepping = self._optimizers.get(id(optimizer))
        if stepping is not None:
            stepping.scaled = False

    def on_scaler_step(self, optimizer: Any) -> None:
        """`scaler.step` ran; it may have skipped the optimizer's own step."""
        stepping = self._optimizers.get(id(optimizer))
        if stepping is not None:
            stepping.attempts += 1
            stepping.scaled = False
            stepping.dirty = None
            stepping.mark = None
            stepping.cycles = 0

    def on_checkpoint_cut(self) -> None:
        """A reentrant checkpoint ran on inputs of which none requires grad."""
        stack = self._stacks.get(threading.get_ident())
        if stack and stack[0].grad:
            self._cut = where(3)

    def on_scheduler(self, scheduler: Any) -> None:
        """A learning rate scheduler is about to step."""
        optimizer = getattr(scheduler, "optimizer", None)
        stepping = self._optimizers.get(id(optimizer))
        if stepping is None and isinstance(optimizer, torch.optim.Optimizer):
            stepping = self._stepping(optimizer)
        if stepping is None or stepping.steps or stepping.attempts:
            return
        if getattr(scheduler, "_is_initial", False) or getattr(scheduler, "_step_count", 0) != 1:
            return
        if getattr(optimizer, "_opt_called", False):
            return
        text = (
            "the scheduler steps before the optimizer's first step: the first learning rate is lost"
        )
        advice = "call `optimizer.step()` before `scheduler.step()`"
        self._emit([Verdict("TL208", text, help=advice, cause="order")], where(3))

    def on_zero_grad(self, optimizer: Any) -> None:
        """An optimizer cleared its gradients."""
        if self._closed or self._plan is None:
            return
        stepping = self._optimizers.get(id(optimizer))
        if stepping is None and id(optimizer) not in self._strangers:
            stepping = self._stepping(optimizer)
        if stepping is not None:
            self._clear(stepping)

    def on_module_zero_grad(self, module: nn.Module) -> None:
        """A module cleared its gradients."""
        if self._closed or self._plan is None:
            return
        root = self._root()
        if root is not None and any(module is shell for shell in _chain(root)):
            for stepping in self._optimizers.values():
                self._clear(stepping)

    def _clear(self, stepping: Stepping) -> None:
        stepping.dirty = None
        stepping.mark = None
        stepping.scaled = False
        if stepping.grads is Grads.FRESH:
            stepping.grads = Grads.WIPED
            stepping.wiped = where(4)
            stepping.cycles += 1
            optimizer = stepping.ref()
            if stepping.cycles >= 3 and not stepping.closure and optimizer is not None:
                alone = len(self._optimizers) == 1
                if alone and not self._fused:
                    self._emit([_never_stepped(stepping)], where(4))
        elif stepping.grads is not Grads.WIPED:
            stepping.grads = Grads.CLEARED

    def on_clip(self, parameters: list[Any], limit: float) -> None:
        """Gradients are about to be clipped."""
        if self._closed or self._plan is None or limit == float("inf") or patches.local.backward:
            return
        stepping = self._clipped(parameters)
        if stepping is None:
            return
        place = where(3)
        found: list[Verdict] = []
        if stepping.scaled and not patches.local.scaler_step:
            text = (
                "gradients are clipped while they are still multiplied by the GradScaler's factor: "
                "the clipped update nearly vanishes"
            )
            advice = "call `scaler.unscale_(optimizer)` before clipping"
            found.append(Verdict("TL211", text, help=advice, cause="clip"))
        elif stepping.grads is Grads.CONSUMED and stepping.steps:
            text = "gradients are clipped after the step that used them"
            advice = "clip between backward and step"
            found.append(Verdict("TL210", text, help=advice, cause="clip"))
        elif stepping.grads in (Grads.CLEARED, Grads.WIPED) and self._forwards:
            text = "gradients are clipped before the backward that fills them"
            advice = "clip between backward and step"
            found.append(Verdict("TL210", text, help=advice, cause="clip"))
        elif stepping.mark is not None:
            stepping.mark = None
        self._emit(found, place)

    def _clipped(self, parameters: list[Any]) -> Stepping | None:
        """The optimizer whose gradients are clipped."""
        first = {id(p) for p in parameters[:64]} | {
            id(p.grad)
            for p in parameters[:64]
            if isinstance(p, torch.Tensor) and p.grad is not None
        }
        for stepping in self._optimizers.values():
            sentinel = stepping.sentinel
            if sentinel is not None and id(sentinel) in first:
                return stepping
            if any(id(p) in first for p in stepping.own):
                return stepping
        return None

    def on_disable_left(
        self, owner: nn.Module, before: list[tuple[str, nn.Parameter, bool]]
    ) -> None:
        """`with disable_adapter()` was left: did it unfreeze what was frozen on purpose."""
        if self._closed or self._plan is None:
            return
        ids = {id(p) for p in self._plan.parameters}
        thawed = [n for n, p, was in before if not was and p.requires_grad and id(p) in ids]
        if not thawed:
            return
        text = (
            f"leaving `with disable_adapter()` unfroze {grouped(thawed)}, frozen before it "
            "(peft enables what is active, frozen or not)"
        )
        advice = "freeze it again after the block"
        verdict = Verdict("TL415", text, (), tuple(thawed), help=advice, cause="thawed")
        self._emit([verdict], where(3))

    # --- step ---------------------------------------------------------------------------------

    def _stepping(self, optimizer: Any) -> Stepping | None:
        """What is known of an optimizer, if it is one of ours."""
        known = self._optimizers.get(id(optimizer))
        groups: list[dict[str, Any]] = optimizer.param_groups
        if known is not None and known.ref() is optimizer:
            count = sum(len(group["params"]) for group in groups)
            if count != known.count:
                self._refresh(known)
            return known
        plan = self._plan
        if plan is None:
            return None
        given = any(ref() is optimizer for ref in self._given)
        ids = {id(p) for p in plan.parameters}
        parameters = [p for g in optimizer.param_groups for p in g["params"]]
        if not given and not any(id(p) in ids for p in parameters):
            self._strangers.add(id(optimizer))
            return None
        held = Held(type(optimizer).__name__, [], [])
        stepping = Stepping(weakref.ref(optimizer), held, [], 0, given)
        self._optimizers[id(optimizer)] = stepping
        self._refresh(stepping)
        return stepping

    def _refresh(self, stepping: Stepping) -> None:
        optimizer, plan = stepping.ref(), self._plan
        if optimizer is None or plan is None:
            return
        ids = {id(p) for p in plan.parameters}
        parameters = [p for g in optimizer.param_groups for p in g["params"]]
        stepping.count = len(parameters)
        stepping.own = [p for p in parameters if id(p) in ids and p.requires_grad]
        if stepping.sentinel is not None and not stepping.sentinel.requires_grad:
            stepping.sentinel = None
        stepping.coverage = None

    def on_step_before(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        """An optimizer is about to step."""
        if self._closed or self._plan is None:
            return
        stepping = self._stepping(optimizer)
        if stepping is None:
            self._judge_stranger(optimizer)
            return
        closure = bool(kwargs.get("closure")) or (len(args) > 1 and callable(args[1]))
        closure = closure or (len(args) == 1 and callable(args[0]) and args[0] is not optimizer)
        stepping.closure = closure
        if patches.local.backward:
            self._fused = True  # optimizer-in-backward: one step per parameter, within a backward
            return
        if not closure:
            self._judge_step(stepping, optimizer)

    def on_step_after(self, optimizer: Any) -> None:
        """An optimizer stepped."""
        if self._closed or self._plan is None:
            return
        stepping = self._optimizers.get(id(optimizer))
        if stepping is None:
            return
        stepping.steps += 1
        if self._fused:
            stepping.grads = Grads.CONSUMED
            return
        found: list[Verdict] = []
        if stepping.closure:
            self._judge_step(stepping, optimizer)
        found += self._judge_movement(stepping, optimizer)
        found += self._judge_retained()
        place = where(3)
        self._emit(found, place)
        self.report.steps += 1
        if stepping.grads is Grads.FRESH:
            stepping.grads = Grads.CONSUMED
        stepping.cycles = 0
        stepping.scaled = False
        stepping.dirty = None
        sentinel = stepping.sentinel
        if sentinel is not None and sentinel.grad is not None:
            stepping.mark = _stamp(sentinel.grad)
        self._since_step = 0
        self._forwards = 0
        self._cut = None
        self._judge_next = self.report.steps % self._every == 0

    def _judge_step(self, stepping: Stepping, optimizer: Any) -> None:
        if self.report.steps % self._every and self.report.steps >= _CLOSE_STEPS:
            return
        place = where(4)
        scaler = patches.local.scaler_step > 0
        if stepping.scaled and not scaler:
            text = (
                "`optimizer.step()` on gradients still multiplied by the GradScaler's factor: the "
                "scaler was passed by"
            )
            advice = "call `scaler.step(optimizer)` and `scaler.update()`"
            related = (f"{stepping.scale_line}: the loss was scaled here",)
            verdict = Verdict("TL209", text, related=related, help=advice, cause="scaler")
            self._emit([verdict], place)
        sentinel = stepping.sentinel
        close = self._close_look() or sentinel is None or sentinel.grad is None
        found = self._judge_coverage(stepping)
        if close and not all(map(_requires, stepping.own)):
            state = self._observe()
            if state is not None:
                found += judge.moves_frozen(state, [judge.held(optimizer, state)])
        self._emit(found, place)
        if any(is_root(v) for v in found):
            return
        grads = bytes([1 if p.grad is None else 0 for p in stepping.own]) if close else b""
        if grads and all(grads):
            self._emit(self._judge_empty(stepping), place)
            return
        stepping.empty = 0
        found = self._judge_missing(stepping, grads) if close else []
        if stepping.dirty is not None:
            text = (
                "the gradients were not cleared between steps: this step uses gradients that the "
                "last one already used"
            )
            related = (f"{stepping.dirty}: this backward added to them",)
            advice = "call `optimizer.zero_grad()` once per step"
            found.append(Verdict("TL205", text, related=related, help=advice, cause="clear"))
        if not scaler:
            found += self._judge_finite(stepping)
            if not stepping.closure:
                self._sample(stepping, optimizer)
        self._emit(found, place)

    # --- coverage -----------------------------------------------------------------------------

    def _judge_coverage(self, stepping: Stepping) -> list[Verdict]:
        plan = self._plan
        if plan is None:
            return []
        key = (self._requires, id(plan), stepping.count, len(self._optimizers), self._trained)
        if key == stepping.coverage and self.report.steps > _CLOSE_STEPS:
            return []
        if key == stepping.coverage and not self._missing_grads(plan):
            return []
        stepping.coverage = key
        state = self._observe()
        if state is None:
            return []
        known = [o for s in self._optimizers.values() if (o := s.ref()) is not None]
        holders = [judge.held(o, state) for o in known]
        found = judge.coverage(state, holders, graded=True, created_before=created_before)
        if any(is_root(v) for v in found) and any(h.inside for h in holders):
            others = [o for o in _live_optimizers() if not any(o is k for k in known)]
            more = [h for h in (judge.held(o, state) for o in others) if h.inside]
            if more:
                again = judge.coverage(
                    state, [*holders, *more], graded=True, created_before=created_before
                )
                found = [v for v in again if not is_root(v)]
        return found + judge.moves_frozen(state, holders)

    def _missing_grads(self, plan: Plan) -> bool:
        """Whether more than the optimizers hold has a gradient."""
        held = {id(p) for s in self._optimizers.values() for p in s.own}
        return any(p.grad is not None and id(p) not in held for p in plan.parameters)

    def _judge_stranger(self, optimizer: Any) -> None:
        """An optimizer that holds nothing of ours steps after our backward: whose is it."""
        plan = self._plan
        if plan is None or not self._since_step or self._optimizers or not self._trained:
            return
        if threading.get_ident() not in self.threads or patches.local.backward:
            return
        if not any(p.grad is not None for p in plan.parameters):
            return
        ids = {id(p) for p in plan.parameters}
        for other in _live_optimizers():
            if any(id(p) in ids for g in other.param_groups for p in g["params"]):
                return
        state = self._observe()
        if state is None:
            return
        holder = judge.held(optimizer, state)
        if holder.flat:
            return
        shapes = {tuple(p.shape) for p in plan.parameters if p.requires_grad}
        alike = any(tuple(p.shape) in shapes and p.dim() > 1 for p in holder.parameters)
        if alike:
            self._emit(judge.coverage(state, [holder], graded=True), where(4))
            return
        names = tuple(
            n
            for n, p in zip(plan.parameter_names, plan.parameters, strict=False)
            if p.grad is not None
        )
        text = (
            f"no optimizer holds this network, yet every backward fills its gradients "
            f"({grouped(names)}) and nobody clears them"
        )
        advice = "freeze it with `requires_grad_(False)`"
        self._emit([Verdict("TL308", text, (), names, help=advice, cause="pile")], where(4))

    # --- gradients ----------------------------------------------------------------------------

    def _judge_empty(self, stepping: Stepping) -> list[Verdict]:
        """A step on no gradient at all: why."""
        names = self._names(stepping.own)
        stepping.empty += 1
        if stepping.grads is Grads.WIPED and not (stepping.empty > 1 and self._forwards):
            text = "the gradients were cleared between backward and step: the step does nothing"
            related = (f"{stepping.wiped}: cleared here",) if stepping.wiped else ()
            advice = "call `zero_grad()` before backward or after step"
            return [Verdict("TL206", text, related=related, help=advice, cause="wipe")]
        if self._forwards and (not self._since_step or stepping.grads is Grads.WIPED):
            text = "the optimizer steps before the backward that fills its gradients"
            advice = "call `loss.backward()` before `optimizer.step()`"
            return [Verdict("TL207", text, help=advice, cause="order")]
        if not self._since_step:
            return []
        if self._cut is not None:
            return [self._checkpoint_cut(names)]
        if self._forwards:
            text = "backward ran on a loss that was cut from the model's graph: no gradient arrived"
            return [Verdict("TL212", text, (), names, cause="cut")]
        if len(self._optimizers) > 1 and stepping.empty < _CLOSE_STEPS:
            return []
        text = f"none of the optimizer's parameters got a gradient: {grouped(names)}"
        return [Verdict("TL701", text, (), names, cause="none")]

    def _checkpoint_cut(self, names: tuple[str, ...]) -> Verdict:
        text = (
            "reentrant gradient checkpointing over a frozen base, and no input requires grad: "
            f"nothing inside gets a gradient ({grouped(names)})"
        )
        related = (f"{self._cut}: the checkpointed forward",)
        advice = "call `model.enable_input_require_grads()` or use `use_reentrant=False`"
        return Verdict("TL412", text, (), names, related=related, help=advice, cause="cut")

    def _names(self, parameters: Sequence[nn.Parameter]) -> tuple[str, ...]:
        plan = self._plan
        if plan is None:
            return ()
        by_id = {id(p): n for n, p in zip(plan.parameter_names, plan.parameters, strict=False)}
        return tuple(by_id[id(p)] for p in parameters if id(p) in by_id)

    def _judge_missing(self, stepping: Stepping, grads: bytes) -> list[Verdict]:
        """Some parameters got no gradient in this step."""
        if not any(grads):
            stepping.missing, stepping.missing_rounds = b"", 0
            return []
        if grads != stepping.missing:
            stepping.missing, stepping.missing_rounds = grads, 1
        else:
            stepping.missing_rounds += 1
        missing = [p for p, none in zip(stepping.own, grads, strict=False) if none]
        names = self._names(missing)
        if self._cut is not None:
            return [self._checkpoint_cut(names)]
        if stepping.missing_rounds == 1:
            self._diagnose(names)
        if stepping.missing_rounds != 2 or self._diagnosis is None:
            return []
        return self._diagnosed_missing(names)

    def _diagnose(self, names: Sequence[str]) -> None:
        """Watch the owners of these parameters for one step: did they run at all."""
        root = self._root()
        if root is None or len(self._diagnosed) > 200:
            return
        self._end_diagnosis()
        modules = dict(judge_walk(root))
        self._diagnosis = {}
        owners = {_owner(name, modules): None for name in names}
        for owner in list(owners)[:64]:
            self._diagnosed.append(owner)
            module = modules[owner]
            if _is_container(module):
                continue
            ran = hooks.Ran(self._diagnosis, owner)
            self._diagnosis_handles.append(module.register_forward_pre_hook(ran))

    def _end_diagnosis(self) -> None:
        for handle in self._diagnosis_handles:
            handle.remove()
        self._diagnosis_handles = []
        self._diagnosis = None

    def _diagnosed_missing(self, names: Sequence[str]) -> list[Verdict]:
        root = self._root()
        seen = self._diagnosis or {}
        self._end_diagnosis()
        if root is None:
            return []
        modules = dict(judge_walk(root))
        groups: dict[str, list[str]] = {"off": [], "on": [], "idle": []}
        for name in names:
            ran = seen.get(_owner(name, modules))
            groups["idle" if ran is None else "on" if ran else "off"].append(name)
        found = []
        off, on, idle = (tuple(groups[k]) for k in ("off", "on", "idle"))
        if off:
            text = f"computed with gradients off inside a trained forward: {grouped(off)} get none"
            advice = "run the part that is to be trained outside `torch.no_grad()`"
            found.append(Verdict("TL203", text, (), off, help=advice, cause="inside"))
        on = tuple(n for n in on if "shadow_update" not in n)  # unused in SHADOW's last layer
        if on:
            text = f"no gradient in two steps: {grouped(on)} ran, and the loss does not reach it"
            found.append(Verdict("TL701", text, (), on, cause="part"))
        if idle:
            text = f"no gradient in two steps: {grouped(idle)} took no part in the forward"
            found.append(Verdict("TL701", text, (), idle, severity=Severity.INFO, cause="idle"))
        return found

    def _judge_finite(self, stepping: Stepping) -> list[Verdict]:
        """NaN or infinity about to reach the parameters; never synchronises a GPU."""
        own = stepping.own
        steps = stepping.steps
        if len(own) > _FEW and steps >= _CLOSE_STEPS and steps % (2 * _SPARSE):
            stepping.offset = (stepping.offset + _TURN) % len(own)
            own = own[stepping.offset : stepping.offset + _TURN]
        grads = [p.grad for p in own if p.grad is not None]
        plain = [
            g
            for g in grads
            if type(g) is torch.Tensor and not g.is_sparse and g.device.type == "cpu"
        ]
        if not plain:
            return []
        with torch.no_grad():
            if len(plain) <= _TURN:
                fine = all(math.isfinite(float(g.sum())) for g in plain)
            else:
                fine = bool(torch.isfinite(torch.stack(torch._foreach_norm(plain))).all())
            if fine:
                return []
            bad = [
                p for p in stepping.own if p.grad is not None and not bool(p.grad.isfinite().all())
            ]
        if not bad:
            return []
        names = self._names(bad)
        text = f"NaN or infinity in the gradients of {grouped(names, self._names(stepping.own))}"
        return [Verdict("TL702", text, (), names, cause="finite")]

    # --- movement -----------------------------------------------------------------------------

    def _sample(self, stepping: Stepping, optimizer: Any) -> None:
        """Keep a few small parameters, to see whether the step moves them."""
        stepping.samples = []
        step = stepping.steps + 1
        if step not in (3, 4) and step % _SPARSE and not stepping.unmoved:
            return
        sized = sorted(
            (p.numel(), i)
            for i, p in enumerate(stepping.own)
            if p.grad is not None and type(p.grad) is torch.Tensor and p.device.type == "cpu"
        )
        for _, i in sized:
            parameter = stepping.own[i]
            if parameter.numel() and bool(parameter.grad.any()):
                stepping.samples.append((i, parameter.detach().clone()))
            if len(stepping.samples) >= 4:
                break

    def _judge_movement(self, stepping: Stepping, optimizer: Any) -> list[Verdict]:
        samples, stepping.samples = stepping.samples, []
        if not samples:
            return []
        still = [i for i, was in samples if torch.equal(stepping.own[i].detach(), was)]
        if len(still) < len(samples):
            stepping.unmoved = 0
            return []
        stepping.unmoved += 1
        groups = optimizer.param_groups
        rates = [float(g.get("lr", 1.0)) for g in groups]
        scheduled = [float(g["initial_lr"]) for g in groups if "initial_lr" in g]
        if max(rates, default=1.0) == 0.0:
            if any(scheduled):
                return []  # a scheduler will raise it, or has brought it down to its end
            return self._unmoved(stepping, "the learning rate is 0")
        if scheduled and max(rates) < 0.01 * max(scheduled):
            return []
        if stepping.unmoved < 2:
            return []
        return self._unmoved(stepping, "gradients arrive and the step runs")

    def _unmoved(self, stepping: Stepping, why: str) -> list[Verdict]:
        names = self._names(stepping.own)
        text = f"the parameters do not move ({why}): {grouped(names)}"
        return [Verdict("TL703", text, (), names, cause="still")]

    # --- several processes --------------------------------------------------------------------

    def _start_ranks(self) -> None:
        if not torch.distributed.is_available() or not torch.distributed.is_initialized():
            return
        if torch.distributed.get_world_size() < 2:
            return
        from trainlint.runtime.distributed import Ranks

        self._ranks = Ranks()

    def _compare_ranks(self) -> list[Verdict]:
        """Before the first backward of a step: DDP would hang in it if the ranks disagree."""
        if self._ranks is None or self._since_step:
            return []
        step = self.report.steps
        if step >= _CLOSE_STEPS and step % 100:
            return []
        state = self._observe()
        if state is None:
            return []
        replicated = self._parallel or _inside_ddp(self._inner())
        verdicts: list[Verdict] = self._ranks.compare(step, state, replicated=replicated)
        return verdicts


@dataclass(slots=True)
class _Attribute:
    """A plain tensor attribute, which a hook may replace."""

    module: nn.Module
    name: str

    def now(self) -> Any:
        return self.module.__dict__.get(self.name)


def judge_walk(root: nn.Module) -> list[tuple[str, nn.Module]]:
    """All modules inside the wrappers, by dotted name."""
    from trainlint.runtime.observe import walk

    return walk(unwrap(root))


def _is_container(module: nn.Module) -> bool:
    return isinstance(module, (nn.ModuleDict, nn.ModuleList, nn.ParameterDict, nn.ParameterList))


def _owner(name: str, modules: dict[str, nn.Module]) -> str:
    """The nearest module above a parameter that is called, and not merely a container."""
    owner = name.rpartition(".")[0]
    while owner and (owner not in modules or _is_container(modules[owner])):
        owner = owner.rpartition(".")[0]
    return owner


def _forget(watch: weakref.ref[Watch]) -> None:
    held = watch()
    if held is not None:
        held.forget()


def _differs(now: Any, was: torch.Tensor) -> bool:
    if not isinstance(now, torch.Tensor) or now.shape != was.shape:
        return isinstance(now, torch.Tensor)
    return not torch.equal(now.detach(), was)


def _stamp(tensor: torch.Tensor) -> tuple[int, int]:
    """A tensor's storage and how often it was written to."""
    try:
        return tensor.data_ptr(), tensor._version
    except RuntimeError:  # DTensor and the like have no address
        return id(tensor), tensor._version


def _chain(model: nn.Module) -> list[nn.Module]:
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


def _passes_by(tuners: list[dict[str, Any]]) -> bool:
    """Whether the adapters are disabled: `with disable_adapter()`."""
    if tuners[-1].get("_adapters_disabled"):
        return True
    return all(
        d.get("_disable_adapters", False) for d in tuners if "_disable_adapters" in d
    ) and any("_disable_adapters" in d for d in tuners)


def _live_optimizers() -> list[Any]:
    """Every optimizer that exists; walks all objects, so only once something is off."""
    return [
        o
        for o in gc.get_objects()
        if issubclass(type(o), torch.optim.Optimizer) and "param_groups" in o.__dict__
    ]


def _never_stepped(stepping: Stepping | None) -> Verdict:
    text = "backward runs, and the optimizer never steps"
    advice = "call `optimizer.step()` after `loss.backward()`"
    return Verdict("TL207", text, help=advice, cause="never")


def _is_exempt(through: Sequence[str], function: str) -> bool:
    """Forwards that run with gradients off in train mode for a reason.

    `generate()` (RL rollouts), `update_bn` of SWA, a reentrant checkpoint around the whole model.
    """
    names = {t.rpartition(".")[2] for t in through} | {function}
    return bool(
        names & {"generate", "update_bn", "checkpoint", "_checkpoint_without_reentrant_generator"}
    )


def _inside_ddp(inner: nn.Module | None) -> bool:
    """Whether a DistributedDataParallel somewhere wraps this module."""
    kind = torch.nn.parallel.DistributedDataParallel
    return any(unwrap(o) is inner for o in gc.get_objects() if issubclass(type(o), kind))


def _line_above() -> str:
    frame = sys._getframe(2)
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _check_action(action: Action) -> Action:
    if callable(action) or action in ("raise", "warn", "log"):
        return action
    raise ValueError(f"on_violation: expected 'raise', 'warn', 'log' or a callable, got {action!r}")


def _kept_names(
    state: Observation, allow_eval: Kept, allow_train: Kept, expect: Expect
) -> tuple[frozenset[str], frozenset[str]]:
    positions = kept("allow_eval", allow_eval, state)
    if expect.eval is not None:
        positions |= kept("Expect(eval=...)", expect.eval, state)
    trains = kept("allow_train", allow_train, state)
    names = [n for n, _ in state.modules]
    return frozenset(names[i] for i in positions), frozenset(names[i] for i in trains)


def watch(
    model: nn.Module,
    optimizer: Any = None,
    phase: str | None = None,
    *,
    expect: Expect | None = None,
    allow_eval: Kept = (),
    allow_train: Kept = (),
    select: str | Iterable[str] | None = None,
    ignore: str | Iterable[str] | None = None,
    on_violation: Action = "raise",
    every: int = 1,
    report: str | os.PathLike[str] | None = None,
) -> Watch:
    """Verify every forward, backward and step of the model in a `with` block.

    Leaves the model, the optimizer, the random state and the results exactly as they would be
    without it, and removes every hook on exit.
    """
    return Watch(
        model,
        optimizer,
        phase,
        expect,
        allow_eval,
        allow_train,
        select,
        ignore,
        on_violation,
        every,
        report,
    )
