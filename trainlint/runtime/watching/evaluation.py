"""During the first evaluations: does dropout act, do buffers move, with nothing in train mode."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from trainlint.runtime.judge.verdict import Verdict
from trainlint.runtime.report import grouped
from trainlint.runtime.watching.forward import Forward
from trainlint.runtime.watching.run import Run
from trainlint.runtime.wrappers import unwrap, walk

_PROBED = 2
"""How many evaluations are probed."""
_LARGE = 65_536
"""Buffers above so many elements are not copied."""


@dataclass(frozen=True, slots=True)
class _Remembered:
    """A tensor as it was before the evaluation."""

    name: str
    now: Callable[[], object]
    was: torch.Tensor

    def moved(self) -> bool:
        now = self.now()
        if not isinstance(now, torch.Tensor):
            return False
        return now.shape != self.was.shape or not torch.equal(now.detach(), self.was)


class EvaluationProbe:
    """Stands in for `F.dropout` and the attention during a forward; restored at its end."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._probes = 0
        self._hits: list[str] = []
        self._remembered: list[_Remembered] = []
        self._originals: tuple[Any, Any] | None = None

    def start(self, forward: Forward) -> None:
        """Probe this forward, if nothing in it is in train mode and it is among the first."""
        view = self._run.view
        if view.plan is None or any(forward.flags) or self._probes >= _PROBED:
            return
        root = view.root()
        if root is None or type(root).__name__ == "OptimizedModule" or view.shells:
            return
        self._probes += 1
        self._remembered = _remember(unwrap(root))
        self._replace()

    def _replace(self) -> None:
        hits: list[str] = []
        self._hits, thread = hits, threading.get_ident()
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
        self._originals = (dropout, attention)

    def stop(self) -> list[Verdict]:
        """Restore the functions; what the probe saw. Harmless if none runs."""
        if self._originals is None:
            return []
        nn.functional.dropout, nn.functional.scaled_dot_product_attention = self._originals
        self._originals = None
        hits, self._hits = self._hits, []
        moved = tuple(r.name for r in self._remembered if r.moved())
        self._remembered = []
        found: list[Verdict] = []
        if hits:
            text = f"dropout acts though the whole model is in eval mode: {hits[0]}"
            advice = "pass `training=self.training`, or use nn.Dropout"
            found.append(Verdict("TL501", text, help=advice, cause="functional"))
        if moved:
            text = f"an evaluation forward changed {grouped(moved)}"
            found.append(Verdict("TL704", text, (), moved, cause="eval"))
        return found


def _remember(root: nn.Module) -> list[_Remembered]:
    """Copies of running statistics and of lazily computed weights, before an evaluation."""
    found: list[_Remembered] = []
    for name, module in walk(root):
        hidden = module._non_persistent_buffers_set
        for key, value in module._buffers.items():
            if value is not None and key not in hidden and value.numel() <= _LARGE:
                full = f"{name}.{key}".lstrip(".")
                found.append(_Remembered(full, _same(value), value.detach().clone()))
        if any(type(h).__name__ == "SpectralNorm" for h in module._forward_pre_hooks.values()):
            value = module.__dict__.get("weight")
            if isinstance(value, torch.Tensor):
                full = f"{name}.weight".lstrip(".")
                found.append(_Remembered(full, _attribute(module), value.detach().clone()))
    return found


def _same(tensor: torch.Tensor) -> Callable[[], object]:
    return lambda: tensor


def _attribute(module: nn.Module) -> Callable[[], object]:
    """`weight` is a plain attribute under `nn.utils.spectral_norm`, which its hook replaces."""
    return lambda: module.__dict__.get("weight")


def _line_above() -> str:
    frame = sys._getframe(2)
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
