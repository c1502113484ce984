"""Can the active adapters train: not merged, not frozen, not idle."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from trainlint.core.diagnostic import Severity
from trainlint.core.facts import Share
from trainlint.runtime.judge.verdict import Verdict, listed
from trainlint.runtime.observation import AdapterState, Observation, Slot
from trainlint.runtime.report import grouped


def _active(state: Observation, states: Sequence[AdapterState]) -> list[AdapterState]:
    return [a for a in states if a.active is not False or a.name in state.declared]


def trained_merged(state: Observation, states: Sequence[AdapterState]) -> list[Verdict]:
    merged = [a for a in states if a.merged is True]
    if not merged:
        return []
    names = tuple(x.name for x in state.layers if x.merged)
    text = (
        f"trained while {listed(a.name for a in merged)} is merged into the base weights: "
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


def cannot_train(state: Observation, states: Sequence[AdapterState]) -> list[Verdict]:
    """No active adapter has a weight that requires gradients."""
    active = _active(state, states)
    held = [a for a in active if a.parameters]
    if not held or any(a.trainable is not Share.NONE for a in held):
        return []
    names = tuple(state.parameters[i][0] for a in held for i in a.parameters)
    which = listed(a.name for a in held)
    tail = _silent(state)
    mine = state.adapter_parameters
    others = [n for i, (n, p) in enumerate(state.parameters) if p.requires_grad and i not in mine]
    if others:
        tail = f"What does train is {grouped(others)}"
    if state.passes_by:
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
    how = (
        "everything was frozen after the adapters were put in (by hand, or by "
        "`prepare_model_for_kbit_training`)"
    )
    advice = "freeze the base before `get_peft_model`, or call `set_adapter` to unfreeze"
    return Verdict("TL404", text.format(how=how), (), names, help=advice, cause="frozen")


def _quantised(model: nn.Module) -> bool:
    return any(
        bool(getattr(model, flag, False))
        for flag in ("is_loaded_in_8bit", "is_loaded_in_4bit", "is_quantized")
    )


def part_frozen(state: Observation) -> list[Verdict]:
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


def not_activated(state: Observation, states: Sequence[AdapterState]) -> list[Verdict]:
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
        f"{listed(a.name for a in idle)} requires gradients and is not active "
        f"(active: {listed(state.declared)}): it will not be trained"
    )
    advice = f"call `set_adapter({idle[0].name!r})`"
    return [Verdict("TL407", text, (), names, help=advice, cause="idle")]
