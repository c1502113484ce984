"""During the first evaluations: does dropout act, do buffers move, with nothing in train mode."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.utils.spectral_norm import SpectralNorm

from trainlint.runtime.functional import Ear
from trainlint.runtime.judge.verdict import Verdict
from trainlint.runtime.report import grouped
from trainlint.runtime.watching.forward import Forward
from trainlint.runtime.watching.run import Run
from trainlint.runtime.wrappers import unwrap, walk

_PROBED = 2
"""How many evaluations are probed."""
_LARGE = 65_536
"""Buffers above so many elements are not copied."""
_OBSERVING = ("torch.ao.quantization", "torchao.quantization")
"""Observers and fake quantisers gather ranges in either mode until they are disabled (torch 2.13
`ao/quantization/fake_quantize.py`): that is how calibration works."""
_PARALLEL = 0.9
"""Cosine above which a vector counts as parallel to another."""


@dataclass(frozen=True, slots=True)
class _Remembered:
    """A tensor as it was before the evaluation."""

    name: str
    now: Callable[[], object]
    was: torch.Tensor | None
    """A copy; None where comparing values would wait for a device."""
    version: int = 0

    def moved(self) -> bool:
        now = self.now()
        if not isinstance(now, torch.Tensor):
            return False
        if self.was is None:
            return bool(now._version != self.version)
        return now.shape != self.was.shape or not torch.equal(now.detach(), self.was)


def _remembered(name: str, now: Callable[[], object], value: torch.Tensor) -> _Remembered:
    copy = value.detach().clone() if value.device.type == "cpu" else None
    return _Remembered(name, now, copy, value._version)


class EvaluationProbe:
    """Listens to dropout, and compares what must not move, during a forward."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._probes = 0
        self._remembered: list[_Remembered] = []
        self._ear: Ear | None = None

    def start(self, forward: Forward) -> None:
        """Probe this forward, if nothing in it is in train mode and it is among the first."""
        view = self._run.view
        if view.plan is None or any(forward.flags) or self._probes >= _PROBED:
            return
        root = view.root()
        if root is None or view.shells:
            return
        modules = walk(unwrap(root))
        if type(root).__name__ == "OptimizedModule" or any(_is_compiled(m) for _, m in modules):
            return  # what is compiled would be compiled again for the stand-ins
        self._probes += 1
        self._remembered = _remember(modules)
        self._ear = Ear()

    def again(self) -> None:
        """The module inside the wrappers begins: compare with what is there now.

        DistributedDataParallel hands the buffers of rank 0 to the other ranks before each forward,
        an evaluation included (torch 2.13 `_pre_forward`, `broadcast_buffers`).
        """
        inner = self._run.view.inner()
        if self._ear is not None and inner is not None:
            self._remembered = _remember(walk(inner))

    def stop(self) -> list[Verdict]:
        """What the probe saw. Harmless if none runs."""
        ear, self._ear = self._ear, None
        if ear is None:
            return []
        ear.close()
        moved = tuple(r.name for r in self._remembered if r.moved())
        self._remembered = []
        found: list[Verdict] = []
        if ear.hits:
            text = f"dropout acts though the whole model is in eval mode: {ear.hits[0]}"
            advice = "pass `training=self.training`, or use nn.Dropout"
            found.append(Verdict("TL501", text, help=advice, cause="functional"))
        if moved:
            text = f"an evaluation forward changed {grouped(moved)}"
            found.append(Verdict("TL704", text, (), moved, cause="eval"))
        return found


def _is_compiled(module: nn.Module) -> bool:
    """Whether `module.compile()` or `torch.compile(module)` was called on a part."""
    compiled = getattr(module, "_compiled_call_impl", None) is not None
    return compiled or type(module).__name__ == "OptimizedModule"


def _remember(modules: list[tuple[str, nn.Module]]) -> list[_Remembered]:
    """Copies of running statistics and of weights not computed yet, before an evaluation."""
    found: list[_Remembered] = []
    for name, module in modules:
        if type(module).__module__.startswith(_OBSERVING):
            continue
        hidden = module._non_persistent_buffers_set
        for key, value in module._buffers.items():
            if value is not None and key not in hidden and value.numel() <= _LARGE:
                full = f"{name}.{key}".lstrip(".")
                found.append(_remembered(full, _same(value), value))
        for hook in module._forward_pre_hooks.values():
            if isinstance(hook, SpectralNorm) and _never_iterated(module, hook):
                value = module.__dict__[hook.name]
                full = f"{name}.{hook.name}".lstrip(".")
                now = _attribute(module, hook.name)
                found.append(_remembered(full, now, value))
    return found


def _never_iterated(module: nn.Module, hook: SpectralNorm) -> bool:
    """Whether `nn.utils.spectral_norm` has neither computed its weight nor its vectors.

    Until its first forward in train mode `weight` is the very storage of `weight_orig`, and `u`
    and `v` are two independent random vectors (torch 2.13 `nn/utils/spectral_norm.py`, issue
    51800); those of a loaded checkpoint are singular vectors, `v` parallel to `W^T u`.
    """
    name = hook.name
    weight = module.__dict__.get(name)
    original = module._parameters.get(f"{name}_orig")
    u, v = module._buffers.get(f"{name}_u"), module._buffers.get(f"{name}_v")
    if not isinstance(weight, torch.Tensor) or original is None or u is None or v is None:
        return False
    if weight.device.type != "cpu" or weight.data_ptr() != original.data_ptr():
        return False
    with torch.no_grad():
        image = hook.reshape_weight_to_matrix(original.detach()).t().mv(u)
        return float(nn.functional.cosine_similarity(image, v, dim=0)) < _PARALLEL


def _same(tensor: torch.Tensor) -> Callable[[], object]:
    return lambda: tensor


def _attribute(module: nn.Module, name: str) -> Callable[[], object]:
    """A plain attribute, which a hook replaces."""
    return lambda: module.__dict__.get(name)
