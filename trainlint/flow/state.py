"""One disjunct of the abstract state, and the objects in its heap.

Objects are frozen and replaced when they change, so that copying a state copies three dicts and
nothing below them.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import field, replace
from functools import lru_cache
from typing import TypeAlias, TypeVar

from trainlint.core.facts import (
    AdapterFacts,
    Cause,
    Certainty,
    Gradients,
    Mode,
    ModeFact,
    Origin,
    Share,
    TrainableFact,
)
from trainlint.core.late import dataclass
from trainlint.flow.assumptions import agreed
from trainlint.flow.numbering import NUMBERS
from trainlint.flow.project import ClassInfo
from trainlint.flow.values import (
    Const,
    External,
    FrameId,
    ObjectId,
    ParameterSource,
    Ref,
    Tensor,
    Value,
)


@dataclass(frozen=True, slots=True)
class Change:
    """Parameters that came to a module after it was made; equal changes have one site."""

    key: Hashable
    what: str
    cause: Cause
    origin: Origin = field(compare=False)
    part: ObjectId = None
    """The new module, if it is one."""


UNKNOWN_MODE = ModeFact()
UNKNOWN_SHARE = TrainableFact()


@dataclass(frozen=True, slots=True)
class ModuleObject:
    """A model or a part of one."""

    cls: ClassInfo | None = None
    library: str = ""
    """The library class or factory it came from."""
    flag: ModeFact = UNKNOWN_MODE
    uniform: bool = True
    """Parts not seen yet have the same flag."""
    trainable: TrainableFact = UNKNOWN_SHARE
    wraps: ObjectId = None
    """The module whose parameters it shares: DDP, compile, PEFT."""
    wrapper: str = ""
    """What kind of wrapper it is: `ddp`, `peft`, `compile`, `dp`, `ema`."""
    sensitive: Certainty = Certainty.UNKNOWN
    kept_eval: Origin | None = field(default=None, compare=False)
    part_eval: bool = False
    rests_with_all: bool = False
    """The whole was put in eval mode too since this part was, which nothing had evaluated yet."""
    kept_in: tuple[int, int] | None = field(default=None, compare=False)
    """The loop and its round in which the part was put in eval mode."""
    mode_fixed: bool = False
    """Its `train` was replaced: nothing switches it any more."""
    overridden: tuple[Origin, Origin] | None = field(default=None, compare=False)
    was_overridden: bool = False
    flag_assigned: Origin | None = field(default=None, compare=False)
    changes: frozenset[Change] = frozenset()
    adapters: AdapterFacts | None = None
    managed: bool = False
    fresh: bool = False
    """Made in this program by a known constructor, so that its trainable share is known."""
    checkpointing: bool = False
    reentrant: Origin | None = field(default=None, compare=False)
    """Where reentrant checkpointing was asked for."""
    input_grads: bool = False
    pixels: bool = False
    """Its inputs are pixels: no embedding can require gradients of them."""
    fresh_head: Origin | None = field(default=None, compare=False)
    """Where it was loaded with a task head that its checkpoint does not hold."""
    inactive: bool = False
    """An adapter that the forward does not use."""
    wanted: Origin | None = field(default=None, compare=False)
    """Where it was added to be trained, as long as nothing has activated it."""
    parametric: bool = True
    activation: str = ""
    loss: str | None = None
    """Set for a loss module: the name its rule knows it by, or empty."""
    ema_of: ObjectId = None
    evaluated: bool = False
    trained: bool = False
    loaded: Origin | None = field(default=None, compare=False)
    follows: bool = False
    copy_of: ObjectId = None
    replaces: ObjectId = None
    """The model that its name meant before."""
    replaced_at: Origin | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class OptimizerObject:
    """An optimizer; `groups` None means that nothing is known of its parameters."""

    kind: str = "optimizer"
    groups: tuple[ParameterSource, ...] | None = None
    created: Origin | None = field(default=None, compare=False)
    gradients: Gradients = Gradients.UNKNOWN
    backward: Origin | None = field(default=None, compare=False)
    this_round: bool = True
    cleared: Origin | None = field(default=None, compare=False)
    stepped: Origin | None = field(default=None, compare=False)
    has_stepped: Certainty = Certainty.UNKNOWN
    pending: frozenset[Tensor] = frozenset()
    """Losses whose backward filled the gradients."""
    pending_sites: tuple[Origin, ...] = field(default=(), compare=False)
    scaler: ObjectId = None
    scaled_origin: Origin | None = field(default=None, compare=False)
    clipped: Origin | None = field(default=None, compare=False)
    moves_frozen: Origin | None = field(default=None, compare=False)
    managed: bool = False
    escaped: bool = False
    accumulated: bool = False
    """One backward has run several times since the last clearing and step."""
    closure: bool = False
    changes_seen: frozenset[Change] = frozenset()
    given_frozen: Share = Share.UNKNOWN
    own_tensors: bool = False
    """It moves tensors that are no module's: an image, a latent, a perturbation."""


