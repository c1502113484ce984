"""Attributes that look like freezing or like registering, and do neither."""

from __future__ import annotations

from torch import nn

from trainlint.runtime.judge.verdict import Verdict
from trainlint.runtime.observation import Observation
from trainlint.runtime.report import grouped


def misset(state: Observation) -> list[Verdict]:
    """Attributes that look like freezing and freeze nothing (FACTS 2a)."""
    found = []
    hollow = tuple(
        name for name, m in state.modules if isinstance(m.__dict__.get("requires_grad"), bool)
    )
    if hollow:
        text = (
            f"`requires_grad` was assigned to the module {grouped(hollow)}: that is a plain "
            "attribute, its parameters did not notice"
        )
        advice = "call `module.requires_grad_(False)`"
        found.append(Verdict("TL307", text, hollow, help=advice, cause="module"))
    for wrong in ("require_grad", "requires_grad_", "require_grads", "requires_grads"):
        names = tuple(n for n, p in state.parameters if wrong in getattr(p, "__dict__", ()))
        if names:
            text = f"`{wrong}` was assigned on {grouped(names)}: a plain attribute without effect"
            advice = "assign `requires_grad`"
            found.append(Verdict("TL307", text, (), names, help=advice, cause=wrong))
    return found


def unregistered(state: Observation) -> list[Verdict]:
    """Layers in a plain list, tuple or dict: `parameters()`, `train()` and `to()` miss them."""
    known = {id(m) for _, m in state.modules}
    names: list[str] = []
    others = state.kinds_outside("torch.", "peft.")
    for name, module in state.modules:
        if type(module) not in others:
            continue
        for key, value in module.__dict__.items():
            if type(value) not in (list, tuple, dict) or not value or key.startswith("_"):
                continue
            items = list(value.values()) if isinstance(value, dict) else list(value)
            lost = [m for m in items if isinstance(m, nn.Module) and id(m) not in known]
            if any(True for m in lost for _ in m.parameters()):
                names.append(f"{name}.{key}" if name else key)
    if not names:
        return []
    text = (
        f"{grouped(names)} holds layers in a plain container: `parameters()`, `train()`, `eval()` "
        "and `to()` do not reach them"
    )
    advice = "use nn.ModuleList or nn.ModuleDict"
    return [Verdict("TL503", text, tuple(names), help=advice, cause="container")]
