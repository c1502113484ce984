"""The adapters of a live model, read off PEFT's layers without importing peft.

PEFT's own status (`get_layer_status`, `get_model_status`) is not called: it raises TypeError on
prompt learning, does not see training flags, and walks everything twice. What it reads, this
module reads the same way (`BaseTunerLayer.adapter_layer_names` and friends, peft 0.21
`peft_model.get_layer_status`), and fills its gaps.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import nn

from trainlint.runtime.observation import Observation, Slot, TunerLayer


def _peft_class(module: str, name: str) -> type | None:
    found = sys.modules.get(module)
    kind = getattr(found, name, None)
    return kind if isinstance(kind, type) else None


def _is(module: object, source: str, name: str) -> bool:
    kind = _peft_class(source, name)
    return kind is not None and isinstance(module, kind)


def is_peft_model(module: object) -> bool:
    """PeftModel or PeftMixedModel; peft is not imported for the question."""
    return _is(module, "peft.peft_model", "PeftModel") or _is(
        module, "peft.mixed_model", "PeftMixedModel"
    )


def _container(module: nn.Module, path: str) -> Any:
    found: Any = module
    for part in path.split("."):
        found = getattr(found, part, None)
    return found


def _entries(container: Any) -> Iterator[tuple[str, list[nn.Parameter]]]:
    """(adapter, parameters) of a ModuleDict, ParameterDict or the like; others yield nothing."""
    if isinstance(container, nn.ModuleDict):
        for key, value in container._modules.items():
            if value is None:
                continue
            if value._modules:
                yield key, list(value.parameters())
            else:
                yield key, [p for p in value._parameters.values() if p is not None]
    elif isinstance(container, nn.ParameterDict):
        for key, value in container.items():
            if isinstance(value, nn.Parameter):
                yield key, [value]


def find_adapters(state: Observation) -> None:
    tuner = _peft_class("peft.tuners.tuners_utils", "BaseTunerLayer")
    auxiliary = _peft_class("peft.utils.other", "AuxiliaryTrainingWrapper")
    tokens = _peft_class("peft.utils.other", "TrainableTokensWrapper")
    base = _peft_class("peft.tuners.tuners_utils", "BaseTuner")
    ids = state.ids
    tuners: list[str] = []
    kinds: dict[type, tuple[bool, bool, bool]] = {}
    for name, module in state.modules:
        kind = type(module)
        known = kinds.get(kind)
        if known is None:
            is_base = is_peft_model(module) or (base is not None and isinstance(module, base))
            is_tuner = tuner is not None and isinstance(module, tuner)
            is_auxiliary = auxiliary is not None and isinstance(module, auxiliary)
            if tokens is not None and isinstance(module, tokens):
                # its inner TrainableTokensLayer holds the weights and is met on its own
                is_tuner = is_auxiliary = False
            known = kinds[kind] = is_base, is_tuner, is_auxiliary
        is_base, is_tuner, is_auxiliary = known
        if is_base:
            tuners.append(name)
            if state.peft is None or not is_peft_model(state.peft):
                state.peft, state.peft_name = module, name
        if not (is_tuner or is_auxiliary):
            continue
        _read_layer(state, name, module, is_auxiliary, ids)
    _read_model(state, ids)
    state.nested = _nested(state, tuners)


def _read_layer(
    state: Observation, name: str, module: nn.Module, auxiliary: bool, ids: dict[int, int]
) -> None:
    frozen = getattr(module, "frozen_peft_weight_names", None) or {}
    adapters: dict[str, None] = {}
    # DoRA's variant adds `lora_magnitude_vector` to the names although it is there (peft 0.21)
    containers = dict.fromkeys(getattr(module, "adapter_layer_names", ()))
    for kind in containers:
        for adapter, parameters in _entries(_container(module, kind)):
            adapters[adapter] = None
            positions = tuple(ids[id(p)] for p in parameters if id(p) in ids)
            if positions:
                purpose = kind in frozen.get(adapter, ())
                state.slots.append(Slot(name, kind, adapter, positions, purpose))
    layer = TunerLayer(name, module, auxiliary, tuple(adapters))
    state.layers.append(layer)


def _read_model(state: Observation, ids: dict[int, int]) -> None:
    """What stands in the PeftModel, the tuner model or, injected, on the bare model."""
    owner = state.peft if state.peft is not None else state.model
    configs = getattr(owner, "peft_config", None)
    if isinstance(configs, Mapping):
        state.configs = dict(configs)
    values = owner.__dict__
    active = values.get("active_adapter", values.get("_active_adapter"))
    inner = owner._modules.get("base_model")
    if inner is not None and "active_adapter" in inner.__dict__:
        active = inner.__dict__["active_adapter"]  # a list can be set on the tuner model only
    if callable(active) or active is None:
        layers = [layer for layer in state.layers if not layer.auxiliary]
        active = layers[0].active if layers else ()
    state.declared = (active,) if isinstance(active, str) else tuple(active)
    state.disabled = bool(values.get("_adapters_disabled", False))
    _read_prompts(state, owner, ids)


def _read_prompts(state: Observation, owner: nn.Module, ids: dict[int, int]) -> None:
    prefix = f"{state.peft_name}." if state.peft_name else ""
    encoder = owner._modules.get("prompt_encoder")
    for adapter, parameters in _entries(encoder):
        positions = tuple(ids[id(p)] for p in parameters if id(p) in ids)
        if positions:
            state.slots.append(
                Slot(f"{prefix}prompt_encoder", "prompt_encoder", adapter, positions)
            )
    names = [n for n, c in state.configs.items() if getattr(c, "is_adaption_prompt", False)]
    if names:
        found = tuple(
            i
            for i, (n, _) in enumerate(state.parameters)
            if n.rpartition(".")[2].startswith("adaption_")
        )
        if found:
            state.slots.append(Slot(f"{prefix}adaption_prompt", "adaption_prompt", names[0], found))


def _nested(state: Observation, tuners: Sequence[str]) -> tuple[str, ...]:
    """PEFT models inside the base model of another: `get_peft_model` called twice.

    PeftModel > LoraModel is one wrapping; PeftModel > LoraModel > PeftModel is two.
    """
    kinds = dict(state.modules)
    outer = [n for n in tuners if is_peft_model(kinds[n])]
    found = []
    for name in outer:
        above = [o for o in outer if o != name and (o == "" or name.startswith(f"{o}."))]
        if above:
            found.append(name)
    if not found:  # inject_adapter_in_model or a bare LoraModel over another tuner's layers
        bare = [n for n in tuners if not is_peft_model(kinds[n])]
        found = [
            name
            for name in bare
            if any(o != name and (o == "" or name.startswith(f"{o}.")) for o in bare)
        ]
    return tuple(found)
