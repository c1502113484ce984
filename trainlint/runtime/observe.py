"""The facts of a live model, through any wrapper.

PEFT's own status (`get_layer_status`, `get_model_status`) is not called: it raises TypeError on
prompt learning, does not see training flags, and walks everything twice. What it reads, this
module reads the same way (`BaseTunerLayer.adapter_layer_names` and friends, peft 0.21
`peft_model.get_layer_status`), and fills its gaps.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import CodeType
from typing import Any

import torch
from torch import nn

from trainlint.core.facts import (
    AdapterFacts,
    Certainty,
    Mode,
    ModeFact,
    ModelFacts,
    PartFact,
    Share,
    TrainableFact,
)

IRREGULAR = "irregular"

_WRAPPED_IN = {
    "DistributedDataParallel": "module",
    "DataParallel": "module",
    "FullyShardedDataParallel": "module",
    "OptimizedModule": "_orig_mod",
    "DeepSpeedEngine": "module",
    "PipelineEngine": "module",
    "_FabricModule": "_forward_module",
    "FSDPWrapper": "module",
}


def unwrap(model: nn.Module) -> nn.Module:
    """The module inside DDP, FSDP1, `torch.compile`, Fabric or a DeepSpeed engine."""
    seen = 0
    while seen < 10:
        seen += 1
        for base in type(model).__mro__:
            attribute = _WRAPPED_IN.get(base.__name__)
            if attribute is not None:
                break
        else:
            return model
        inner = model._modules.get(attribute)
        if inner is None:
            return model
        model = inner
    return model


def wrapper_names(model: nn.Module) -> list[str]:
    """The classes that `unwrap` goes through, outermost first."""
    names, inner = [], unwrap(model)
    while model is not inner:
        names.append(type(model).__name__)
        base = next(b for b in type(model).__mro__ if b.__name__ in _WRAPPED_IN)
        following = model._modules.get(_WRAPPED_IN[base.__name__])
        if following is None:
            break
        model = following
    return names


def walk(root: nn.Module) -> list[tuple[str, nn.Module]]:
    """Like `named_modules()`, some five times faster: no generator per level."""
    seen = {id(root)}
    result: list[tuple[str, nn.Module]] = []
    stack: list[tuple[str, nn.Module]] = [("", root)]
    while stack:
        name, module = stack.pop()
        result.append((name, module))
        children = module._modules
        if not children:
            continue
        prefix = f"{name}." if name else ""
        for key in reversed(children):
            child = children[key]
            if child is not None and id(child) not in seen:
                seen.add(id(child))
                stack.append((prefix + key, child))
    return result


# --- PEFT's classes, without importing peft -------------------------------------------------


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


# --- which modules behave differently in the two modes ---------------------------------------

_DROPOUT = (
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
)
_RUNNING = nn.modules.batchnorm._NormBase  # BatchNorm*, SyncBatchNorm, InstanceNorm*, lazy ones
_READS: dict[type, bool] = {}
_NEVER: set[type] = set()
"""Classes already found to be insensitive, whatever their attributes."""
_KNOWN_PACKAGES = ("torch.", "transformers.", "peft.", "lightning.", "pytorch_lightning.")
_RATE_WORDS = ("drop", "jitter")
_RATE_CONFIG = ("drop",)


def _names_in(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names_in(constant)


def _reads_flag(kind: type) -> bool:
    """Whether any method of the class (below nn.Module) mentions `training`."""
    known = _READS.get(kind)
    if known is None:
        known = False
        for base in kind.__mro__:
            if base is nn.Module or base is object:
                break
            for value in vars(base).values():
                code = getattr(getattr(value, "__func__", value), "__code__", None)
                if code is not None and "training" in _names_in(code):
                    known = True
        _READS[kind] = known
    return known


def _rates(module: nn.Module) -> list[float]:
    """Numbers among the module's attributes that are probabilities of dropping something."""
    found = []
    for key, value in module.__dict__.items():
        if type(value) in (int, float) and any(word in key for word in _RATE_WORDS):
            found.append(float(value))
    return found


def config_rates(module: nn.Module) -> dict[str, float]:
    """Dropout rates of a model's `config` that are above 0.

    HF Llama with sdpa holds no nn.Dropout: the rate of its config goes straight into
    `scaled_dot_product_attention(dropout_p=...)`.
    """
    config = getattr(module, "config", None)
    values = getattr(config, "__dict__", None)
    if not isinstance(values, Mapping):
        return {}
    return {
        key: float(value)
        for key, value in values.items()
        if isinstance(value, (int, float))
        and not isinstance(value, bool)
        and value > 0
        and any(word in key for word in _RATE_CONFIG)
    }


