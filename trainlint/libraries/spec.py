"""The vocabulary in which the tables say what a library's callables do.

The tables hold literals only; the flow engine interprets them in one place. A claim in a table is
proven by a contract test that makes the real call.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from trainlint.core.facts import Cause, Certainty, Cut, Mode, Share


@dataclass(frozen=True, slots=True)
class Layer:
    """A constructor of one layer; fresh modules are in train mode and trainable.

    `sensitive`: it behaves differently in the two modes. `unless_zero`: only if that argument is
    not a literal 0. `only_if`: only if that keyword is given and not False.
    """

    sensitive: bool = False
    parametric: bool = True
    unless_zero: str = ""
    only_if: str = ""
    container: bool = False
    activation: str = ""


@dataclass(frozen=True, slots=True)
class Factory:
    """A callable that returns a whole model."""

    mode: Mode = Mode.TRAIN
    sensitive: Certainty = Certainty.UNKNOWN
    trainable: Share = Share.ALL
    pretrained: bool = True
    cause: Cause = Cause.FACTORY


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
    set_grad_enabled, neutral."""

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
class Harmless:
    """Does nothing to what it gets."""


@dataclass(frozen=True, slots=True)
class Operation:
    """An effect the engine implements under that name (PEFT's surface, accelerate...)."""

    name: str
    argument: str = "model"


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
    | Clip
    | BackwardFunction
    | Role
    | Activation
    | Harmless
    | Operation
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
    prefixes: tuple[tuple[str, Spec], ...] = ()
    aliases: tuple[tuple[str, str], ...] = ()
    module_bases: tuple[str, ...] = ()
    lightning_bases: tuple[str, ...] = ()
    plain_bases: tuple[str, ...] = ()
    harmless_packages: tuple[str, ...] = ()
