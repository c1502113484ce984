"""Verdicts on a state: what is wrong with a model, its adapters and its optimizers right now.

Pure functions of an `Observation`; when a verdict is asked for, and what came before, is the
watch's business. Each cause is one verdict: what merely follows from it is left out.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from trainlint.core.diagnostic import Severity
from trainlint.core.facts import Share
from trainlint.runtime.observe import (
    IRREGULAR,
    AdapterState,
    Observation,
    Slot,
    TunerLayer,
    is_peft_model,
)
from trainlint.runtime.report import grouped


@dataclass(frozen=True, slots=True)
class Verdict:
    """One cause, before it has a step and a line."""

    code: str
    message: str
    modules: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    severity: Severity | None = None
    related: tuple[str, ...] = ()
    help: str | None = None
    cause: str = ""
    """What makes two verdicts of one code the same one; the names, if empty."""
    line: str | None = None
    """The user's line at fault, if it is not the one now running."""

    @property
    def key(self) -> tuple[str, object]:
        """Two verdicts with the same key are one finding."""
        return self.code, self.cause or (self.modules, self.parameters)


@dataclass(frozen=True, slots=True)
class Switch:
    """One outermost call of `train()` or `eval()`."""

    module: int
    """The module's id."""
    mode: bool
    where: str | None
    through: tuple[str, ...]
    at: int

    def __str__(self) -> str:
        call = "train()" if self.mode else "eval()"
        by = next(
            (t for t in self.through if t.endswith(("load_adapter", "from_pretrained"))), None
        )
        return f"{self.where}: {call} was called here" + (f" by `{by}`" if by else "")


@dataclass(slots=True)
class Modes:
    """What a mode verdict needs beside the flags."""

    keep_eval: frozenset[int] = frozenset()
    """Positions of modules that are meant to stay in eval mode."""
    keep_train: frozenset[int] = frozenset()
    switches: list[Switch] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)
    """From a module's id to its dotted name, wrappers included as the empty name."""

    def last(self, name: str, mode: bool) -> Switch | None:
        """Who last put `name` into `mode`."""
        for switch in reversed(self.switches):
            above = self.names.get(switch.module)
            if above is None or not (above == "" or name == above or name.startswith(f"{above}.")):
                continue
            return switch if switch.mode is mode else None
        return None


def matches(name: str, pattern: str) -> bool:
    """Whether a glob names this dotted name, one of its endings, or something above it."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        for start in range(end):
            if fnmatchcase(".".join(parts[start:end]), pattern):
                return True
    return False


# --- modes ------------------------------------------------------------------------------------

_Flags = Sequence[int]


def _frozen_below(state: Observation, name: str) -> bool | None:
    """Whether all parameters below a module are frozen; None if there are none."""
    prefix = f"{name}." if name else ""
    held = [p.requires_grad for n, p in state.parameters if n.startswith(prefix)]
    return None if not held else not any(held)


def _kept_on_purpose(state: Observation, flags: _Flags, position: int) -> bool:
    """A frozen part that is in eval mode as a whole: a feature extractor, a frozen BatchNorm."""
    by_name = {n: i for i, (n, _) in enumerate(state.modules)}
    name = state.modules[position][0]
    top = name
    while top:
        above = top.rpartition(".")[0]
        if above not in by_name or flags[by_name[above]]:
            break
        top = above
    if state.peft is not None and top in _base_names(state):
        return False  # the base of the adapters as a whole: nobody meant that
    return _frozen_below(state, top) is True


def _base_names(state: Observation) -> set[str]:
    """What PEFT's adapters sit in: `base_model`, and `base_model.model` if a tuner is between."""
    outer = f"{state.peft_name}.base_model".lstrip(".")
    return {outer, f"{outer}.model"}


def _is_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._NormBase)


def _who(modes: Modes, names: Sequence[str], mode: bool) -> Switch | None:
    return next((s for n in names if (s := modes.last(n, mode)) is not None), None)


def train_mode(state: Observation, flags: _Flags, modes: Modes) -> list[Verdict]:
    """A forward that is trained: nothing that acts on the flag may be in eval mode by accident."""
    return [*_eval_amid_training(state, flags, modes), *_frozen_norm_in_train(state, flags, modes)]