@dataclass(frozen=True, slots=True)
class SchedulerObject:
    """A learning rate scheduler over `optimizer`."""

    optimizer: ObjectId = None
    kind: str = "scheduler"


@dataclass(frozen=True, slots=True)
class ScalerObject:
    """A GradScaler; `enabled` False when it was switched off by a literal."""

    enabled: Certainty = Certainty.UNKNOWN


@dataclass(frozen=True, slots=True)
class ParametersObject:
    """An iterator or list of parameters; a one-shot one can be used up."""

    sources: tuple[ParameterSource, ...] = ()
    known: bool = True
    named: bool = False
    one_shot: bool = True
    consumed: Origin | None = field(default=None, compare=False)
    used_up: bool = False


@dataclass(frozen=True, slots=True)
class ListObject:
    """A list, set or dict. `items` None: only `summary` (what any item may be) is known."""

    items: tuple[Value, ...] | None = None
    summary: frozenset[Value] = frozenset()
    keys: tuple[Value, ...] | None = None


@dataclass(frozen=True, slots=True)
class InstanceObject:
    """An instance of a class of the project that is not a module."""

    cls: ClassInfo


@dataclass(frozen=True, slots=True)
class LibraryObject:
    """An instance of a library class with a role: loader, sampler, accelerator, trainer, loss."""

    role: str
    path: str = ""
    links: tuple[tuple[str, Value], ...] = ()

    def link(self, name: str) -> Value | None:
        """What it holds under a name."""
        for key, value in self.links:
            if key == name:
                return value
        return None


@dataclass(frozen=True, slots=True)
class SharedSampler(LibraryObject):
    """A DistributedSampler: unlike other library objects it tells states apart."""


@dataclass(frozen=True, slots=True)
class ContextObject:
    """A library's context manager: what it does to the gradient mode while entered."""

    kind: str
    grad: Value | None = None
    target: ObjectId = None


HeapObject: TypeAlias = (
    ModuleObject
    | OptimizerObject
    | SchedulerObject
    | ScalerObject
    | ParametersObject
    | ListObject
    | InstanceObject
    | LibraryObject
    | ContextObject
)

MAX_ASSUMED = 32
TRACKED: frozenset[type] = frozenset(
    (
        ModuleObject,
        OptimizerObject,
        SchedulerObject,
        ScalerObject,
        ParametersObject,
        SharedSampler,
    )
)
_TELLING = frozenset(("bool", "str", "NoneType"))
"""Constants that tell states apart: flags and phases, not numbers."""


@dataclass(frozen=True, slots=True)
class GradMode:
    """Whether gradients are recorded now; `leaked`: by a statement, not a block."""

    on: Certainty = Certainty.YES
    leaked: bool = False
    inference: bool = False
    origin: Origin | None = field(default=None, compare=False)


Decision: TypeAlias = tuple[Hashable, bool]


class Attributes(dict[tuple[ObjectId, str], Value]):
    """Values by owner and attribute, in the order of their first assignment.

    Few of thousands belong to one object, and those are asked for at every turn: their names are
    kept by owner.
    """

    __slots__ = ("_names",)

    def __init__(self) -> None:
        super().__init__()
        self._names: dict[ObjectId, tuple[str, ...]] = {}

    def copy(self) -> Attributes:
        """An independent copy."""
        other = Attributes()
        dict.update(other, self)
        other._names = self._names.copy()
        return other

    def of(self, owner: ObjectId) -> list[tuple[str, Value]]:
        """An object's attributes by name."""
        return [(name, self[owner, name]) for name in self._names.get(owner, ())]

    def clear_of(self, owner: ObjectId) -> None:
        """Forget an object's attributes."""
        for name in self._names.pop(owner, ()):
            super().__delitem__((owner, name))

    def __setitem__(self, key: tuple[ObjectId, str], value: Value) -> None:
        if key not in self:
            owner, name = key
            self._names[owner] = (*self._names.get(owner, ()), name)
        super().__setitem__(key, value)

    def __delitem__(self, key: tuple[ObjectId, str]) -> None:
        super().__delitem__(key)
        owner, name = key
        self._names[owner] = tuple(n for n in self._names[owner] if n != name)

    def setdefault(self, key: tuple[ObjectId, str], default: Value) -> Value:
        """The value there, or this one, put there."""
        if key not in self:
            self[key] = default
        return self[key]

    def pop(self, key: tuple[ObjectId, str], *default: Value | None) -> Value:  # type: ignore[override]
        """Take a value away."""
        if key not in self and default:
            return default[0]  # type: ignore[return-value]
        value = self[key]
        del self[key]
        return value


