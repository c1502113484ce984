"""The vocabulary in which the tables say what a library's callables do.

The tables hold literals only; the flow engine interprets them in one place. A claim in a table is
proven by a contract test that makes the real call.
"""

from __future__ import annotations

from typing import TypeAlias

from trainlint.core.facts import Cause, Certainty, Cut, Mode, Share
from trainlint.core.late import dataclass


@dataclass(frozen=True, slots=True)
class Layer:
    """A constructor of one layer; fresh modules are in train mode and trainable.

    `sensitive`: it behaves differently in the two modes. `unless_zero`: only if that argument is
    not a literal 0. `only_if`: only if that keyword is given and not False. `unless_false`: only
    if that keyword is not False. `weights_unless_false`, `weights_only_if`: the same for whether
    it has weights. `activation`: what it ends with; `none` for a linear map, `same` for a layer
    that passes its input on.
    """

    sensitive: bool = False
    parametric: bool = True
    unless_zero: str = ""
    only_if: str = ""
    container: bool = False
    activation: str = ""
    unless_false: str = ""
    weights_unless_false: str = ""
    weights_only_if: str = ""
    rates: tuple[tuple[str, int], ...] = ()
    """Dropout rates by name and position, 0 unless given: sensitive only if one of them is."""
    unless_given: tuple[str, int] = ("", -1)
    """The argument, by name and position, that is the activation it ends with instead."""


@dataclass(frozen=True, slots=True)
class Factory:
    """A callable that returns a whole model."""

    mode: Mode = Mode.TRAIN
    sensitive: Certainty = Certainty.UNKNOWN
    trainable: Share = Share.ALL
    pretrained: bool = True
    cause: Cause = Cause.FACTORY
    heads: tuple[str, ...] = ()
    """Class name endings whose task head a pretrained checkpoint does not hold."""
    head_arguments: tuple[str, ...] = ()
    """Arguments that ask for a head of one's own size."""
    trained_heads: tuple[str, ...] = ()
    """Words in a checkpoint's name that tell of a head trained already."""
    stock_heads: tuple[int, ...] = ()
    """Sizes of head that its checkpoints have: for another literal size a head is made anew."""
    pixels: tuple[str, ...] = ()
    """Class name endings whose inputs are pixels, so that no embedding can require gradients."""


@dataclass(frozen=True, slots=True)
class Wrapper:
    """Returns a module that shares all parameters with its first argument."""

    kind: str
    argument: str = "module"
    attribute: str = "module"
    keeps_object: bool = False


@dataclass(frozen=True, slots=True)
class OptimizerClass:
    """An optimizer; its first argument are the parameters or groups."""

    argument: str = "params"
    closure: bool = False


@dataclass(frozen=True, slots=True)
class SchedulerClass:
    """A learning rate scheduler; `warns`: it must not step before the optimizer."""

    argument: str = "optimizer"
    warns: bool = True


@dataclass(frozen=True, slots=True)
class ScalerClass:
    """A gradient scaler."""


@dataclass(frozen=True, slots=True)
class Context:
    """A context manager (and decorator). `kind`: no_grad, inference_mode, enable_grad,
    set_grad_enabled, neutral.
    """

    kind: str
    statement_works: bool = False


@dataclass(frozen=True, slots=True)
class LossClass:
    """A loss module; `name` is what TL505 knows it by."""

    name: str = ""


@dataclass(frozen=True, slots=True)
class LossFunction:
    """A functional loss of (input, target)."""

    name: str = ""


@dataclass(frozen=True, slots=True)
class Same:
    """Returns its argument, the same object."""

    argument: int = 0
    ungraphed: str = ""
    """The flag with which nothing computed from it records a graph."""


@dataclass(frozen=True, slots=True)
class Copy:
    """Returns an independent copy: same mode, other parameters."""


@dataclass(frozen=True, slots=True)
class Cuts:
    """The result carries the values of its tensors but not their graph."""

    how: Cut


@dataclass(frozen=True, slots=True)
class Clip:
    """Clips the gradients of its first argument's parameters."""

    argument: str = "parameters"


@dataclass(frozen=True, slots=True)
class BackwardFunction:
    """Runs backward on its first argument; `fills`: the `.grad` fields are filled."""

    fills: bool = True


@dataclass(frozen=True, slots=True)
class Role:
    """Makes an object with a role the engine knows: loader, sampler, accelerator, trainer..."""

    role: str
    keeps: tuple[tuple[str, int], ...] = ()
    """Arguments to remember, by name and position."""


@dataclass(frozen=True, slots=True)
class Activation:
    """A function whose result has a known last activation."""

    name: str


@dataclass(frozen=True, slots=True)
class Reshape:
    """A function that rearranges its first argument: the values stay what they are."""


@dataclass(frozen=True, slots=True)
class Packs:
    """A function that packs its first argument into an object with the values as `data`."""


@dataclass(frozen=True, slots=True)
class DropoutFunction:
    """A function that drops values: where its probability and its `training` argument stand.

    `position` and `training_position` are those of a positional argument. `training` is empty
    if it has none and always drops; `default` is the probability if none is given.
    """

    probability: str = "p"
    position: int = 1
    training: str = "training"
    training_position: int = 2
    default: float = 0.5


@dataclass(frozen=True, slots=True)
class Creates:
    """Makes a tensor of numbers: it has no graph unless `requires_grad` asks for one."""


@dataclass(frozen=True, slots=True)
class Harmless:
    """Does nothing to what it gets."""


@dataclass(frozen=True, slots=True)
class Runs:
    """Calls the network that it is handed, on its other arguments."""

    argument: str
    position: int