def _eval_amid_training(state: Observation, flags: _Flags, modes: Modes) -> list[Verdict]:
    acting = [i for i in state.sensitive if i not in modes.keep_eval]
    wrong = [i for i in acting if not flags[i] and not _kept_on_purpose(state, flags, i)]
    whole = _whole_eval(state, flags, modes)
    if not wrong:
        return _harmless_eval(state, flags, modes, whole)
    norms = [i for i in acting if _is_norm(state.modules[i][1])]
    if norms and set(wrong) == set(norms) and not whole and _others_train(flags, wrong):
        return []  # every normalisation layer in eval, all else in train: statistics kept frozen
    names = tuple(state.modules[i][0] for i in wrong)
    universe = [state.modules[i][0] for i in acting]
    switch = _who(modes, names, False)
    related = () if switch is None else (str(switch),)
    if switch is not None and any(t.endswith("load_adapter") for t in switch.through):
        text = (
            "`load_adapter` put the whole model in eval mode amid training "
            f"(is_trainable=False does): {grouped(names, universe)} trained in eval mode"
        )
        advice = "pass `is_trainable=True`, or call `model.train()` after loading"
        return [Verdict("TL408", text, names, related=related, help=advice, cause="mode")]
    if whole:
        count = f"{len(wrong)} of {len(acting)}"
        text = (
            f"the model is trained in eval mode: {count} mode-sensitive modules are off "
            f"({grouped(names, universe)})"
        )
        advice = "call `model.train()` before the training step"
        return [Verdict("TL101", text, names, related=related, help=advice, cause="mode")]
    text = f"trained with mixed training flags: {grouped(names, universe)} in eval mode"
    if state.has_adapters and _only_adapters_train(state, flags):
        text += ", the adapters in train mode (as `get_peft_model` leaves a base that is in eval)"
    advice = "call `model.train()`, or name what is meant to stay in eval in `allow_eval`"
    return [Verdict("TL107", text, names, related=related, help=advice, cause="mode")]


def _others_train(flags: _Flags, wrong: Sequence[int]) -> bool:
    return sum(1 for flag in flags if not flag) == len(wrong) or bool(flags[0])


def _adapter_made(state: Observation) -> list[str]:
    """Name prefixes of modules that PEFT made: wrappers and adapter containers."""
    made = {f"{s.layer}.{s.kind}" if s.layer else s.kind for s in state.slots}
    for layer in state.layers:
        others = (*getattr(layer.module, "other_param_names", ()), "lora_dropout")
        made.update(f"{layer.name}.{kind}" for kind in others)
    return sorted(made)


def _ours(state: Observation) -> set[int]:
    """Positions of PEFT's own modules: the wrappers' shells and all inside adapters."""
    made = _adapter_made(state)
    prefixes = tuple(f"{m}." for m in made)
    exact = set(made) | {layer.name for layer in state.layers}
    if state.peft is not None:
        exact |= {state.peft_name, f"{state.peft_name}.base_model".lstrip(".")}
    return {
        i
        for i, (name, _) in enumerate(state.modules)
        if name in exact or (prefixes and name.startswith(prefixes))
    }


def _only_adapters_train(state: Observation, flags: _Flags) -> bool:
    ours = _ours(state)
    rest = [flags[i] for i in range(len(flags)) if i not in ours]
    return bool(rest) and not any(rest)


def _whole_eval(state: Observation, flags: _Flags, modes: Modes) -> bool:
    """Everything in eval mode, the outermost shells excepted: their flag reaches nothing."""
    shells = {0}
    if state.peft is not None:
        shells |= {i for i, (_, m) in enumerate(state.modules[:6]) if m is state.peft}
    train = [i for i, flag in enumerate(flags) if flag and i not in modes.keep_train]
    return all(i in shells for i in train) and not all(flags)


def _harmless_eval(state: Observation, flags: _Flags, modes: Modes, whole: bool) -> list[Verdict]:
    """The flags are wrong, but nothing that acts on them is: a note."""
    off = [i for i, flag in enumerate(flags) if not flag and i not in modes.keep_eval]
    if not off:
        return []
    if whole and not all(_kept_on_purpose(state, flags, i) for i in off[:3]):
        text = "the model is trained in eval mode; no module of it acts on the mode"
        return [Verdict("TL101", text, severity=Severity.INFO, cause="mode")]
    if state.has_adapters and _only_adapters_train(state, flags):
        text = (
            "the adapters are in train mode, the base is in eval mode (as `get_peft_model` leaves "
            "it); no module in eval acts on the mode"
        )
        names = tuple(state.modules[i][0] for i in off[:1])
        return [Verdict("TL107", text, names, severity=Severity.INFO, cause="mode")]
    return []


def _frozen_norm_in_train(state: Observation, flags: _Flags, modes: Modes) -> list[Verdict]:
    """Frozen weights beside running statistics that go on moving: `train()` undid an `eval()`."""
    trains = any(p.requires_grad for _, p in state.parameters)
    wrong, lines = [], []
    for position, (name, module) in enumerate(state.modules):
        if not flags[position] or position in modes.keep_train or not trains:
            continue
        off = _undone(state, modes, name)
        if off is not None:
            wrong.append(name)
            lines.append(off)
        elif _is_norm(module) and not state.has_adapters and position in state.sensitive:
            own = list(module._parameters.values())
            if (
                own
                and own[0] is not None
                and not any(p.requires_grad for p in own if p is not None)
            ):
                wrong.append(name)
    if not wrong:
        return []
    text = (
        f"{grouped(wrong)} frozen, yet back in train mode: `train()` on the whole model undid "
        "the `eval()` of this part, its statistics or dropout are live again"
    )
    related = tuple(dict.fromkeys(str(s) for pair in lines for s in pair))
    advice = "call `eval()` on the frozen part after each `model.train()`"
    return [Verdict("TL105", text, tuple(wrong), related=related, help=advice, cause="undone")]


