"""What is known about a model, an optimizer or a loss at one moment.

The static half reads these facts off an abstract state, the runtime half off live objects; a
rule cannot tell the difference. Every fact can be unknown, and an unknown fact never alarms.
"""

from __future__ import annotations

from dataclasses import field
from enum import Enum
from typing import NamedTuple

from trainlint.core.late import dataclass


class Site(NamedTuple):
    """A place in somebody's code.

    `node` is the static half's handle on a syntax node, from which rows and columns are computed
    only when a finding is reported there; the runtime half gives `row` and leaves `node` at -1.
    """

    path: str
    node: int = -1
    row: int = 0


class Origin(NamedTuple):
    """Where a fact comes from and how to say so: one step of an evidence trail."""

    site: Site
    note: str


class Fact(Enum):
    """One of a few answers; hashed by identity, for states are compared by their facts."""

    __hash__ = object.__hash__


class Certainty(Fact):
    """A three-valued truth."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


class Mode(Fact):
    """The training flags of a module and everything below it."""

    TRAIN = "train"
    EVAL = "eval"
    MIXED = "mixed"
    UNKNOWN = "unknown"


class Share(Fact):
    """How many of a set of parameters."""

    ALL = "all"
    SOME = "some"
    NONE = "none"
    UNKNOWN = "unknown"


class Gradients(Fact):
    """What the `.grad` fields of an optimizer's parameters hold."""

    UNKNOWN = "unknown"
    ABSENT = "absent"  # nothing has run backward yet
    FRESH = "fresh"  # a backward has filled them since the last step or clearing
    CONSUMED = "consumed"  # a step used them and nothing cleared them since
    MIXED_IN = "mixed-in"  # a backward added to consumed gradients
    CLEARED = "cleared"  # cleared after a step, or before any backward
    WIPED = "wiped"  # cleared after a backward that no step has used


class Cause(Fact):
    """Why a fact is as it is, where a rule has to tell causes apart.

    The static half sets it where it saw the call; the runtime half where PEFT's or torch's state
    or a patched entry point tells.
    """

    EXPLICIT_CALL = "explicit-call"  # the user's own .train()/.eval()/.requires_grad_() ...
    FACTORY = "factory"  # from_pretrained and the like return it so
    PEFT_LOADED_FROZEN = "peft-loaded-frozen"  # is_trainable not given
    PEFT_INFERENCE_CONFIG = "peft-inference-config"  # inference_mode=True in the config
    PEFT_KBIT_AFTER = "peft-kbit-after"  # prepare_model_for_kbit_training after the adapters
    PEFT_FROZEN_BY_HAND = "peft-frozen-by-hand"  # frozen after the adapters went in
    PEFT_LOAD_ADAPTER = "peft-load-adapter"  # load_adapter flipped the whole model to eval
    PEFT_UNMERGED_RESULT = "peft-unloaded"  # merge_and_unload left nothing trainable
    PEFT_BASE_UNFROZEN = "peft-base-unfrozen"  # the base was made trainable after the adapters
    PEFT_INJECTION = "peft-injection"  # adapters were put in (get_peft_model, add_adapter ...)
    PEFT_ACTIVATION = "peft-activation"  # set_adapter changed what trains
    HEAD_REPLACED = "head-replaced"  # a sub-module was assigned
    UNFROZEN = "unfrozen"  # requires_grad turned on after the optimizer took its parameters
    REBUILT = "rebuilt"  # a new model took the old one's place
    COPIED = "copied"  # deepcopy
    FRAMEWORK = "framework"  # a trainer or wrapper did it


@dataclass(frozen=True, slots=True)
class ModeFact:
    """A mode, who set it, and why."""

    mode: Mode = Mode.UNKNOWN
    cause: Cause | None = None
    origin: Origin | None = field(default=None, compare=False)
    by: str = field(default="", compare=False)
    """The project's function that set it, as a call: `evaluate()`; empty outside functions."""


@dataclass(frozen=True, slots=True)
class TrainableFact:
    """How many parameters have `requires_grad`, who set it last, and why."""

    share: Share = Share.UNKNOWN
    cause: Cause | None = None
    origin: Origin | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class PartFact:
    """One sub-module: its dotted name below the model, its flag, and whether modes matter to it."""

    name: str
    mode: ModeFact
    sensitive: Certainty = Certainty.UNKNOWN
    trainable: Share = Share.UNKNOWN
    kept_eval: Origin | None = field(default=None, compare=False)
    """Where the user put this part, and not the whole model, in eval mode."""