@dataclass(frozen=True, slots=True)
class Operation:
    """An effect the engine implements under that name (PEFT's surface, accelerate...)."""

    name: str
    argument: str = "model"


@dataclass(frozen=True, slots=True)
class Settings:
    """Keeps all its arguments by name: a config, training arguments."""

    role: str
    what: str = ""
    """What a config's adapters are called: "the LoRA weights"."""
    saved: bool = False
    """Read from a saved adapter, where `inference_mode` is true."""
    prompt: bool = False
    """Prompt learning: parameters beside the base, which is left as it is but for freezing."""
    activates: bool = False
    """`add_adapter` with it activates what it adds."""
    frozen_for_inference: bool = True
    """Whether `inference_mode` and loading freeze what it makes."""
    partly: bool = False
    """Some of what it makes is frozen from the start, on purpose."""
    partly_if: tuple[str, str] = ("", "")
    """The same if that argument has that value."""
    rate: str = ""
    """The argument that holds its only dropout rate, 0 unless given."""


@dataclass(frozen=True, slots=True)
class Inject:
    """Puts adapters made from a config into a model, in place.

    `wraps`: returns a PeftModel around it; otherwise the model itself.
    """

    model: int = 0
    config: int = 1
    name: int = 2
    wraps: bool = True
    config_name: str = "peft_config"
    wrapper: str = "peft"


@dataclass(frozen=True, slots=True)
class LoadAdapters:
    """Returns a PeftModel with adapters from a checkpoint, frozen unless asked otherwise.

    `onto`: the base is the first argument; otherwise it is loaded too.
    """

    onto: bool = True
    name: int = 2
    trainable: int = 3
    freezes: bool = True
    """Whether it freezes them; the mode is eval all the same."""


@dataclass(frozen=True, slots=True)
class PrepareQuantised:
    """Freezes everything in the model it gets and may turn on gradient checkpointing."""


@dataclass(frozen=True, slots=True)
class TrainerClass:
    """A class whose instance owns the training loop of the model it gets.

    `heals`: it puts the model in train mode before each step. `checkpoints`: gradient
    checkpointing is on unless the training arguments say otherwise.
    """

    framework: str
    method: str = "train"
    model: int = 0
    args: int | None = 1
    keyword: str = "model"
    """What the model's argument is called."""
    heals: bool = True
    checkpoints: bool = False
    injects: bool = False
    """It puts adapters in where it gets a `peft_config`."""
    evaluations: tuple[str, ...] = ("evaluate", "predict")


@dataclass(frozen=True, slots=True)
class HookedLoop:
    """A training loop that a framework runs over the hooks of a class, in this order.

    `takes_batch`: the hooks whose first argument is what the loader gave.
    `automatic`: the attribute that tells whether the framework clears, runs backward and steps.
    `index`: the parameter of `step` that says for which of several optimizers it is called.
    """

    before: tuple[str, ...]
    optimizers: str
    start: tuple[str, ...]
    epoch_start: tuple[str, ...]
    batch_start: tuple[str, ...]
    step: str
    after_backward: tuple[str, ...]
    batch_end: tuple[str, ...]
    validation: tuple[str, ...]
    epoch_end: tuple[str, ...]
    takes_batch: tuple[str, ...]
    automatic: str
    index: str

    @property
    def hooks(self) -> frozenset[str]:
        """All of them."""
        groups = (
            self.before, self.start, self.epoch_start, self.batch_start, self.after_backward,
            self.batch_end, self.validation, self.epoch_end,
        )  # fmt: skip
        return frozenset((self.optimizers, self.step, *(h for group in groups for h in group)))


Spec: TypeAlias = (
    Layer
    | Factory
    | Wrapper
    | OptimizerClass
    | SchedulerClass
    | ScalerClass
    | Context
    | LossClass
    | LossFunction
    | Same
    | Copy
    | Cuts
    | Creates
    | Clip
    | BackwardFunction
    | Role
    | Activation
    | Reshape
    | DropoutFunction
    | Harmless
    | Operation
    | Runs
    | Packs
    | Settings
    | Inject
    | LoadAdapters
    | PrepareQuantised
    | TrainerClass
)


@dataclass(frozen=True, slots=True)
class Table:
    """What one library contributes.

    `calls`: exact dotted paths. `methods`: `(path prefix, method name)` of classes known by
    prefix only, such as every `transformers.*.from_pretrained`. `aliases`: other paths of the
    same thing.
    """

    calls: dict[str, Spec]
    methods: tuple[tuple[str, str, Spec], ...] = ()
    constructors: tuple[tuple[str, str, Spec], ...] = ()
    """Classes known by a path prefix and a pattern of their name."""
    not_models: tuple[str, ...] = ()
    """Ends of the names of classes that `methods` does not mean."""
    prefixes: tuple[tuple[str, Spec], ...] = ()
    aliases: tuple[tuple[str, str], ...] = ()
    module_bases: tuple[str, ...] = ()
    lightning_bases: tuple[str, ...] = ()
    plain_bases: tuple[str, ...] = ()
    harmless_packages: tuple[str, ...] = ()
    number_packages: tuple[str, ...] = ()
    """Packages whose functions give numbers and arrays: no graph of torch's is in them."""
    adapter_methods: tuple[tuple[str, str], ...] = ()
    """Methods of a PeftModel and their effects, by name."""
    native_prefixes: tuple[str, ...] = ()
    """Libraries whose models have adapter methods of their own."""
    native_methods: tuple[tuple[str, str], ...] = ()
    """Those methods and their effects."""
