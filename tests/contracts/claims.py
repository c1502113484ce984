"""Runs one piece of code twice, for real and in the abstract state, and tells both in one form.

What the tables and the engine claim of a call is right if both runs end with the same modes, the
same trainable parameters, the same active adapters and the same identities.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from trainlint.core.facts import Certainty, Mode, ModelFacts, Share
from trainlint.flow.frames import Frame
from trainlint.flow.interpret import Interpreter
from trainlint.flow.project import NoFiles, Project
from trainlint.flow.record import Recorder
from trainlint.flow.relevance import Relevance
from trainlint.flow.state import State
from trainlint.flow.values import Ref
from trainlint.syntax.lower import lower


@dataclass(frozen=True)
class Status:
    """A model's modes, what trains of it, and the state of its adapters; None where unknown."""

    mode: Mode | None
    adapters: Share | None = None
    base: Share | None = None
    active: frozenset[str] | None = None
    merged: bool | None = None
    disabled: bool | None = None

    def contradicts(self, other: Status) -> list[str]:
        """The fields in which both know something and do not agree."""
        return [
            f"{name}: claimed {getattr(self, name)}, really {getattr(other, name)}"
            for name in ("mode", "adapters", "base", "active", "merged", "disabled")
            if getattr(self, name) is not None
            and getattr(other, name) is not None
            and getattr(self, name) != getattr(other, name)
        ]


# --- the claim -------------------------------------------------------------------------------


@dataclass
class Claim:
    """The abstract state at the end of a piece of code."""

    run: Interpreter
    state: State
    frame: Frame

    def value(self, name: str) -> Any:
        """What a variable holds."""
        return self.state.vars.get((self.frame.id, name))

    def facts(self, name: str) -> ModelFacts:
        """What rules would see of the model in a variable."""
        value = self.value(name)
        assert isinstance(value, Ref), f"{name} is not known to be a model: {value}"
        return self.run.models.facts(value.oid, name, self.state)

    def same(self, first: str, second: str) -> bool:
        """Whether two variables hold one object."""
        return bool(self.value(first) == self.value(second))

    def status(self, name: str) -> Status:
        """A model as it is claimed to be."""
        facts = self.facts(name)
        mode = None if facts.mode.mode is Mode.UNKNOWN else facts.mode.mode
        adapters = facts.adapters
        if adapters is None or adapters.unloaded is not None:
            return Status(mode, base=_known(facts.trainable.share))
        return Status(
            mode,
            _known(adapters.trainable.share),
            _known(adapters.base_trainable.share),
            frozenset(adapters.active),
            _sure(adapters.merged),
            _sure(adapters.disabled),
        )


def claimed(code: str) -> Claim:
    """Interpret code that takes one path only."""
    module = lower(code, "claim.py")
    project = Project(NoFiles())
    info = project.add(module)
    run = Interpreter(project, Recorder.of(()), Relevance())
    frame = Frame(run.scopes.module_frame(info), info)
    run.frames[frame.id] = frame
    out = run.block(module.body, [State()], frame)
    assert len(out.on) == 1, f"{len(out.on)} paths"
    return Claim(run, out.on[0], frame)


def _known(share: Share) -> Share | None:
    return None if share is Share.UNKNOWN else share


def _sure(certainty: Certainty) -> bool | None:
    return None if certainty is Certainty.UNKNOWN else certainty is Certainty.YES


# --- the truth -------------------------------------------------------------------------------


def real(model: nn.Module) -> Status:
    """A live model as it is, by torch's flags and PEFT's own layers."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [m for m in model.modules() if isinstance(m, BaseTunerLayer)]
    flags = {_flag(name, module, layers) for name, module in model.named_modules()} - {None}
    mode = Mode.MIXED if len(flags) > 1 else Mode.TRAIN if True in flags else Mode.EVAL
    ours, base = [], []
    names = {a for layer in layers for a in layer.active_adapters}
    for name, parameter in model.named_parameters():
        if "lora_" in name or "prompt_" in name or "modules_to_save" in name:
            if any(f".{a}." in name or name.endswith(f".{a}") for a in names) or not layers:
                ours.append(parameter.requires_grad)
        else:
            base.append(parameter.requires_grad)
    if not layers and not ours:
        return Status(mode, base=_share(base))
    merged = {layer.merged for layer in layers}
    disabled = {layer.disable_adapters for layer in layers}
    return Status(
        mode,
        _share(ours),
        _share(base),
        frozenset(names) if layers else None,
        merged.pop() if len(merged) == 1 else None,
        disabled.pop() if len(disabled) == 1 else None,
    )


def _flag(name: str, module: nn.Module, layers: list[Any]) -> bool | None:
    """Leaf flags only, and none of adapters that the forward does not use."""
    if next(module.children(), None) is not None:
        return None
    names = {a for layer in layers for a in layer.active_adapters}
    if layers and "lora_" in name:
        last = name.rsplit(".", 1)[-1]
        owner = name.split("lora_", 1)[1].split(".")
        if last not in names and not any(part in names for part in owner):
            return None
    return module.training


def _share(flags: list[bool]) -> Share | None:
    if not flags:
        return None
    return Share.ALL if all(flags) else Share.SOME if any(flags) else Share.NONE
