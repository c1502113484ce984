"""A model at one moment: its modules, parameters, adapters, and what follows from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

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
    def passes_by(self) -> bool:
        """Inside `with disable_adapter()`, or after `disable_adapter_layers()`."""
        own = [layer for layer in self.layers if not layer.auxiliary]
        return self.disabled or bool(own and all(layer.disabled for layer in own))

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

    def kinds_outside(self, *packages: str) -> set[type]:
        """The classes of its modules that come from none of these packages (`torch.`)."""
        kinds = {type(module) for _, module in self.modules}
        return {kind for kind in kinds if not kind.__module__.startswith(packages)}

    def shared(self) -> list[tuple[str, ...]]:
        """Names under which one and the same parameter stands: tied weights, shared layers."""
        names: dict[int, list[str]] = {}
        for name, module in self.model.named_modules(remove_duplicate=False):
            for key, parameter in module._parameters.items():
                if parameter is not None:
                    full = f"{name}.{key}" if name else key
                    names.setdefault(id(parameter), []).append(full)
        return [tuple(group) for group in names.values() if len(group) > 1]

    def places(self) -> dict[tuple[str, str], int]:
        """How many parameters lie on which device in which type: ("cpu", "float32")."""
        return dict(
            Counter((str(p.device), str(p.dtype).rpartition(".")[2]) for _, p in self.parameters)
        )

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
