"""Abstract values: what an expression can evaluate to.

Values are immutable and hashable. Whatever has identity and changes (models, optimizers, lists,
instances) lives in the state's heap and is referred to by a `Ref`; an object that the heap knows
nothing about is opaque, and its `Ref` is also a symbol: two uses of the same unknown are equal.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import field
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from trainlint.core.facts import Certainty, Cut, ModelFacts, Origin
from trainlint.core.late import dataclass

if TYPE_CHECKING:
    from trainlint.flow import ir
    from trainlint.flow.project import ClassInfo, ModuleInfo

ObjectId: TypeAlias = Hashable
FrameId: TypeAlias = int


class Const(NamedTuple):
    """A known constant. `kind` keeps `1` and `True` apart."""

    value: Hashable
    kind: str


def const(value: Hashable) -> Const:
    """The constant for a Python value."""
    return Const(value, type(value).__name__)


NONE = const(None)
TRUE = const(True)
FALSE = const(False)


class Ref(NamedTuple):
    """An object in the heap, or an opaque one."""

    oid: ObjectId


class External(NamedTuple):
    """Something of a library, by its canonical dotted path: `torch.optim.AdamW`."""

    path: str


class Package(NamedTuple):
    """A module of the project, by its file."""

    path: str


@dataclass(frozen=True, slots=True, eq=False)
class Func:
    """A function of the project with the frame it closes over."""

    function: ir.Function
    module: ModuleInfo
    frame: FrameId | None = None
    owner: ClassInfo | None = None
    contexts: tuple[Value, ...] = ()
    """Library contexts that decorators put around every call."""
    is_context: bool = False
    kind: str = ""
    """`property`, `staticmethod`, `classmethod` or empty."""

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Func)
            and self.function is other.function
            and self.frame == other.frame
            and self.contexts == other.contexts
        )

    def __hash__(self) -> int:
        return hash((id(self.function), self.frame))


class ClassValue(NamedTuple):
    """A class of the project."""

    info: ClassInfo


class Method(NamedTuple):
    """A function of the project bound to its receiver."""

    receiver: Value
    func: Func


class LibraryMethod(NamedTuple):
    """An attribute of an object that is not a project's: called, it is a method."""

    receiver: Value
    name: str


class Partial(NamedTuple):
    """`functools.partial(func, *args, **keywords)`."""

    func: Value
    args: tuple[Value, ...]
    keywords: tuple[tuple[str, Value], ...]


class Super(NamedTuple):
    """`super()` inside a method of `owner` on `receiver`."""

    receiver: Value
    owner: ClassInfo


class TupleValue(NamedTuple):
    """A tuple whose items are known."""

    items: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Forward:
    """One forward of a model: the model's facts at that moment and the gradient mode."""

    oid: ObjectId
    site: ObjectId
    facts: ModelFacts
    grad: Certainty
    grad_origin: Origin | None = field(default=None, compare=False)
    grad_leaked: bool = False
    bypasses: ObjectId = None
    """The wrapper (DDP) that this forward went around."""
    carries: bool = False
    """Its inputs have a graph, so that gradients pass through it."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor by what it was computed from. `attached` says whether its graph is still there."""

    forwards: frozenset[Forward] = frozenset()
    attached: Certainty = Certainty.UNKNOWN
    cut: Cut | None = None
    cut_origin: Origin | None = field(default=None, compare=False)
    references: frozenset[Forward] = frozenset()
    """Forwards whose values but not whose graph are in it."""
    fed: frozenset[Forward] = frozenset()
    """Forwards whose results were inputs of another forward: features, not targets."""
    scaler: ObjectId = None
    activation: str = ""
    activation_origin: Origin | None = field(default=None, compare=False)
    parts: tuple[tuple[object, str], ...] = ()
    """Of several outputs in one (a tuple, a dict), the activation of each, by index or key."""
    divided: bool = False
    leaf: bool = False
    """requires_grad was switched on by hand."""
    is_loss: bool = False
    packed: bool = False
    """A PackedSequence, or what a recurrent layer makes of one: its `data` has the graph."""


class ParameterSource(NamedTuple):
    """Parameters of one module that an iterator yields.

    `whole`: all of them, else a subset; `only_trainable`: filtered by requires_grad;
    `frozen`: what was frozen when an optimizer took them; `changes` those it had by then.
    """

    oid: ObjectId
    whole: bool = True
    only_trainable: bool = False
    changes: frozenset[ObjectId] = frozenset()
    frozen_then: frozenset[ObjectId] = frozenset()
    partly_then: frozenset[ObjectId] = frozenset()
    """Of modules some of whose parameters were frozen then, so that a filter left them out."""


class ParameterValue(NamedTuple):
    """One parameter of an iteration; `whole`: the loop visits them all unconditionally."""

    sources: tuple[ParameterSource, ...]
    whole: bool
    depth: int


class ParameterName(NamedTuple):
    """The name that comes with a parameter in `named_parameters()`."""

    depth: int


class Condition(NamedTuple):
    """A truth value that is not known but recognised when it is tested again."""

    key: Hashable
    positive: bool


Value: TypeAlias = (
    Const
    | Ref
    | External
    | Package
    | Func
    | ClassValue
    | Method
    | LibraryMethod
    | Partial
    | Super
    | TupleValue
    | Tensor
    | ParameterValue
    | ParameterName
    | Condition
)


def condition_key(value: Value) -> tuple[Hashable, bool]:
    """The question that a value's truth answers, and whether yes means true."""
    if isinstance(value, Condition):
        return value.key, value.positive
    return ("truth", value_key(value)), True


def value_key(value: Value) -> Hashable:
    """A value's identity inside a condition."""
    return value.oid if isinstance(value, Ref) else value


def is_text(value: Value) -> bool:
    """Whether it is text put together here, as an f-string or a path: neither None nor empty."""
    return isinstance(value, Ref) and isinstance(value.oid, tuple) and value.oid[0] == "text"


MAX_KEY = 60
"""Parts of a key; one that is made of itself, over and over, would double each time."""

MAX_ITEMS = 2000
"""Items of a list or tuple, those within them included, that are known one by one."""


def is_small(key: object, limit: int = MAX_KEY) -> bool:
    """Whether a key has few enough parts to be hashed and compared again and again."""
    parts = 0
    stack = [key]
    while stack and parts < limit:
        parts += 1
        top = stack.pop()
        if isinstance(top, tuple):
            stack.extend(top)
    return parts < limit