def _undone(state: Observation, modes: Modes, name: str) -> tuple[Switch, Switch] | None:
    """The user's `eval()` on exactly this frozen part, and the wider `train()` that undid it."""
    if not name:
        return None
    off = None
    for switch in modes.switches:
        target = modes.names.get(switch.module)
        if target is None:
            continue
        if target == name:
            user = not any(t.startswith(("peft.", "transformers.")) for t in switch.through)
            off = switch if not switch.mode and user else None
        elif off is not None and switch.mode and (target == "" or name.startswith(f"{target}.")):
            return (off, switch) if _frozen_below(state, name) is True else None
    return None


def eval_mode(
    state: Observation, flags: _Flags, modes: Modes, *, trained: bool = True
) -> list[Verdict]:
    """A forward that is not trained: nothing that acts on the flag may be in train mode."""
    acting = [i for i in state.sensitive if i not in modes.keep_train]
    wrong = [i for i in acting if flags[i]]
    if not wrong or _disabled_now(state):
        return []
    names = tuple(state.modules[i][0] for i in wrong)
    universe = [state.modules[i][0] for i in acting]
    switch = _who(modes, names, True)
    related = () if switch is None else (str(switch),)
    advice = "call `model.eval()` before evaluating and `model.train()` after it"
    if not trained and not any(p.requires_grad for _, p in state.parameters):
        text = (
            "a frozen model gives reference values in train mode: "
            f"{grouped(names, universe)} active"
        )
        advice = "call `eval()` on it"
        return [Verdict("TL106", text, names, related=related, help=advice, cause="eval")]
    if not flags[0] and len(flags) > 1 and all(flags[1:]):
        text = (
            "only the outermost module's `training` is False: the flag was assigned and did not "
            f"reach its sub-modules ({grouped(names, universe)} active during an evaluation)"
        )
        advice = "call `model.eval()` in place of assigning `training`"
        return [Verdict("TL104", text, names, related=related, help=advice, cause="eval")]
    ours = _ours(state) if state.has_adapters else set()
    if (
        ours
        and all(i in ours for i in wrong)
        and not any(flags[i] for i in acting if i not in ours)
    ) and any(not flags[i] for i in range(len(flags)) if i not in ours):
        text = (
            f"an evaluation runs with mixed training flags: {grouped(names, universe)} of the "
            "adapters in train mode inside a model in eval mode"
        )
        return [Verdict("TL107", text, names, related=related, help=advice, cause="eval")]
    some = len(wrong) < len(acting) or not all(flags)
    what = "partly in train mode" if some else "in train mode"
    text = f"an evaluation runs on the model {what}: {grouped(names, universe)} active"
    return [Verdict("TL102", text, names, related=related, help=advice, cause="eval")]


def mixed_mode(state: Observation, flags: _Flags, modes: Modes) -> list[Verdict]:
    """No phase is known: modes that differ within one model, frozen parts excepted."""
    if all(flags) or not any(flags):
        return []
    found = [v for v in _eval_amid_training(state, flags, modes) if v.code == "TL107"]
    if not flags[0] and all(flags[1:]):
        text = (
            "only the outermost module's `training` is False: it was assigned, not set by `eval()`"
        )
        return [Verdict("TL104", text, cause="assigned")]
    if not found and _whole_eval(state, flags, modes) and flags[0]:
        text = "the outermost module is in train mode, everything in it is in eval mode"
        below = state.sensitive and not all(i in modes.keep_eval for i in state.sensitive)
        severity = None if below else Severity.INFO
        names = tuple(state.modules[i][0] for i in state.sensitive)
        return [Verdict("TL107", text, names, severity=severity, cause="mode")]
    return found


# --- adapters ---------------------------------------------------------------------------------


def _disabled_now(state: Observation) -> bool:
    """Inside `with disable_adapter()`, or after `disable_adapter_layers()`."""
    own = [layer for layer in state.layers if not layer.auxiliary]
    return state.disabled or bool(own and all(layer.disabled for layer in own))


def adapters(state: Observation, *, training: bool) -> list[Verdict]:
    """Adapter status, and, if the model is to be trained, whether the adapters can train."""
    if not state.has_adapters:
        return []
    if state.nested:
        text = (
            f"adapters were put into what already is a PEFT model ({grouped(state.nested)}): "
            "saving and loading see the outer ones only"
        )
        return [Verdict("TL410", text, state.nested, cause="nested")]
    found = [*_irregular(state), *_without_effect(state)]
    if training:
        states = state.adapters()
        found += _trained_merged(state, states) or _cannot_train(state, states)
        if not any(v.code.startswith("TL40") for v in found):
            found += _part_frozen(state)
            found += _not_activated(state, states)
        found += _base_trains(state)
        found += _head_not_trained(state)
    found += _tied_split(state)
    return found