@dataclass(frozen=True, slots=True)
class AdapterFacts:
    """PEFT's view of a model."""

    names: tuple[str, ...] = ()
    active: tuple[str, ...] = ()
    trainable: TrainableFact = TrainableFact()
    merged: Certainty = Certainty.NO
    merged_origin: Origin | None = field(default=None, compare=False)
    disabled: Certainty = Certainty.NO
    not_activated: tuple[str, ...] = ()
    """Adapters added or loaded to be trained and never activated."""
    added_origin: Origin | None = field(default=None, compare=False)
    injected: Origin | None = field(default=None, compare=False)
    unloaded: Origin | None = field(default=None, compare=False)
    """Where `merge_and_unload()`/`unload()` emptied the wrapper, if it is still used."""
    base_trainable: TrainableFact = TrainableFact()
    base_trained: Origin | None = field(default=None, compare=False)
    """The last backward that filled gradients of unfrozen base weights which then stepped."""
    head_fresh_untrained: Origin | None = field(default=None, compare=False)
    """A freshly initialised task head that is frozen and not saved."""
    input_grad_missing: Origin | None = field(default=None, compare=False)
    """Reentrant checkpointing over a frozen base whose inputs need no gradient."""
    nested: Origin | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """One model as it was when it ran forward (or as it is now)."""

    name: str
    mode: ModeFact = ModeFact()
    trainable: TrainableFact = TrainableFact()
    sensitive: Certainty = Certainty.UNKNOWN
    """Whether any layer behaves differently in the two modes; NO only if all layers are known."""
    layers: tuple[str, ...] = ()
    """The mode-sensitive layers that are known, as `name: Class`, for the message."""
    parts: tuple[PartFact, ...] = ()
    overridden: tuple[tuple[str, Origin, Origin], ...] = ()
    """Parts put in eval on purpose that a later `train()` of the whole undid: name, eval, train."""
    adapters: AdapterFacts | None = None
    flag_assigned: Origin | None = field(default=None, compare=False)
    """Where `model.training = ...` was assigned and did not reach the sub-modules."""
    managed: bool = False
    """A framework (HF Trainer, Lightning) sets the mode around each step."""
    evaluated: Certainty = Certainty.UNKNOWN
    """Whether it has run an evaluation since its mode was last set."""
    trained: Certainty = Certainty.UNKNOWN
    """Whether a step has trained it since its mode was last set."""
    loaded: Origin | None = field(default=None, compare=False)
    """Where trained weights were loaded into it (`load_state_dict`, `torch.load`, a factory)."""

    @property
    def frozen(self) -> TrainableFact:
        """Why nothing of it trains: what PEFT did to its adapters, else what happened to all."""
        adapters = self.adapters
        if adapters and adapters.trainable.share is Share.NONE and adapters.trainable.cause:
            return adapters.trainable
        return self.trainable


@dataclass(frozen=True, slots=True)
class ParameterGap:
    """Parameters that train and that the optimizer does not hold."""

    model: str
    what: str
    cause: Cause
    origin: Origin | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class OptimizerFacts:
    """One optimizer at the moment of an event."""

    name: str
    kind: str = "optimizer"
    """The class, as the user wrote it: `AdamW`."""
    created: Origin | None = field(default=None, compare=False)
    frozen: Share = Share.UNKNOWN
    """How many of its parameters are frozen now."""
    given_frozen: Share = Share.UNKNOWN
    """How many of them were frozen when it took them."""
    frozen_origin: Origin | None = field(default=None, compare=False)
    moves_frozen: Origin | None = field(default=None, compare=False)
    """Where parameters were frozen while their gradient or momentum goes on moving them."""
    missing: tuple[ParameterGap, ...] = ()
    stale: tuple[ParameterGap, ...] = ()
    gradients: Gradients = Gradients.UNKNOWN
    backward: Origin | None = field(default=None, compare=False)
    """The backward that last filled the gradients."""
    cleared: Origin | None = field(default=None, compare=False)
    cleared_at_times: bool = False
    """The clearing stands under a condition that its backward and the step do not stand under."""
    stepped: Origin | None = field(default=None, compare=False)
    backward_this_round: bool = True
    """The last backward ran in the same round of the innermost loop."""
    scaled: Certainty = Certainty.NO
    """The gradients are still multiplied by a GradScaler's factor."""
    scaled_origin: Origin | None = field(default=None, compare=False)
    clipped: Origin | None = field(default=None, compare=False)
    uses_closure: bool = False


class Cut(Fact):
    """How a loss was separated from its graph."""

    ITEM = ".item()"
    DATA = ".data"
    DETACH = ".detach()"
    REBUILT = "torch.tensor(...)"
    NUMPY = ".numpy()"
    NO_GRAD = "gradients off"
    COMPARISON = "argmax or a comparison"


@dataclass(frozen=True, slots=True)
class LossFacts:
    """What `.backward()` is called on."""

    name: str
    models: tuple[ModelFacts, ...] = ()
    """Models whose graph it certainly or possibly holds."""
    references: tuple[ModelFacts, ...] = ()
    """Models that contributed values without a graph: teachers, targets, reference passes."""
    cut: Cut | None = None
    """Set only if certainly nothing of its graph is left."""
    cut_origin: Origin | None = field(default=None, compare=False)
    grad_off: Origin | None = field(default=None, compare=False)
    """Where gradients had been turned off when it was computed, if that is why it has no graph."""
    grad_leaked: bool = False
    """That turning off was a statement (`set_grad_enabled(False)`) and no block."""
