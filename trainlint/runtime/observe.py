"""The facts of a live model, through any wrapper."""

from __future__ import annotations

import sys

from torch import nn

from trainlint.runtime.adapters import find_adapters
from trainlint.runtime.observation import Observation
from trainlint.runtime.sensitivity import config_rates, sensitive
from trainlint.runtime.wrappers import unwrap, walk


def observe(model: nn.Module) -> Observation:
    """Read the facts of a live model; changes nothing and moves no data."""
    inner = unwrap(model)
    modules = walk(inner)
    parameters: list[tuple[str, nn.Parameter]] = []
    owners: list[int] = []
    seen: set[int] = set()
    for position, (name, module) in enumerate(modules):
        for key, parameter in module._parameters.items():
            if parameter is not None and id(parameter) not in seen:
                seen.add(id(parameter))
                parameters.append((f"{name}.{key}" if name else key, parameter))
                owners.append(position)
    state = Observation(inner, modules, parameters, owners)
    _find_sensitive(state)
    if "peft" in sys.modules or "peft.tuners.tuners_utils" in sys.modules:
        find_adapters(state)
    return state


def _find_sensitive(state: Observation) -> None:
    drops: dict[str, float] = {}
    read: set[int] = set()
    for _, module in state.modules:
        config = module.__dict__.get("config")
        if config is not None and id(config) not in read:
            read.add(id(config))
            drops.update(config_rates(module))
    state.drops = drops
    has = bool(drops)
    state.sensitive = [
        i for i, (_, module) in enumerate(state.modules) if sensitive(module, config_drops=has)
    ]