def _minority(layers: Sequence[TunerLayer], key: Callable[[TunerLayer], Any]) -> list[TunerLayer]:
    """Layers that differ from what most of them have."""
    if not layers:
        return []
    usual = Counter(key(layer) for layer in layers).most_common(1)[0][0]
    return [layer for layer in layers if key(layer) != usual]


def _irregular(state: Observation) -> list[Verdict]:
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
            f"{_listed(odd[0].active)}, the others {_listed(_usual_active(own))}"
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


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{n}`" for n in names) or "none"


def _without_effect(state: Observation) -> list[Verdict]:
    found = []
    known = {s.adapter for s in state.slots} | {a for x in state.layers for a in x.adapters}
    absent = [a for a in dict.fromkeys((*state.declared, *_layer_active(state))) if a not in known]
    if absent and known:
        there = _listed(sorted(known))
        text = f"the active adapter {_listed(absent)} does not exist (there is {there})"
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
    held = {layer.name for layer in state.layers}
    kinds = dict(state.modules)
    lost = []
    for name, module in state.modules:
        targets = module.__dict__.get("targeted_module_names")
        if not targets or not isinstance(targets, list):
            continue
        prefix = f"{name}.model." if "model" in module._modules else f"{name}."
        for target in targets:
            full = f"{prefix}{target}".lstrip(".")
            if full not in kinds or full in held:
                continue
            if not any(h.startswith(f"{full}.") for h in held):
                lost.append(full)
    if not lost or not state.layers:
        return []
    text = f"{grouped(lost)} carried an adapter and was replaced by a module without one"
    return [Verdict("TL417", text, tuple(lost), cause="replaced")]


def _active(state: Observation, states: Sequence[AdapterState]) -> list[AdapterState]:
    return [a for a in states if a.active is not False or a.name in state.declared]


def _trained_merged(state: Observation, states: Sequence[AdapterState]) -> list[Verdict]:
    merged = [a for a in states if a.merged is True]
    if not merged:
        return []
    names = tuple(x.name for x in state.layers if x.merged)
    text = (
        f"trained while {_listed(a.name for a in merged)} is merged into the base weights: "
        f"the adapter gets no gradient in {len(names)} layers. {_silent(state)}"
    ).rstrip()
    advice = "call `unmerge_adapter()` before training"
    return [Verdict("TL406", text, names, help=advice, cause="merged")]


def _silent(state: Observation) -> str:
    return (
        "A loss may still require grad, only because checkpointing or "
        "`enable_input_require_grads()` made the inputs require it: no adapter weight will move"
    )


_MADE_WITH_VALUES = frozenset(
    {
        "ADAMSS", "FOURIERFT", "GRALORA", "HRA", "LN_TUNING", "MISS", "OSF", "ROAD", "SHIRA",
        "SUPERTUNING", "TRAINABLE_TOKENS",
    }
)  # fmt: skip
"""PEFT types whose fresh weights were never written to after they were made (peft 0.21)."""


def _loaded(state: Observation, adapter: AdapterState) -> bool:
    """Whether an adapter's weights were read from a checkpoint rather than just initialised.

    An initialised weight has been written once (twice in an nn.Linear, which initialises itself
    before PEFT does); loading writes once more. `_version` counts the writes. Only a choice
    between two codes with the same remedy hangs on it.
    """
    extra = []
    for i in adapter.parameters:
        owner = state.modules[state.owners[i]][1]
        usual = 2 if isinstance(owner, (nn.Linear, nn.Embedding, nn.Conv2d)) else 1
        extra.append(state.parameters[i][1]._version - usual)
    named = getattr(state.configs.get(adapter.name), "init_lora_weights", None)
    if adapter.kind in _MADE_WITH_VALUES or named == "mica":
        return max(extra, default=-1) >= 0
    if adapter.kind in ("VERA", "PVERA"):
        return min(extra, default=0) > 0
    return max(extra, default=0) > 0


def _cannot_train(state: Observation, states: Sequence[AdapterState]) -> list[Verdict]:
    """No active adapter has a weight that requires gradients."""
    active = _active(state, states)
    held = [a for a in active if a.parameters]
    if not held or any(a.trainable is not Share.NONE for a in held):
        return []
    names = tuple(state.parameters[i][0] for a in held for i in a.parameters)
    which = _listed(a.name for a in held)
    tail = _silent(state)
    mine = state.adapter_parameters
    others = [n for i, (n, p) in enumerate(state.parameters) if p.requires_grad and i not in mine]
    if others:
        tail = f"What does train is {grouped(others)}"
    if _disabled_now(state):
        text = f"trained while the adapters are disabled: {which} takes no part. {tail}"
        advice = "leave the `with disable_adapter()` block or call `enable_adapter_layers()`"
        return [Verdict("TL417", text, (), names, help=advice, cause="disabled")]
    text = f"{{how}}: all {len(names)} weights of {which} are frozen. {tail}"
    return [_frozen_because(state, held, names, text)]


def _frozen_because(
    state: Observation, held: Sequence[AdapterState], names: tuple[str, ...], text: str
) -> Verdict:
    inference = [
        a for a in held if bool(getattr(state.configs.get(a.name), "inference_mode", False))
    ]
    if inference and any(_loaded(state, a) for a in inference):
        how = "the adapter was loaded without `is_trainable=True`"
        advice = "load with `is_trainable=True`"
        return Verdict("TL401", text.format(how=how), (), names, help=advice, cause="frozen")
    if inference:
        how = "the adapter's config says `inference_mode=True`"
        advice = "set `inference_mode=False` in the config before `get_peft_model`"
        return Verdict("TL402", text.format(how=how), (), names, help=advice, cause="frozen")
    if _quantised(state.model):
        how = "`prepare_model_for_kbit_training` ran after the adapters were put in"
        advice = "call it on the base model, before `get_peft_model`"
        return Verdict("TL403", text.format(how=how), (), names, help=advice, cause="frozen")
    how = "everything was frozen after the adapters were put in"
    advice = "freeze the base before `get_peft_model`, or call `set_adapter` to unfreeze"
    return Verdict("TL404", text.format(how=how), (), names, help=advice, cause="frozen")


def _quantised(model: nn.Module) -> bool:
    return any(
        bool(getattr(model, flag, False))
        for flag in ("is_loaded_in_8bit", "is_loaded_in_4bit", "is_quantized")
    )


def _part_frozen(state: Observation) -> list[Verdict]:
    """An active adapter of which some weights are frozen and nothing explains which."""
    found = []
    for adapter in state.declared:
        slots = [s for s in state.slots if s.adapter == adapter and not s.frozen_on_purpose]
        found += _unexplained(state, adapter, slots)
    return found


def _frozen(state: Observation, slot: Slot) -> bool:
    return not any(state.parameters[i][1].requires_grad for i in slot.parameters)


def _unexplained(state: Observation, adapter: str, slots: Sequence[Slot]) -> list[Verdict]:
    frozen = [s for s in slots if _frozen(state, s)]
    if not frozen or len(frozen) == len(slots) or slots[0].kind in _WHOLE_KINDS:
        return []
    kinds = {kind: [s for s in slots if s.kind == kind] for kind in {s.kind for s in slots}}
    left = [s for s in frozen if not all(_frozen(state, o) for o in kinds[s.kind])]
    copies = [s for s in frozen if s.kind == "modules_to_save"]
    left += [s for s in copies if s not in left]
    if not left:
        return []  # one kind of weight frozen in every layer: LoRA-FA
    layers = {s.layer: [o for o in slots if o.layer == s.layer] for s in left}
    whole = all(all(_frozen(state, o) for o in group) for group in layers.values()) and not copies
    names = tuple(state.parameters[i][0] for s in left for i in s.parameters)
    universe = [state.parameters[i][0] for s in slots for i in s.parameters]
    text = f"`{adapter}` is part trainable, part frozen: {grouped(names, universe)} frozen"
    severity = Severity.INFO if whole else Severity.ERROR
    if whole:
        text += " (whole layers: layer-wise training?)"
    return [Verdict("TL414", text, (), names, severity=severity, cause=f"part {adapter}")]


_WHOLE_KINDS = frozenset({"prompt_encoder", "adaption_prompt"})


def _not_activated(state: Observation, states: Sequence[AdapterState]) -> list[Verdict]:
    idle = [
        a
        for a in states
        if a.active is False and a.trainable is Share.ALL and a.name not in state.declared
    ]
    if not idle:
        return []
    shared = {i for a in _active(state, states) for i in a.parameters}
    names = tuple(state.parameters[i][0] for a in idle for i in a.parameters if i not in shared)
    if not names:
        return []
    text = (
        f"{_listed(a.name for a in idle)} requires gradients and is not active "
        f"(active: {_listed(state.declared)}): it will not be trained"
    )
    advice = f"call `set_adapter({idle[0].name!r})`"
    return [Verdict("TL407", text, (), names, help=advice, cause="idle")]


def _saved(state: Observation) -> set[int]:
    """Positions of base weights that PEFT writes into some adapter's checkpoint."""
    try:
        from peft import get_peft_model_state_dict  # the user has it: there are adapters
    except ImportError:
        return set(range(len(state.parameters)))
    where = {p.data_ptr(): i for i, (_, p) in enumerate(state.parameters) if p.numel()}
    kept: set[int] = set()
    owner = state.peft if state.peft is not None and is_peft_model(state.peft) else state.model
    for adapter in state.configs:
        try:
            weights = get_peft_model_state_dict(
                owner, adapter_name=adapter, save_embedding_layers=False
            )
        except Exception:
            return set(range(len(state.parameters)))
        for tensor in weights.values():
            position = where.get(tensor.data_ptr())
            if position is not None:
                kept.add(position)
    return kept


def _base_trains(state: Observation) -> list[Verdict]:
    mine = state.adapter_parameters
    inside = f"{state.peft_name}." if state.peft_name else ""
    loose = [
        i for i in state.trainable() if i not in mine and state.parameters[i][0].startswith(inside)
    ]
    if not loose or not state.configs:
        return []
    copies = tuple(f"{x.name}." for x in state.layers if x.auxiliary)
    loose = [
        i
        for i in loose
        if not state.parameters[i][0].startswith(copies)
        or ".original_module." in state.parameters[i][0]
    ]
    saved = _saved(state) if loose else set()
    lost = [i for i in loose if i not in saved and not _declared_bias(state, i)]
    if not lost:
        return []
    names = tuple(state.parameters[i][0] for i in lost)
    universe = [n for i, (n, _) in enumerate(state.parameters) if i not in mine]
    what = grouped(names, universe)
    text = f"base weights train that the adapter's checkpoint will not save: {what}"
    advice = "freeze them, or name their modules in `modules_to_save`"
    return [Verdict("TL416", text, (), names, help=advice, cause="base")]


def _declared_bias(state: Observation, position: int) -> bool:
    """Named by the config's `bias`: PEFT trains these on purpose."""
    if not state.parameters[position][0].endswith("bias"):
        return False
    return any(getattr(c, "bias", "none") not in ("none", None) for c in state.configs.values())


_HEADS = ("classifier", "score", "qa_outputs", "classification_head", "regression_head")
_HEADED = ("ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")


def _head_not_trained(state: Observation) -> list[Verdict]:
    """A frozen task head that looks freshly initialised and that no checkpoint will hold."""
    if not state.configs or any(not a for a in state.configs):
        return []
    owner = next((m for _, m in state.modules if type(m).__name__.endswith(_HEADED)), None)
    if owner is None:
        return []
    prefix = next(n for n, m in state.modules if m is owner)
    mine = state.adapter_parameters
    names = []
    for key, head in owner._modules.items():
        if key not in _HEADS or head is None:
            continue
        full = f"{prefix}.{key}" if prefix else key
        inside = [
            (i, n, p) for i, (n, p) in enumerate(state.parameters) if n.startswith(f"{full}.")
        ]
        frozen = all(not p.requires_grad and i not in mine for i, _, p in inside)
        if inside and frozen and _fresh(owner, [p for _, _, p in inside]):
            names += [n for _, n, _ in inside]
    if not names:
        return []
    text = (
        f"the task head {grouped(names)} is freshly initialised, frozen, and not in the adapter's "
        "checkpoint: the adapter trains under a random head"
    )
    advice = "give the config a `task_type`, or name the head in `modules_to_save`"
    return [Verdict("TL411", text, (), tuple(names), help=advice, cause="head")]


def _fresh(owner: nn.Module, parameters: Sequence[nn.Parameter]) -> bool:
    """Biases exactly 0, or weights spread as `initializer_range` says."""
    flat = [p for p in parameters if p.dim() == 1]
    if flat:
        return all(not bool(p.detach().any()) for p in flat)
    spread = getattr(getattr(owner, "config", None), "initializer_range", None)
    if not isinstance(spread, float) or not parameters:
        return False
    return all(abs(float(p.detach().float().std()) / spread - 1) < 0.2 for p in parameters)


def _tied_split(state: Observation) -> list[Verdict]:
    """Weights that the base's config ties, and that an adapter or a trained copy has untied."""
    for prefix, module in state.modules:
        config = getattr(module, "config", None) if "config" in module.__dict__ else None
        if config is None or is_peft_model(module):
            continue
        text_config = config.get_text_config() if hasattr(config, "get_text_config") else config
        if not getattr(text_config, "tie_word_embeddings", False):
            continue
        names = _split_here(module)
        if names:
            full = tuple(f"{prefix}.{n}" if prefix else n for n in names)
            text = (
                f"{grouped(full)} was tied with the other embedding and no longer is: an adapter "
                "or a trained copy covers one of the two only"
            )
            advice = "cover both (`ensure_weight_tying=True`), or neither"
            return [Verdict("TL418", text, full, help=advice, cause="tied")]
        return []
    return []


def _split_here(module: nn.Module) -> list[str]:
    get_in = getattr(module, "get_input_embeddings", None)
    get_out = getattr(module, "get_output_embeddings", None)
    if not callable(get_in) or not callable(get_out):
        return []
    try:
        first, second = get_in(), get_out()
    except Exception:
        return []
    if not isinstance(first, nn.Module) or not isinstance(second, nn.Module):
        return []
    kinds = [_weight_of(m) for m in (first, second)]
    if kinds[0][1] is None or kinds[1][1] is None:
        return []
    same = kinds[0][1].data_ptr() == kinds[1][1].data_ptr()
    covered = [k[0] for k in kinds]
    by_id = {id(m): n for n, m in module.named_modules()}
    names = [
        by_id.get(id(m), "")
        for m, k in zip((first, second), kinds, strict=False)
        if k[0] is not None
    ]
    if "tokens" in covered or names == []:
        return []  # trainable tokens tie themselves (`tied_adapter`)
    if same and covered[0] == covered[1] == "copy":
        return []
    if covered[0] is not None and covered[1] is not None and same and _tied_adapters(first, second):
        return []
    return [n for n in names if n]


def _tied_adapters(first: nn.Module, second: nn.Module) -> bool:
    mine = {p.data_ptr() for p in first.parameters()}
    return all(p.data_ptr() in mine for p in second.parameters())


def _weight_of(module: nn.Module) -> tuple[str | None, torch.Tensor | None]:
    """What covers an embedding (`copy`, `tokens`, `adapter` or nothing), and the weight it uses."""
    kind = type(module).__name__
    if kind == "ModulesToSaveWrapper":
        active = module.__dict__.get("_active_adapter")
        name = active if isinstance(active, str) else next(iter(active or []), None)
        copies = module._modules.get("modules_to_save")
        if name is None or copies is None or name not in copies._modules:
            return None, getattr(module._modules.get("original_module"), "weight", None)
        return "copy", getattr(copies._modules[name], "weight", None)
    if kind in ("TrainableTokensWrapper", "TrainableTokensLayer"):
        return "tokens", torch.empty(0)
    if hasattr(module, "base_layer"):
        base = module
        while hasattr(base, "base_layer"):
            base = base.base_layer
        return "adapter", getattr(base, "weight", None)
    return None, getattr(module, "weight", None)


# --- parameters and modules -------------------------------------------------------------------


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
    for name, module in state.modules:
        if type(module).__module__.startswith(("torch.", "peft.")):
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


# --- optimizers -------------------------------------------------------------------------------


@dataclass(slots=True)
class Held:
    """What one optimizer holds."""

    kind: str
    parameters: list[torch.Tensor]
    inside: list[int]
    """Positions in the model of those that belong to it."""
    flat: bool = False
    """ZeRO or FSDP1: one flat tensor stands for many parameters; identity says nothing."""
    optimizer: Any = None


def held(optimizer: Any, state: Observation) -> Held:
    """Read an optimizer's groups against a model."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    ids = state.ids
    inside = [ids[id(p)] for p in parameters if id(p) in ids]
    flat = not inside and _is_flat(optimizer, parameters, state)
    return Held(type(optimizer).__name__, parameters, inside, flat, optimizer)


def _is_flat(optimizer: Any, parameters: Sequence[torch.Tensor], state: Observation) -> bool:
    if type(optimizer).__module__.startswith(("deepspeed", "apex", "fairscale")):
        return True
    if any(hasattr(p, "ds_id") or hasattr(p, "_hp_mapping") for _, p in state.parameters[:8]):
        return True
    if any("FlatParameter" in type(p).__name__ or hasattr(p, "_is_flat_param") for p in parameters):
        return True
    wanted = sum(p.numel() for _, p in state.parameters if p.requires_grad)
    total = sum(p.numel() for p in parameters)
    return (
        bool(parameters)
        and all(p.dim() == 1 for p in parameters)
        and len(parameters) * 4 <= max(4, sum(p.requires_grad for _, p in state.parameters))
        and total >= wanted > 0
    )


def coverage(
    state: Observation,
    optimizers: Sequence[Held],
    *,
    graded: bool = False,
    created_before: Callable[[Any, object], bool | None] = lambda optimizer, thing: None,
) -> list[Verdict]:
    """The optimizers against what is meant to train; `graded`: only what has a gradient counts."""
    if not optimizers or any(h.flat for h in optimizers):
        return []
    inside = {i for h in optimizers for i in h.inside}
    idle = _idle(state)
    trainable = [i for i in state.trainable() if i not in idle]
    missing = [i for i in trainable if i not in inside]
    if graded:
        missing = [i for i in missing if state.parameters[i][1].grad is not None]
    frozen = [i for i in sorted(inside) if not state.parameters[i][1].requires_grad]
    if not trainable:
        return [] if not frozen else _nothing_trains(state, frozen)
    if not missing:
        return _some_frozen(state, optimizers, frozen, inside)
    return [_missing(state, optimizers, missing, frozen, inside, trainable, created_before)]


def _idle(state: Observation) -> set[int]:
    """Trainable weights of adapters that are not active: TL407 speaks of them."""
    if not state.slots:
        return set()
    active = {i for s in state.slots if s.adapter in state.declared for i in s.parameters}
    return state.adapter_parameters - active


def _nothing_trains(state: Observation, frozen: Sequence[int]) -> list[Verdict]:
    names = tuple(state.parameters[i][0] for i in frozen)
    text = (
        f"everything the optimizer was given is frozen ({len(names)} parameters): "
        "nothing will train"
    )
    return [Verdict("TL301", text, (), names, cause="coverage")]


def _some_frozen(
    state: Observation, optimizers: Sequence[Held], frozen: Sequence[int], inside: set[int]
) -> list[Verdict]:
    if not frozen:
        return []
    if len(frozen) == len(inside):
        return _nothing_trains(state, frozen)
    names = tuple(state.parameters[i][0] for i in frozen)
    active = {i for s in state.slots if s.adapter in state.declared for i in s.parameters}
    if active.issuperset(frozen):
        text = (
            f"{grouped(names)} frozen after the optimizer took them (an adapter's weights train "
            "when it is made); harmless while their gradients are None"
        )
        return [Verdict("TL305", text, (), names, severity=Severity.INFO, cause="coverage")]
    text = (
        f"{len(names)} of the optimizer's {len(inside)} parameters are frozen; harmless while "
        "their gradients are None"
    )
    advice = "give the optimizer `[p for p in model.parameters() if p.requires_grad]`"
    verdict = Verdict("TL302", text, (), names, help=advice, cause="coverage")
    return [verdict]


def _missing(
    state: Observation,
    optimizers: Sequence[Held],
    missing: Sequence[int],
    frozen: Sequence[int],
    inside: set[int],
    trainable: Sequence[int],
    created_before: Callable[[Any, object], bool | None],
) -> Verdict:
    names = tuple(state.parameters[i][0] for i in missing)
    universe = [state.parameters[i][0] for i in trainable]
    what = grouped(names, universe)
    foreign = sum(len(h.parameters) - len(h.inside) for h in optimizers)
    if not inside and foreign:
        text = (
            f"the optimizer holds {foreign} parameters and none of this model's: it was built on "
            f"another, earlier model ({what} will not move)"
        )
        advice = "build the optimizer after the model has its final form"
        return Verdict("TL304", text, (), names, help=advice, cause="coverage")
    if inside and len(frozen) == len(inside) and not foreign:
        mine = state.adapter_parameters
        before = _built_before(state, optimizers, created_before)
        if not (mine & inside) and (not mine or before is False):
            text = (
                f"everything the optimizer was given is frozen ({len(frozen)} parameters); what "
                f"trains is in no optimizer: {what}"
            )
            return Verdict("TL301", text, (), names, cause="coverage")
    text = f"{len(missing)} of {len(trainable)} trainable parameters are in no optimizer: {what}"
    mine = state.adapter_parameters
    if mine and not (mine & inside):
        text += " (the optimizer was built before the adapters were put in)"
    elif foreign:
        text += f" (it still holds {foreign} that the model no longer has)"
    advice = "build the optimizer after the model has its final form, or `add_param_group`"
    return Verdict("TL303", text, (), names, help=advice, cause="coverage")


def _built_before(
    state: Observation,
    optimizers: Sequence[Held],
    created_before: Callable[[Any, object], bool | None],
) -> bool | None:
    """Whether the optimizer is older than the adapters; None if that cannot be told."""
    layer = next((x.module for x in state.layers), state.peft)
    if layer is None:
        return None
    return created_before(optimizers[0].optimizer, layer)


def moves_frozen(state: Observation, holders: Sequence[Held]) -> list[Verdict]:
    """Frozen parameters whose gradient is still there: the step will move them."""
    names = []
    for holder in holders:
        for i in holder.inside:
            parameter = state.parameters[i][1]
            if not parameter.requires_grad and parameter.grad is not None:
                names.append(state.parameters[i][0])
    if not names:
        return []
    text = (
        f"{grouped(names)} frozen after the optimizer took them, with gradients left: the step "
        "still moves them"
    )
    advice = "clear the gradients with `zero_grad()`, or drop them from the optimizer"
    return [Verdict("TL305", text, (), tuple(names), help=advice, cause="moves")]


def with_line(verdict: Verdict, line: str | None) -> Verdict:
    """The verdict at another of the user's lines."""
    return replace(verdict, line=line)


__all__ = [
    "IRREGULAR",
    "Held",
    "Modes",
    "Switch",
    "Verdict",
    "adapters",
    "coverage",
    "eval_mode",
    "held",
    "matches",
    "misset",
    "mixed_mode",
    "moves_frozen",
    "train_mode",
    "unregistered",
    "with_line",
]