def sensitive(module: nn.Module, *, config_drops: bool = False) -> bool:
    """Whether this very module (not its children) acts differently in the two modes.

    Classes of torch are known (FACTS 2a); other code counts if one of its methods reads
    `training`, in a library only when a rate above 0 is around to make it matter.
    """
    if type(module) in _NEVER:
        return False
    if isinstance(module, _DROPOUT):
        return bool(module.p > 0)
    if isinstance(module, _RUNNING):
        return not isinstance(module, nn.modules.instancenorm._InstanceNorm) or bool(
            module.track_running_stats
        )
    if isinstance(module, nn.RNNBase):
        return bool(module.dropout > 0 and module.num_layers > 1)
    if isinstance(module, nn.MultiheadAttention):
        return bool(module.dropout > 0)
    if isinstance(module, nn.RReLU):
        return bool(module.lower != module.upper)
    kind = type(module)
    source = kind.__module__
    if source.startswith("torch.nn.utils.parametrizations"):
        return kind.__name__ == "_SpectralNorm"
    if source.startswith("torch.") or not _reads_flag(kind):
        _NEVER.add(kind)
        return False
    if source.startswith(_KNOWN_PACKAGES):
        if source.startswith("peft."):
            # peft's `DoraLinearLayer` caches its weight norm in eval mode and clears it in train
            return kind.__name__.startswith("Dora") or any(r > 0 for r in _rates(module))
        return any(rate > 0 for rate in _rates(module)) or (
            config_drops and any(word in _class_words(kind) for word in _RATE_WORDS)
        )
    return True


def _class_words(kind: type) -> str:
    """All names that the class's own methods use, in one string."""
    words: list[str] = []
    for base in kind.__mro__:
        if base is nn.Module or base is object:
            break
        for value in vars(base).values():
            code = getattr(getattr(value, "__func__", value), "__code__", None)
            if code is not None:
                words.extend(_names_in(code))
    return " ".join(words)


# --- adapters ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Slot:
    """One adapter's weights in one container of one layer: `q_proj.lora_A[default]`."""

    layer: str
    kind: str
    """The container: `lora_A`, `modules_to_save`, `prompt_encoder`."""
    adapter: str
    parameters: tuple[int, ...]
    """Positions in `Observation.parameters`."""
    frozen_on_purpose: bool = False
    """The variant declares it frozen (`frozen_peft_weight_names`: MiCA)."""


@dataclass(frozen=True, slots=True)
class TunerLayer:
    """A module that PEFT put in place of, or around, a layer of the base model."""

    name: str
    module: nn.Module
    auxiliary: bool
    """`modules_to_save` or trainable tokens around a whole module, and not a tuner's own layer."""
    adapters: tuple[str, ...]

    @property
    def active(self) -> tuple[str, ...]:
        """The adapters this layer uses."""
        value = self.module.__dict__.get("_active_adapter", "default")
        return (value,) if isinstance(value, str) else tuple(value)

    @property
    def disabled(self) -> bool:
        """Whether the layer passes its adapters by."""
        return bool(self.module.__dict__.get("_disable_adapters", False))

    @property
    def merged(self) -> tuple[str, ...]:
        """The adapters folded into the base weights."""
        return tuple(self.module.__dict__.get("merged_adapters", ()))


@dataclass(frozen=True, slots=True)
class AdapterState:
    """One adapter over the whole model."""

    name: str
    kind: str
    """PEFT's type, as `LORA`; empty if there is no config."""
    enabled: bool | str
    active: bool | str
    merged: bool | str
    trainable: Share
    parameters: tuple[int, ...]


@dataclass(slots=True)
class Observation:
    """A model at one moment."""

    model: nn.Module
    """The module inside all wrappers."""
    modules: list[tuple[str, nn.Module]]
    parameters: list[tuple[str, nn.Parameter]]
    owners: list[int]
    """For each parameter the position of its module."""
    layers: list[TunerLayer] = field(default_factory=list)
    slots: list[Slot] = field(default_factory=list)
    peft: nn.Module | None = None
    peft_name: str = ""
    configs: dict[str, Any] = field(default_factory=dict)
    declared: tuple[str, ...] = ()
    """The adapters that the model as a whole says are active."""
    disabled: bool = False
    """The model as a whole passes its adapters by."""
    sensitive: list[int] = field(default_factory=list)
    nested: tuple[str, ...] = ()
    drops: dict[str, float] = field(default_factory=dict)
    _ids: dict[int, int] | None = None

    @property
    def ids(self) -> dict[int, int]:
        """From a parameter's id to its position."""
        if self._ids is None:
            self._ids = {id(p): i for i, (_, p) in enumerate(self.parameters)}
        return self._ids

    @property
    def has_adapters(self) -> bool:
        """Whether PEFT is in play at all."""
        return bool(self.layers or self.slots or self.peft is not None)

    @property
    def adapter_parameters(self) -> set[int]:
        """Positions of everything that belongs to some adapter."""
        return {i for slot in self.slots for i in slot.parameters}

    def flags(self) -> bytes:
        """Every module's training flag, in the order of `modules`."""
        return bytes([m.__dict__["training"] is True for _, m in self.modules])

    def trainable(self) -> list[int]:
        """Positions of the parameters that require gradients."""
        return [i for i, (_, p) in enumerate(self.parameters) if p.requires_grad]

    def adapter_names(self) -> tuple[str, ...]:
        """All adapters, those of the config first."""
        names = dict.fromkeys(self.configs)
        names.update(dict.fromkeys(s.adapter for s in self.slots))
        return tuple(names)

    def adapters(self) -> list[AdapterState]:
        """Every adapter's state, PEFT's gaps filled."""
        return [_adapter(self, name) for name in self.adapter_names()]

    def facts(self, name: str = "model") -> ModelFacts:
        """The same as the shared facts that rules of both halves read."""
        return _facts(self, name)


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
        _find_adapters(state)
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