@dataclass(slots=True)
class State:
    """Variables, attributes, heap, gradient mode, and what was assumed on the way here."""

    vars: dict[tuple[FrameId, str], Value] = field(default_factory=dict)
    attrs: Attributes = field(default_factory=Attributes)
    heap: dict[ObjectId, HeapObject] = field(default_factory=dict)
    grad: GradMode = GradMode()
    assumed: dict[Hashable, bool] = field(default_factory=dict)
    """Conditions that hold here; dropped when something in them is assigned."""
    decisions: frozenset[Decision] = frozenset()
    """Which undetermined branches led here, as far as they still make a difference."""
    pending: tuple[tuple[int, object], ...] = ()
    """Jumps on their way through a context manager of the project."""
    params_partial: int = 0
    mentioned: frozenset[Hashable] = frozenset()
    """Everything that any assumption may speak of: forgetting anything else is free."""

    def copy(self) -> State:
        """An independent copy."""
        return State(
            self.vars.copy(),
            self.attrs.copy(),
            self.heap.copy(),
            self.grad,
            self.assumed.copy(),
            self.decisions,
            self.pending,
            self.params_partial,
            self.mentioned,
        )

    @property
    def size(self) -> int:
        """How much it holds."""
        return len(self.vars) + len(self.attrs) + len(self.heap)

    def module(self, oid: ObjectId) -> ModuleObject | None:
        """The module with that identity, if it is one."""
        found = self.heap.get(oid)
        return found if isinstance(found, ModuleObject) else None

    def optimizer(self, oid: ObjectId) -> OptimizerObject | None:
        """The optimizer with that identity, if it is one."""
        found = self.heap.get(oid)
        return found if isinstance(found, OptimizerObject) else None

    def update(self, oid: ObjectId, **changes: object) -> None:
        """Replace fields of an object."""
        self.heap[oid] = replace(self.heap[oid], **changes)  # type: ignore[arg-type]

    def modules(self) -> Iterable[tuple[ObjectId, ModuleObject]]:
        """All modules."""
        return [(o, v) for o, v in self.heap.items() if isinstance(v, ModuleObject)]

    def optimizers(self) -> Iterable[tuple[ObjectId, OptimizerObject]]:
        """All optimizers."""
        return [(o, v) for o, v in self.heap.items() if isinstance(v, OptimizerObject)]

    def assume(self, key: Hashable, holds: bool) -> None:
        """Note which way an undetermined condition went."""
        if len(self.assumed) >= MAX_ASSUMED:
            del self.assumed[next(iter(self.assumed))]
        self.assumed[key] = holds
        self.mentioned |= parts_of(key)

    def forget(self, oid: ObjectId) -> None:
        """A new value takes the place of an unknown one: what was assumed of it is gone."""
        if oid in self.mentioned:
            for key in [key for key in self.assumed if oid in parts_of(key)]:
                del self.assumed[key]

    def key(self) -> tuple[object, ...]:
        """What makes two states different for the rules.

        Unknowns, strings and numbers do not: where only they differ, states merge and the
        differing variable becomes unknown.
        """
        heap = self.heap
        number = NUMBERS.of
        tracked = {o: number(v) for o, v in heap.items() if type(v) in TRACKED}
        held = [
            item
            for table in (self.vars, self.attrs)
            for item in table.items()
            if ((kind := type(value := item[1])) is Ref and value.oid in tracked)  # type: ignore[union-attr]
            or (kind is Const and value.kind in _TELLING)  # type: ignore[union-attr]
        ]
        return (frozenset(tracked.items()), frozenset(held), self.grad, self.pending)


@lru_cache(maxsize=20_000)
def parts_of(key: Hashable) -> frozenset[Hashable]:
    """A condition's key and everything inside it."""
    if not isinstance(key, tuple):
        return frozenset((key,))
    found: set[Hashable] = {key}
    for part in key:
        found |= parts_of(part)
    return frozenset(found)


def merge(first: State, second: State) -> State:
    """Two states with the same key as one; what differs becomes unknown."""
    _merge_values(first.vars, second.vars)
    _merge_values(first.attrs, second.attrs)
    for oid, thing in second.heap.items():
        mine = first.heap.get(oid)
        if mine is None:
            first.heap[oid] = thing
        elif mine is not thing and mine != thing:
            first.heap[oid] = _join_objects(mine, thing)
    first.assumed = agreed(first.assumed, second.assumed)
    first.decisions = first.decisions & second.decisions
    return first


