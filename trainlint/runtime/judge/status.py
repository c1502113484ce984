"""Adapter status: enabled, active and merged alike in all layers, and with an effect."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from trainlint.runtime.judge.verdict import Verdict, listed
from trainlint.runtime.observation import Observation, TunerLayer
from trainlint.runtime.report import grouped


def _minority(layers: Sequence[TunerLayer], key: Callable[[TunerLayer], Any]) -> list[TunerLayer]:
    """Layers that differ from what most of them have."""
    if not layers:
        return []
    usual = Counter(key(layer) for layer in layers).most_common(1)[0][0]
    return [layer for layer in layers if key(layer) != usual]


def irregular(state: Observation) -> list[Verdict]:
    own = [layer for layer in state.layers if not layer.auxiliary]
    found = []
    odd = _minority(own, lambda layer: layer.disabled)
    if odd:
        names = tuple(layer.name for layer in odd)
        how = "disabled" if odd[0].disabled else "enabled"
        text = f"irregular adapters: {grouped(names, [x.name for x in own])} {how}, the others not"
        found.append(Verdict("TL413", text, names, cause="enabled"))
    odd = _minority(own, lambda layer: layer.active)
    if odd:
        names = tuple(layer.name for layer in odd)
        text = (
            f"irregular adapters: {grouped(names, [x.name for x in own])} use "
            f"{listed(odd[0].active)}, the others {listed(_usual_active(own))}"
        )
        found.append(Verdict("TL413", text, names, cause="active"))
    for adapter in state.adapter_names():
        holders = [layer for layer in own if adapter in layer.adapters]
        merged = [layer for layer in holders if adapter in layer.merged]
        if merged and len(merged) < len(holders):
            fewer = (
                merged
                if 2 * len(merged) <= len(holders)
                else [layer for layer in holders if adapter not in layer.merged]
            )
            names = tuple(layer.name for layer in fewer)
            text = (
                f"irregular adapters: `{adapter}` is merged in {len(merged)} of {len(holders)} "
                f"layers (differing: {grouped(names, [x.name for x in holders])})"
            )
            found.append(Verdict("TL413", text, names, cause=f"merged {adapter}"))
    return found


def _usual_active(layers: Sequence[TunerLayer]) -> tuple[str, ...]:
    return Counter(layer.active for layer in layers).most_common(1)[0][0]


def without_effect(state: Observation) -> list[Verdict]:
    found = []
    known = {s.adapter for s in state.slots} | {a for x in state.layers for a in x.adapters}
    absent = [a for a in dict.fromkeys((*state.declared, *_layer_active(state))) if a not in known]
    if absent and known:
        there = listed(sorted(known))
        text = f"the active adapter {listed(absent)} does not exist (there is {there})"
        names = tuple(x.name for x in state.layers if set(absent) & set(x.active))
        found.append(Verdict("TL417", text, names, cause="absent"))
    found += _scaled_to_zero(state)
    found += _replaced(state)
    return found


def _layer_active(state: Observation) -> list[str]:
    own = [layer for layer in state.layers if not layer.auxiliary]
    if not own or _minority(own, lambda layer: layer.active):
        return []  # TL413 says so already
    return list(own[0].active)


def _scaled_to_zero(state: Observation) -> list[Verdict]:
    zero: dict[str, list[str]] = defaultdict(list)
    for layer in state.layers:
        scaling = layer.module.__dict__.get("scaling")
        if isinstance(scaling, dict):
            for adapter in layer.active:
                value = scaling.get(adapter)
                if isinstance(value, (int, float)) and value == 0:
                    zero[adapter].append(layer.name)
    found = []
    for adapter, names in zero.items():
        universe = [x.name for x in state.layers if adapter in x.adapters]
        text = f"the scaling of `{adapter}` is 0 in {grouped(names, universe)}: it has no effect"
        found.append(Verdict("TL417", text, tuple(names), cause=f"scaling {adapter}"))
    return found


def _replaced(state: Observation) -> list[Verdict]:
    """Layers that PEFT targeted and that are no tuner layers any more."""
    tuners = [(n, m) for n, m in state.modules if "targeted_module_names" in m.__dict__]
    if not tuners or not state.layers:
        return []
    held = {layer.name for layer in state.layers}
    kinds = {name for name, _ in state.modules}
    lost = []
    for name, module in tuners:
        targets = module.__dict__["targeted_module_names"]
        if not targets or not isinstance(targets, list):
            continue
        prefix = f"{name}.model." if "model" in module._modules else f"{name}."
        for target in targets:
            full = f"{prefix}{target}".lstrip(".")
            if full not in kinds or full in held:
                continue
            if not any(h.startswith(f"{full}.") for h in held):
                lost.append(full)
    if not lost:
        return []
    text = f"{grouped(lost)} carried an adapter and was replaced by a module without one"
    return [Verdict("TL417", text, tuple(lost), cause="replaced")]
