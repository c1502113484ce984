"""Runs the examples of a rule's page on real torch and notes each forward and each step."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from trainlint.core.rule import Rule

Tensors = list[torch.Tensor]


class Forward(NamedTuple):
    """A module that ran, with its flag and the grad mode at that moment."""

    module: nn.Module
    training: bool
    grad_enabled: bool
    output: Any


class Step(NamedTuple):
    """What an optimizer found when it stepped, and how far it moved."""

    rate: float
    gradients: list[torch.Tensor | None]
    before: Tensors
    after: Tensors

    @property
    def moved(self) -> bool:
        return any(not torch.equal(a, b) for a, b in zip(self.before, self.after, strict=True))

    @property
    def length(self) -> float:
        """The Euclidean length of the update."""
        pairs = zip(self.before, self.after, strict=True)
        return sum((a - b).pow(2).sum().item() for a, b in pairs) ** 0.5

    @property
    def norm(self) -> float:
        """The norm of the gradients that it stepped on."""
        return sum(g.pow(2).sum().item() for g in self.gradients if g is not None) ** 0.5


@dataclass
class Take:
    """One run of an example."""

    names: dict[str, Any] = field(default_factory=dict)
    forwards: list[Forward] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    failure: Exception | None = None

    @property
    def moved(self) -> bool:
        return any(step.moved for step in self.steps)

    def flags(self, kind: type[nn.Module], grad_enabled: bool) -> list[bool]:
        """The training flags of modules of one class, forward by forward."""
        return [
            forward.training
            for forward in self.forwards
            if isinstance(forward.module, kind) and forward.grad_enabled is grad_enabled
        ]


def rehearse(
    rule: type[Rule[Any]], files: dict[str, Any] | None = None, edit: tuple[str, str] = ("", "")
) -> tuple[Take, Take]:
    """Run the bad and the good example; `files` is what `torch.load` finds."""
    bad, good = re.findall(r"```python\n(.*?)```", rule.page(), re.DOTALL)
    return play(bad.replace(*edit), files), play(good.replace(*edit), files)


def play(code: str, files: dict[str, Any] | None = None) -> Take:
    """Run a program with the same seed each time."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    take = Take({"__name__": "example"})
    loaded = patch("torch.load", lambda path, **_: (files or {})[path])
    with loaded, patch("torch.save"), _watching(take):
        try:
            exec(compile(code, "example", "exec"), take.names)
        except Exception as error:
            take.failure = error
        finally:
            torch.set_grad_enabled(True)
    return take


@contextmanager
def _watching(take: Take) -> Iterator[None]:
    pending: dict[int, tuple[float, list[torch.Tensor | None], Tensors]] = {}

    def before(optimizer: Any, args: Any, kwargs: Any) -> None:
        held = _parameters(optimizer)
        gradients = [None if p.grad is None else p.grad.detach().clone() for p in held]
        rate = float(optimizer.param_groups[0]["lr"])
        pending[id(optimizer)] = (rate, gradients, [p.detach().clone() for p in held])

    def after(optimizer: Any, args: Any, kwargs: Any) -> None:
        rate, gradients, values = pending.pop(id(optimizer))
        moved_to = [p.detach().clone() for p in _parameters(optimizer)]
        take.steps.append(Step(rate, gradients, values, moved_to))

    def ran(module: nn.Module, args: Any, output: Any) -> None:
        take.forwards.append(Forward(module, module.training, torch.is_grad_enabled(), output))

    handles = [
        register_module_forward_hook(ran),
        register_optimizer_step_pre_hook(before),
        register_optimizer_step_post_hook(after),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _parameters(optimizer: Any) -> list[nn.Parameter]:
    return [p for group in optimizer.param_groups for p in group["params"]]