K = TypeVar("K", bound=Hashable)


def _merge_values(mine: dict[K, Value], theirs: dict[K, Value]) -> None:
    other = theirs.get
    alone = 0
    for name, value in mine.items():
        there = other(name)
        if there is None:
            alone += 1
        elif there is not value and there != value:
            mine[name] = _join(value, there, name)
    if len(mine) - alone < len(theirs):
        for name in [name for name in theirs if name not in mine]:
            mine[name] = theirs[name]


def _join(mine: Value, theirs: Value, name: object) -> Value:
    if isinstance(mine, Tensor) or isinstance(theirs, Tensor):
        return join_values((mine, theirs)) or Ref(("join", name))
    if isinstance(mine, External):
        return mine
    return Ref(("join", name))


def join_values(values: Iterable[Value]) -> Value | None:
    """The tensor that any of these may be, or None if none is a tensor."""
    tensors = [v for v in values if isinstance(v, Tensor)]
    if not tensors:
        return None
    result = tensors[0]
    for other in tensors[1:]:
        result = replace(
            result,
            forwards=result.forwards | other.forwards,
            references=result.references | other.references,
            fed=result.fed | other.fed,
            attached=result.attached if result.attached is other.attached else Certainty.UNKNOWN,
            cut=result.cut if result.cut is other.cut else None,
            scaler=result.scaler or other.scaler,
            activation=result.activation if result.activation == other.activation else "",
            parts=result.parts if result.parts == other.parts else (),
            divided=result.divided or other.divided,
        )
    return result


def _join_objects(mine: HeapObject, theirs: HeapObject) -> HeapObject:
    if isinstance(mine, ListObject) and isinstance(theirs, ListObject):
        if (
            mine.items is not None
            and theirs.items is not None
            and len(mine.items) == len(theirs.items)
        ):
            items = tuple(
                a if a == b else (join_values((a, b)) or Ref(("join-item", i)))
                for i, (a, b) in enumerate(zip(mine.items, theirs.items))
            )
            return ListObject(items, frozenset(), mine.keys if mine.keys == theirs.keys else None)
        both = frozenset(mine.items or mine.summary) | frozenset(theirs.items or theirs.summary)
        return ListObject(None, both)
    return mine


MAX_DISJUNCTS = 8


def join(states: Iterable[State]) -> list[State]:
    """Merge equal states."""
    given = states if isinstance(states, list) else list(states)
    if len(given) < 2:
        return given
    kept: list[State] = []
    for state in given:
        known = next((mine for mine in kept if mine is state or alike(mine, state)), None)
        if known is None:
            kept.append(state)
        elif known is not state:
            merge(known, state)
    return kept


def alike(first: State, second: State) -> bool:
    """Whether two states have the same key.

    States that are joined come from one state, and share nearly all that they hold: what is the
    same object on both sides is passed over, so that no key need be made.
    """
    return (
        first.grad == second.grad
        and first.pending == second.pending
        and _same_objects(first.heap, second.heap)
        and _same_names(first.vars, second.vars, first.heap)
        and _same_names(first.attrs, second.attrs, first.heap)
    )


def _same_objects(mine: dict[ObjectId, HeapObject], theirs: dict[ObjectId, HeapObject]) -> bool:
    """Whether two heaps hold the same of what is tracked."""
    number = NUMBERS.of
    other = theirs.get
    for oid, thing in mine.items():
        there = other(oid)
        if there is not thing:
            tracked = type(thing) in TRACKED
            if tracked is not (type(there) in TRACKED) or (
                tracked and number(thing) != number(there)
            ):
                return False
    return all(type(theirs[oid]) not in TRACKED for oid in theirs.keys() - mine.keys())


def _same_names(
    mine: dict[K, Value], theirs: dict[K, Value], heap: dict[ObjectId, HeapObject]
) -> bool:
    """Whether two tables hold the same of what tells states apart."""
    other = theirs.get
    for name, value in mine.items():
        there = other(name)
        if there is not value and there != value and (_tells(value, heap) or _tells(there, heap)):
            return False
    return not any(_tells(theirs[name], heap) for name in theirs.keys() - mine.keys())


def _tells(value: Value | None, heap: dict[ObjectId, HeapObject]) -> bool:
    """Whether a name that holds something else makes another state."""
    if type(value) is Ref:
        return type(heap.get(value.oid)) in TRACKED
    return type(value) is Const and value.kind in _TELLING


def train_mode() -> ModeFact:
    """The flag of a freshly constructed module."""
    return ModeFact(Mode.TRAIN)
