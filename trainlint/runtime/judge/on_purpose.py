"""States of the flags that look wrong, and that nobody reaches by accident."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from trainlint.runtime.observation import Observation

_ALIKE = 0.5
"""Cosine above which one weight counts as a copy of another; independent ones are near 0."""


def is_norm(module: nn.Module) -> bool:
    """Whether it keeps running statistics."""
    return isinstance(module, nn.modules.batchnorm._NormBase)


def dropouts_alone(state: Observation, positions: Sequence[int]) -> bool:
    """Whether these are dropouts: switched on one by one, they sample (Monte Carlo dropout)."""
    modules = [state.modules[i][1] for i in positions]
    return all(isinstance(m, _DropoutNd) or "Dropout" in type(m).__name__ for m in modules)


def reestimates(modules: Sequence[nn.Module], backwards: int) -> bool:
    """Whether forwards without gradients gather running statistics anew (precise BatchNorm).

    `torch.optim.swa_utils.update_bn` averages all batches (momentum None), fvcore's `precise_bn`
    reads each batch alone (momentum 1); others reset the statistics, whose count of batches is
    then below the number of batches trained.
    """
    norms = [m for m in modules if is_norm(m)]
    return bool(norms) and all(
        m.momentum in (None, 1.0) or _reset(m.num_batches_tracked, backwards) for m in norms
    )


def _reset(tracked: object, backwards: int) -> bool:
    if not isinstance(tracked, torch.Tensor) or tracked.device.type != "cpu":
        return False
    return int(tracked) < backwards


def follows_a_twin(state: Observation, name: str) -> bool:
    """Whether a frozen part is the moving average of one that trains.

    The key encoder of MoCo and the target of BYOL stay in train mode with their BatchNorm.
    """
    top = _highest_frozen(state, name)
    if top == name:
        return False
    kinds = dict(state.modules)
    own = _below(state, top)
    for other, module in state.modules:
        if type(module) is not type(kinds[top]) or f"{other}.".startswith(f"{top}."):
            continue
        twin = _below(state, other)
        if twin.keys() == own.keys() and any(p.requires_grad for p in twin.values()):
            return all(own[k].shape == twin[k].shape for k in own) and _alike(own, twin)
    return False


def _highest_frozen(state: Observation, name: str) -> str:
    while above := name.rpartition(".")[0]:
        if any(p.requires_grad for p in _below(state, above).values()):
            break
        name = above
    return name


def _below(state: Observation, name: str) -> dict[str, nn.Parameter]:
    start = len(name) + 1
    return {n[start:]: p for n, p in state.parameters if n.startswith(f"{name}.")}


def _alike(own: dict[str, nn.Parameter], twin: dict[str, nn.Parameter]) -> bool:
    """Whether the first matrix is nearly the same; not read where that waits for a device."""
    for key, value in own.items():
        if value.dim() > 1 and value.device.type == "cpu":
            pair = value.detach().flatten().float(), twin[key].detach().flatten().float()
            return float(nn.functional.cosine_similarity(*pair, dim=0)) > _ALIKE
    return True