def _find_adapters(state: Observation) -> None:
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
    containers = tuple(getattr(module, "adapter_layer_names", ()))
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


def _agree(values: Sequence[bool]) -> bool | str:
    if all(values):
        return True
    return IRREGULAR if any(values) else False


def _adapter(state: Observation, name: str) -> AdapterState:
    layers = [layer for layer in state.layers if name in layer.adapters]
    own = [layer for layer in layers if not layer.auxiliary]
    config = state.configs.get(name)
    kind = str(getattr(getattr(config, "peft_type", ""), "value", getattr(config, "peft_type", "")))
    positions = tuple(
        dict.fromkeys(i for s in state.slots if s.adapter == name for i in s.parameters)
    )
    held = [state.parameters[i][1].requires_grad for i in positions]
    share = Share.UNKNOWN
    if held:
        share = Share.ALL if all(held) else Share.SOME if any(held) else Share.NONE
    if layers:
        enabled = _agree([not layer.disabled for layer in layers])
        # a modules_to_save wrapper without a copy for the active adapter has [] and is regular
        active = _agree([name in layer.active for layer in own or layers])
        merged = _agree([name in layer.merged for layer in own]) if own else False
    else:
        enabled, active, merged = not state.disabled, name in state.declared, False
    return AdapterState(name, kind, enabled, active, merged, share, positions)


# --- the shared facts -------------------------------------------------------------------------


def _mode(flags: Sequence[bool]) -> Mode:
    if not flags:
        return Mode.UNKNOWN
    if all(flags):
        return Mode.TRAIN
    return Mode.MIXED if any(flags) else Mode.EVAL


def _share(values: Sequence[bool]) -> Share:
    if not values:
        return Share.UNKNOWN
    if all(values):
        return Share.ALL
    return Share.SOME if any(values) else Share.NONE


def _facts(state: Observation, name: str) -> ModelFacts:
    parts = tuple(
        PartFact(
            child,
            ModeFact(_mode([m.training for m in module.modules()])),
            Certainty.UNKNOWN,
        )
        for child, module in state.model.named_children()
    )
    layers = tuple(
        f"{state.modules[i][0]}: {type(state.modules[i][1]).__name__}" for i in state.sensitive
    )
    mode = ModeFact(_mode([m.training for _, m in state.modules]))
    trainable = TrainableFact(_share([p.requires_grad for _, p in state.parameters]))
    adapters = _adapter_facts(state) if state.has_adapters else None
    certainty = Certainty.YES if state.sensitive else Certainty.NO
    return ModelFacts(name, mode, trainable, certainty, layers, parts, adapters=adapters)


def _adapter_facts(state: Observation) -> AdapterFacts:
    found = state.adapters()
    mine = state.adapter_parameters
    weights = [p.requires_grad for i, (_, p) in enumerate(state.parameters) if i in mine]
    base = [p.requires_grad for i, (_, p) in enumerate(state.parameters) if i not in mine]
    merged = [a.merged for a in found]
    return AdapterFacts(
        names=tuple(a.name for a in found),
        active=state.declared,
        trainable=TrainableFact(_share(weights)),
        merged=Certainty.YES if any(m is True for m in merged) else Certainty.NO,
        disabled=Certainty.YES if any(a.enabled is False for a in found) else Certainty.NO,
        not_activated=tuple(
            a.name for a in found if a.active is False and a.trainable is Share.ALL
        ),
        base_trainable=TrainableFact(_share(base)),
    )


def structure(modules: Sequence[nn.Module]) -> int:
    """A number that changes when a sub-module or parameter is added, removed or replaced."""
    total = 0
    for module in modules:
        for child in module._modules.values():
            total += id(child)
        for parameter in module._parameters.values():
            total += id(parameter)
    return total & 0xFFFFFFFFFFFF


def is_finite(tensor: torch.Tensor) -> bool:
    """Whether a scalar (a loss) is finite; costs a synchronisation off the CPU."""
    return bool(torch.isfinite(tensor.detach()).all())
