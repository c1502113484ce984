"""Training flags: who must be in train mode, who in eval mode, and who switched them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from trainlint.core.diagnostic import Severity
from trainlint.runtime.judge.on_purpose import dropouts_alone, follows_a_twin, is_norm
from trainlint.runtime.judge.verdict import Verdict
from trainlint.runtime.observation import Observation
from trainlint.runtime.report import grouped


@dataclass(frozen=True, slots=True)
class Switch:
    """One outermost call of `train()` or `eval()`."""

    module: int
    """The module's id."""
    mode: bool
    where: str | None
    through: tuple[str, ...]
    forwards: int = 0
    """How many forwards of the model had begun before it."""

    def __str__(self) -> str:
        call = "train()" if self.mode else "eval()"
        by = next(
            (t for t in self.through if t.endswith(("load_adapter", "from_pretrained"))), None
        )
        return f"{self.where}: {call} was called here" + (f" by `{by}`" if by else "")


@dataclass(frozen=True, slots=True)
class Modes:
    """What a mode verdict needs beside the flags."""

    keep_eval: frozenset[int] = frozenset()
    """Positions of modules that are meant to stay in eval mode."""
    keep_train: frozenset[int] = frozenset()
    switches: tuple[Switch, ...] = ()
    """The last call on each module, in the order of those calls."""
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

    def own_switch(self, name: str, mode: bool) -> bool:
        """Whether the last word on `name` was a call on this very module."""
        switch = self.last(name, mode)
        return switch is not None and self.names.get(switch.module) == name


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


def _who(modes: Modes, names: Sequence[str], mode: bool) -> Switch | None:
    return next((s for n in names if (s := modes.last(n, mode)) is not None), None)


def in_training(state: Observation, flags: _Flags, modes: Modes) -> list[Verdict]:
    """A forward that is trained: nothing that acts on the flag may be in eval mode by accident."""
    return [*_eval_amid_training(state, flags, modes), *_frozen_norm_in_train(state, flags, modes)]


def _eval_amid_training(state: Observation, flags: _Flags, modes: Modes) -> list[Verdict]:
    acting = [i for i in state.sensitive if i not in modes.keep_eval]
    wrong = [i for i in acting if not flags[i] and not _kept_on_purpose(state, flags, i)]
    whole = _whole_eval(state, flags, modes)
    if not wrong:
        return _harmless_eval(state, flags, modes, whole)
    norms = [i for i in acting if is_norm(state.modules[i][1])]
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
        # also the containers that hold nothing here, as `lora_embedding_A` of a linear layer
        kinds = (
            *getattr(layer.module, "adapter_layer_names", ()),
            *getattr(layer.module, "other_param_names", ()),
            "lora_dropout",
        )
        made.update(f"{layer.name}.{kind}" for kind in kinds)
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
    if not any(p.requires_grad for _, p in state.parameters):
        return []
    wrong, lines = [], []
    for position in _norms_and_switched(state, modes):
        name, module = state.modules[position]
        if not flags[position] or position in modes.keep_train:
            continue
        off = _undone(state, modes, name)
        if off is not None:
            wrong.append(name)
            lines.append(off)
        elif is_norm(module) and not state.has_adapters and position in state.sensitive:
            own = [p for p in module._parameters.values() if p is not None]
            if own and not any(p.requires_grad for p in own) and not follows_a_twin(state, name):
                wrong.append(name)
    if not wrong:
        return _norms_undone(state, flags, modes)
    if lines:
        text = (
            f"{grouped(wrong)} frozen, yet back in train mode: `train()` on the whole model undid "
            "the `eval()` of this part, its statistics or dropout are live again"
        )
    else:
        text = f"{grouped(wrong)} frozen, yet in train mode: the running statistics still move"
    related = tuple(dict.fromkeys(str(s) for pair in lines for s in pair))
    advice = "call `eval()` on the frozen part after each `model.train()`"
    return [Verdict("TL105", text, tuple(wrong), related=related, help=advice, cause="undone")]


def _norms_and_switched(state: Observation, modes: Modes) -> list[int]:
    """Positions of normalisation layers, and of what was switched by a call of its own."""
    norms = {i for i in state.sensitive if is_norm(state.modules[i][1])}
    if modes.switches:
        switched = {s.module for s in modes.switches if not s.mode}
        norms.update(i for i, (_, m) in enumerate(state.modules) if id(m) in switched)
    return sorted(norms)


def _norms_undone(state: Observation, flags: _Flags, modes: Modes) -> list[Verdict]:
    """Every normalisation layer was put in eval mode by itself, and back before any forward."""
    acting = [i for i in state.sensitive if is_norm(state.modules[i][1])]
    if not modes.switches or not acting or not all(flags[i] for i in acting):
        return []
    names = tuple(state.modules[i][0] for i in acting if i not in modes.keep_train)
    pairs = [_overridden(modes, name) for name in names]
    undone = [p for p in pairs if p is not None and p[0].forwards == p[1].forwards]
    if not undone or len(undone) < len(names):
        return []
    text = (
        f"`train()` on the whole model undid the `eval()` of {grouped(names)} before any forward: "
        "the running statistics still move"
    )
    related = tuple(dict.fromkeys(str(s) for pair in undone for s in pair))
    advice = "call `eval()` on these layers after each `model.train()`"
    return [Verdict("TL105", text, names, related=related, help=advice, cause="undone")]


def _undone(state: Observation, modes: Modes, name: str) -> tuple[Switch, Switch] | None:
    """What undid the `eval()` of a part that is frozen."""
    pair = _overridden(modes, name)
    return pair if pair is not None and _frozen_below(state, name) is True else None


def _overridden(modes: Modes, name: str) -> tuple[Switch, Switch] | None:
    """The user's `eval()` on exactly this part, and the wider `train()` that undid it."""
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
            return off, switch
    return None


def in_evaluation(
    state: Observation, flags: _Flags, modes: Modes, *, trained: bool = True
) -> list[Verdict]:
    """A forward that is not trained: nothing that acts on the flag may be in train mode."""
    acting = [i for i in state.sensitive if i not in modes.keep_train]
    wrong = [i for i in acting if flags[i]]
    if not wrong or state.passes_by or _samples(state, flags, modes, wrong):
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


def _samples(state: Observation, flags: _Flags, modes: Modes, wrong: Sequence[int]) -> bool:
    """Monte Carlo dropout: in an evaluated model the dropouts alone were switched on, each."""
    if flags[0] or not dropouts_alone(state, wrong):
        return False
    names = [state.modules[i][0] for i in wrong]
    return all(modes.own_switch(name, True) for name in names)


def without_phase(state: Observation, flags: _Flags, modes: Modes) -> list[Verdict]:
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
