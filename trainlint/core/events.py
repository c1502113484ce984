"""What happens in a training program, as rules see it.

Each event is raised by the flow engine while it interprets code, by the runtime half while it
watches a live run, or by both.
"""

from __future__ import annotations

from dataclasses import field, replace
from enum import Enum

from trainlint.core.facts import (
    Cause,
    Certainty,
    LossFacts,
    ModelFacts,
    OptimizerFacts,
    Origin,
    Share,
    Site,
)
from trainlint.core.late import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened at a place.

    `when` says under which circumstances, ready to be appended to a sentence: empty, or
    `" from the second epoch on"`.
    """

    site: Site
    when: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainStep(Event):
    """An optimizer stepped on gradients that a backward had filled.

    `site` is the backward; `models` are the trained models as they were when they ran forward.
    `optimizer` is None when a framework steps and its optimizer is not known.
    """

    step: Site
    models: tuple[ModelFacts, ...]
    optimizer: OptimizerFacts | None = None
    losses: tuple[LossFacts, ...] = ()
    framework: str | None = None
    """`transformers.Trainer` and the like, when the step is inside it."""
    modes_before: frozenset[Site] = frozenset()
    """Where modes were set before the framework's loop began: its versions differ in whether
    they put everything in train mode there."""
    checkpointing: Certainty = Certainty.NO
    """Gradient checkpointing is on, so that a loss of frozen parameters still requires grad."""

    @property
    def nothing_trains(self) -> bool:
        """Every model of the step is known to be frozen from end to end."""
        return bool(self.models) and all(m.trainable.share is Share.NONE for m in self.models)

    def frozen_by(self, cause: Cause) -> tuple[ModelFacts, ...]:
        """The models that this cause froze, if nothing else of the step trains."""
        if not self.nothing_trains:
            return ()
        return tuple(m for m in self.models if m.frozen.cause is cause)


class Evidence(Enum):
    """What tells that a forward is an evaluation."""

    GRAD_OFF = "gradients are off"
    EVAL_ASKED = "eval() was called"
    NAME = "the function or the loader is named so"
    METRICS = "metrics are taken from its output"
    GENERATES = "it generates samples"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation(Event):
    """A forward whose result reaches no backward on any path, with evidence that it evaluates."""

    model: ModelFacts
    grad: Certainty
    """Whether gradients were recorded."""
    evidence: frozenset[Evidence]
    function: str = ""
    in_loop: bool = False
    trained_elsewhere: Origin | None = field(default=None, compare=False)
    """Where the same model is trained in the same program, if it is."""
    needs_train: bool = False
    """It gives a dict of losses, as torchvision's detectors do in train mode only."""
    result_used: Certainty = Certainty.UNKNOWN
    """NO if the forward's result is dropped: it runs for its statistics only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceForward(Event):
    """A model that is not trained gives values to the loss of one that is."""

    model: ModelFacts
    student: str
    backward: Site
    follows: Certainty = Certainty.UNKNOWN
    """Whether its weights are a moving average of the student's."""
    graduated: Certainty = Certainty.UNKNOWN
    """Whether it was trained itself before, and then frozen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backward(Event):
    """`.backward()` ran (or `accelerator.backward`, `scaler.scale(loss).backward()`)."""

    loss: LossFacts
    optimizers: tuple[OptimizerFacts, ...] = ()
    """The optimizers that hold the loss's parameters, before this backward."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerCreated(Event):
    """An optimizer was constructed."""

    optimizer: OptimizerFacts
    models: tuple[ModelFacts, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerStep(Event):
    """`optimizer.step()`, `scaler.step(optimizer)`; facts are those before the step."""

    optimizer: OptimizerFacts
    through_scaler: bool = False
    in_loop: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BackwardWithoutStep(Event):
    """A loop runs backward on an optimizer's parameters and no path ever steps that optimizer."""

    optimizer: OptimizerFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientsCleared(Event):
    """`zero_grad()` of an optimizer or of its model; facts are those before it."""

    optimizer: OptimizerFacts
    between_micro_batches: bool = False
    """The loop clears in every round and steps only in every n-th (`(i + 1) % n == 0`), or not
    before it ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepWithoutBackward(Event):
    """A loop steps an optimizer and no path ever runs a backward that reaches its parameters."""

    optimizer: OptimizerFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerStep(Event):
    """A learning rate scheduler stepped; `before_optimizer`: its optimizer has never stepped."""

    name: str
    optimizer: OptimizerFacts
    before_optimizer: Certainty
    same_loop: Certainty = Certainty.UNKNOWN
    """Whether the optimizer steps later in the same round of the innermost loop around this."""
    epoch_given: bool = False
    """An epoch was passed: the learning rate does not depend on how often it stepped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientsClipped(Event):
    """`clip_grad_norm_` or `clip_grad_value_` on an optimizer's parameters, facts before it."""

    optimizer: OptimizerFacts
    never_before_step: bool = False
    """On no path does a step of that optimizer follow before the next clearing or backward."""
    measures: bool = False
    """The limit is infinite: the call only measures the norm."""
    limit_scaled: bool = False
    """The limit was multiplied by the GradScaler's factor by hand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParametersConsumed(Event):
    """A one-shot iterator of parameters was used up."""

    name: str
    earlier: Origin | None
    """Where it had been used up before, if it had."""
    by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphKept(Event):
    """A result with its graph was kept over iterations and nothing runs backward on it."""

    name: str
    keeper: str
    in_loop: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class AccumulationStep(Event):
    """A step on gradients summed over several micro-batches."""

    divided: Certainty
    optimizer: OptimizerFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientsPileUp(Event):
    """A network outside every optimizer is not frozen and gets gradients that nobody clears."""

    model: ModelFacts
    backward: Site


class Receiver(Enum):
    """What the object before the dot is, as far as is known."""

    MODULE = "module"
    OPTIMIZER = "optimizer"
    SCHEDULER = "scheduler"
    SCALER = "scaler"
    TENSOR = "tensor"
    PARAMETER = "parameter"
    PARAMETERS = "parameters"
    PEFT_MODEL = "peft-model"
    METHOD_OF_ITS_CLASS = "method-of-its-class"
    """An object of the project that is no module, in whose class the attribute is a method."""
    UNKNOWN = "unknown"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class BareReference(Event):
    """A statement that only names an attribute: `model.eval`, `p.requires_grad == False`."""

    receiver: Receiver
    name: str
    attribute: str
    compared: bool = False
    last_in_cell: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscardedCall(Event):
    """A call stands alone as a statement and its result is dropped.

    `callee` is the dotted name of the library's function or class (`torch.no_grad`), or
    `<receiver kind>.<method>`.
    """

    callee: str
    receiver: Receiver = Receiver.OTHER
    name: str = ""
    model: ModelFacts | None = None
    followed_by_def: bool = False
    used_after: Origin | None = field(default=None, compare=False)
    """Where the receiver is saved, trained or wrapped again afterwards."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextNotCalled(Event):
    """`with torch.no_grad:`: a class where an instance belongs."""

    callee: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributeAssigned(Event):
    """`receiver.attribute = value` on a module, parameter or tensor."""

    receiver: Receiver
    name: str
    attribute: str
    value: str
    """The value as a literal (`"False"`), or empty."""
    inside_own_method: bool = False
    over_all_modules: bool = False
    has_submodules: Certainty = Certainty.UNKNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleClassDefined(Event):
    """A class that derives from `torch.nn.Module`; its shape in `overrides`."""

    name: str
    overrides: tuple[ModeOverride, ...] = ()
    unregistered: tuple[tuple[str, str, Site], ...] = ()
    """Attributes that hold layers in a plain container: name, container, site."""


@dataclass(frozen=True, slots=True)
class ModeOverride:
    """How a module class overrides `train` or `eval`."""

    method: str
    site: Site
    takes_mode: bool
    returns_self: bool
    calls_super: bool
    uses_mode: bool
    runs_training: bool
    is_attribute: bool = False
    inert: bool = False
    """Its body does nothing but return: the idiom that fixes a module's mode on purpose."""
    forces_eval: bool = False
    """It puts the module in eval whatever `mode` says, on purpose: `super().train(False)`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCreatedInForward(Event):
    """A layer is constructed, and at once used, in a module's `forward`."""

    layer: str
    sensitive: bool
    parametric: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionalDropout(Event):
    """A functional dropout, or attention with `dropout_p`, in a module's method."""

    callee: str
    training: str
    """`"missing"`, `"true"`, `"false"`, `"tied"` or `"unknown"`."""
    probability_zero: Certainty
    guarded: bool
    in_module: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LossApplied(Event):
    """A library loss was computed on an output whose last activation is known."""

    loss: str
    activation: str
    """`softmax`, `log_softmax`, `sigmoid`, `relu`, `none` (certainly a linear layer) or empty."""
    activation_origin: Origin | None = field(default=None, compare=False)
    model: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptersInjected(Event):
    """Adapters were put into a model: `get_peft_model`, `PeftModel.from_pretrained`, ...

    `model` is the model before.
    """

    callee: str
    model: ModelFacts
    into_wrapper: bool = True
    """What they were put into is the PEFT model, not the base inside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterSaved(Event):
    """Only the adapters of a model were saved: `PeftModel.save_pretrained(...)` and the like."""

    model: ModelFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterNeverActivated(Event):
    """An adapter was added to be trained, a step trained the model, and nothing ever activates it.

    `site` is the backward; the model's facts are those at its step.
    """

    model: ModelFacts
    adapter: str
    added: Origin | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptersFrozenBeside(Event):
    """A step trained something beside fresh adapters that are frozen, and no step trains them.

    `site` is the backward; `model` is what has the adapters.
    """

    model: ModelFacts

    def frozen_by(self, cause: Cause) -> tuple[ModelFacts, ...]:
        """The model, if this cause froze its adapters."""
        adapters = self.model.adapters
        if adapters is None or adapters.trainable.cause is not cause:
            return ()
        return (replace(self.model, trainable=adapters.trainable),)


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochLoop(Event):
    """An epoch loop draws again from a loader that a DistributedSampler feeds.

    `site` is the statement of the epoch loop, not of the loop over the loader inside it.
    """

    sampler: str
    shuffles: Certainty
    epoch_set: Certainty
    managed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WrapperBypassed(Event):
    """A trained forward went through `ddp.module` and not through the wrapper."""

    wrapper: str
    model: ModelFacts
