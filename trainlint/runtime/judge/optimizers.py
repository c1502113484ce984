"""The optimizers against what is meant to train."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from trainlint.core.diagnostic import Severity
from trainlint.runtime.judge.verdict import Verdict
from trainlint.runtime.observation import Observation
from trainlint.runtime.report import grouped


@dataclass(frozen=True, slots=True)
class Held:
    """What one optimizer holds."""

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
    return Held(parameters, inside, flat, optimizer)


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
    steps: Held | None = None,
) -> list[Verdict]:
    """The optimizers against what is meant to train.

    `graded`: only what has a gradient counts; `steps`: the one about to step, as others may hold
    what is frozen for its turn only.
    """
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
        if steps is not None and len(frozen) < len(inside):
            inside = set(steps.inside)
            frozen = [i for i in frozen if i in inside]
        return _some_frozen(state, optimizers, frozen, inside)
    return [_missing(state, optimizers, missing, frozen, inside, trainable)]


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
        before = _built_before(state, optimizers)
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
) -> bool | None:
    """Whether the optimizer is older than the adapters; None if that cannot be told.

    The PeftModel is asked first: like the optimizer it is held by the user's own variables. What
    only other objects hold, as a layer, a collection may put behind them.
    """
    made = state.peft if state.peft is not None else next((x.module for x in state.layers), None)
    if made is None:
        return None
    return _created_before(optimizers[0].optimizer, made)


def _created_before(optimizer: Any, thing: object) -> bool | None:
    """Whether one object is older than another, from the order in which gc tracks them.

    The collector appends what it meets to its oldest generation in order of creation; where the
    answer is unsure it is None, and only a choice between two true descriptions hangs on it.
    """
    if optimizer is None:
        return None
    seen: list[str] = []
    for generation in (2, 1, 0):
        for found in gc.get_objects(generation=generation):
            if found is optimizer:
                seen.append("optimizer")
            elif found is thing:
                seen.append("thing")
    return seen[0] == "optimizer" if len(seen) == 2 else None


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
