"""The few entry points that are patched while a watch is open.

Reference-counted: the first watch installs them, the last one restores them. Each passes the call
on unchanged and tells the open watches about it. Watches are held weakly, so that one left open
by mistake can still be collected, and close itself then.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
import torch.utils.checkpoint as checkpointing
from torch import nn
from torch.nn.utils import clip_grad
from torch.optim import lr_scheduler
from torch.optim import optimizer as optimizers

from trainlint.runtime.report import HIDDEN

__tracebackhide__ = HIDDEN


class Listener(Protocol):
    """What is told of each patched call: an open watch."""

    threads: set[int]
    """The threads in which its model runs."""

    def on_train(self, module: nn.Module, mode: bool) -> None:
        """`train()` or `eval()` was called on some module."""

    def on_zero_grad(self, optimizer: Any) -> None:
        """An optimizer cleared its gradients."""

    def on_module_zero_grad(self, module: nn.Module) -> None:
        """A module cleared its gradients."""

    def before_backward(self, given: Any) -> None:
        """A backward from these tensors is about to run."""

    def after_backward(self) -> None:
        """It is over."""

    def on_clip(self, parameters: list[Any], limit: float) -> None:
        """Gradients are about to be clipped."""

    def on_scale(self) -> None:
        """A GradScaler scaled a loss."""

    def on_unscale(self, optimizer: Any) -> None:
        """`unscale_` ran."""

    def on_scaler_step(self, optimizer: Any) -> None:
        """`scaler.step` ran; it may have skipped the optimizer's own step."""

    def on_scheduler(self, scheduler: Any) -> None:
        """A learning rate scheduler is about to step."""

    def on_checkpoint_cut(self) -> None:
        """A reentrant checkpoint ran on inputs of which none requires grad."""

    def on_disable_left(
        self, owner: nn.Module, before: list[tuple[str, nn.Parameter, bool]]
    ) -> None:
        """`with disable_adapter()` was left; `before` says what required gradients."""

    def on_disable_not_entered(self, owner: nn.Module) -> None:
        """`disable_adapter()` was called, and what it returned thrown away."""

    def on_compiled(self, compiled: nn.Module) -> None:
        """`torch.compile` wrapped a module."""

    def on_step_before(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        """An optimizer is about to step."""

    def on_step_after(self, optimizer: Any) -> None:
        """It stepped."""


_lock = threading.RLock()
_open: list[weakref.ref[Listener]] = []
_undo: list[Callable[[], None]] = []


class _Local(threading.local):
    """Where this thread is inside the patched calls."""

    train = 0
    backward = 0
    scaler_step = 0


local = _Local()


def watches() -> list[Listener]:
    """The open watches that have something to do with the current thread."""
    thread = threading.get_ident()
    found = (ref() for ref in tuple(_open))
    return [w for w in found if w is not None and thread in w.threads]


def everywhere() -> list[Listener]:
    """All open watches."""
    return [w for ref in tuple(_open) if (w := ref()) is not None]


def attach(watch: Listener) -> None:
    """Tell this watch of what happens, installing the patches if it is the first."""
    with _lock:
        if not _open:
            try:
                _install()
            except BaseException:
                _restore()
                raise
        _open.append(weakref.ref(watch))


def detach(watch: Listener) -> None:
    """Stop telling it, restoring everything if it was the last. Harmless if not attached."""
    with _lock:
        before = len(_open)
        _open[:] = [ref for ref in _open if (held := ref()) is not None and held is not watch]
        if before and not _open:
            _restore()


def _restore() -> None:
    while _undo:
        _undo.pop()()


def _patch(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    """Replace `owner.name` by `make(original)` until `_restore`."""
    missing = object()
    original = owner.__dict__.get(name, missing)
    if original is missing:
        return  # a version of torch without it: what hangs on it stays unseen
    setattr(owner, name, make(original))
    _undo.append(functools.partial(setattr, owner, name, original))


def _install() -> None:
    _patch(nn.Module, "train", _train)
    _patch(nn.Module, "zero_grad", _module_zero_grad)
    _patch(torch.optim.Optimizer, "zero_grad", _zero_grad)
    _patch(torch.autograd, "backward", _backward)
    # clip_grad_norm_ itself may already have been imported by name; what it calls cannot have been
    _patch(clip_grad, "_clip_grads_with_norm_", _clip_norm)
    _patch(clip_grad, "_group_tensors_by_device_and_dtype", _clip_value)
    _patch(torch.amp.grad_scaler.GradScaler, "scale", _scale)
    _patch(torch.amp.grad_scaler.GradScaler, "unscale_", _unscale)
    _patch(torch.amp.grad_scaler.GradScaler, "step", _scaler_step)
    _patch(lr_scheduler.LRScheduler, "step", _scheduler_step)
    _patch(checkpointing, "check_backward_validity", _checkpoint)
    for module, name in (("peft.peft_model", "PeftModel"), ("peft.mixed_model", "PeftMixedModel")):
        kind = getattr(sys.modules.get(module), name, None)
        if kind is not None:
            _patch(kind, "disable_adapter", _disable_adapter)
    compiled = getattr(sys.modules.get("torch._dynamo.eval_frame"), "OptimizedModule", None)
    if compiled is None:  # dynamo is imported by the first torch.compile
        _patch(torch, "compile", _compile)
    else:
        _patch(compiled, "__init__", _optimized)
    before = optimizers.register_optimizer_step_pre_hook(_step_before)
    _undo.append(before.remove)
    after = optimizers.register_optimizer_step_post_hook(_step_after)
    _undo.append(after.remove)


def _train(original: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    @functools.wraps(original)
    def train(self: nn.Module, mode: bool = True) -> nn.Module:
        if local.train:
            return original(self, mode)
        local.train += 1
        try:
            result = original(self, mode)
        finally:
            local.train -= 1
        for watch in everywhere():
            watch.on_train(self, mode)
        return result

    return train


def _module_zero_grad(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def zero_grad(self: nn.Module, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        for watch in everywhere():
            watch.on_module_zero_grad(self)

    return zero_grad


def _zero_grad(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def zero_grad(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        for watch in everywhere():
            watch.on_zero_grad(self)

    return zero_grad


def _backward(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def backward(tensors: Any, *args: Any, **kwargs: Any) -> Any:
        if local.backward:  # a checkpoint's own backward inside the outer one
            return original(tensors, *args, **kwargs)
        if isinstance(tensors, Iterator):
            tensors = tuple(tensors)  # to be read twice
        here = watches()
        local.backward += 1
        try:
            for watch in here:
                watch.before_backward(tensors)
            result = original(tensors, *args, **kwargs)
        finally:
            local.backward -= 1
        for watch in here:
            watch.after_backward()
        return result

    return backward


def _clip_norm(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def clip(parameters: Any, max_norm: float, *args: Any, **kwargs: Any) -> Any:
        if isinstance(parameters, torch.Tensor):
            parameters = [parameters]
        parameters = list(parameters)
        for watch in watches():
            watch.on_clip(parameters, float(max_norm))
        return original(parameters, max_norm, *args, **kwargs)

    return clip


def _clip_value(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def group(tensors: Any, *args: Any, **kwargs: Any) -> Any:
        frame = sys._getframe(1)
        if frame.f_code.co_name == "clip_grad_value_":
            # not `parameters`: that may be a generator, by now exhausted
            grads = list(frame.f_locals.get("grads", ()))
            for watch in watches():
                watch.on_clip(grads, float(frame.f_locals.get("clip_value", 1.0)))
        return original(tensors, *args, **kwargs)

    return group


def _scale(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def scale(self: Any, outputs: Any) -> Any:
        result = original(self, outputs)
        if self.is_enabled():
            for watch in watches():
                watch.on_scale()
        return result

    return scale


def _unscale(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def unscale_(self: Any, optimizer: Any) -> None:
        original(self, optimizer)
        for watch in watches():
            watch.on_unscale(optimizer)

    return unscale_


def _scaler_step(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def step(self: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        local.scaler_step += 1
        try:
            result = original(self, optimizer, *args, **kwargs)
        finally:
            local.scaler_step -= 1
        for watch in watches():
            watch.on_scaler_step(optimizer)
        return result

    return step


def _scheduler_step(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def step(self: Any, *args: Any, **kwargs: Any) -> Any:
        for watch in watches():
            watch.on_scheduler(self)
        return original(self, *args, **kwargs)

    return step


def _checkpoint(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def check(inputs: Any) -> None:
        inputs = list(inputs)
        if not any(isinstance(t, torch.Tensor) and t.requires_grad for t in inputs):
            for watch in watches():
                watch.on_checkpoint_cut()
        original(inputs)

    return check


def _disable_adapter(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def disable_adapter(self: nn.Module) -> _Disabling:
        return _Disabling(self, original(self))

    return disable_adapter


class _Disabling(contextlib.ContextDecorator):
    """What `disable_adapter()` returns: tells of leaving the block, and of one never entered."""

    def __init__(self, owner: nn.Module, block: Any) -> None:
        self._owner, self._block, self._entered = owner, block, False
        self._before: list[tuple[str, nn.Parameter, bool]] = []

    def __enter__(self) -> Any:
        self._entered = True
        self._before = [(n, p, p.requires_grad) for n, p in self._owner.named_parameters()]
        return self._block.__enter__()

    def __exit__(self, *error: Any) -> Any:
        result = self._block.__exit__(*error)
        if error[0] is None:
            for watch in watches():
                watch.on_disable_left(self._owner, self._before)
        return result

    def __del__(self) -> None:
        if not self._entered:
            for watch in watches():
                watch.on_disable_not_entered(self._owner)


def _optimized(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def init(self: nn.Module, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        for watch in everywhere():
            watch.on_compiled(self)

    return init


def _compile(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def compile(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        if isinstance(result, nn.Module):
            for watch in everywhere():
                watch.on_compiled(result)
        return result

    return compile


def _step_before(optimizer: Any, args: Any, kwargs: Any) -> None:
    for watch in everywhere():
        watch.on_step_before(optimizer, args, kwargs)


def _step_after(optimizer: Any, args: Any, kwargs: Any) -> None:
    for watch in everywhere():
        watch.on_step_after(optimizer)
