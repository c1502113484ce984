"""Which states go where there are too many, and which of the others stand for them.

Options multiply: a program that lets its user choose the seed, the optimizer, the schedule and
whether to wrap the model has dozens of ways to its training loop, on all of which the same names
mean the same kind of thing in the same condition. One of them then stands for the others: what it
does they do, and no choice between them explains what is found on it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import fields, is_dataclass
from typing import TypeVar

from trainlint.flow.state import MAX_DISJUNCTS, TRACKED, Decision, LibraryObject, State, merge
from trainlint.flow.values import External, ObjectId, Ref, Tensor, Value

Name = Hashable
"""Where an object is found: a variable, or an attribute of a named object."""


def thin(states: list[State], limit: int = MAX_DISJUNCTS) -> tuple[list[State], list[State]]:
    """At most `limit` of the states, and those that went.

    First those are taken together that differ in nothing but flags, then those that are in one
    condition. The rest goes by the number of its decisions: a finding that needs many would not
    count.
    """
    if len(states) <= limit:
        return states, []
    states = sorted(states, key=lambda state: len(state.decisions))
    states, gone = _together(states, limit, _objects, merge)
    states, alike = _together(states, limit, _condition, _stand_for)
    states = _varied(states)
    return states[:limit], [*gone, *alike, *states[limit:]]


def _varied(states: list[State]) -> list[State]:
    """One for each side of each decision, then the others, in their order.

    What does not depend on a choice then shows on both of its sides.
    """
    shown: set[Decision] = set()
    first: list[State] = []
    others: list[State] = []
    for state in states:
        (others if state.decisions <= shown and first else first).append(state)
        shown |= state.decisions
    return [*first, *others]


def _together(
    states: list[State],
    limit: int,
    likeness: Callable[[State], Hashable],
    take: Callable[[State, State], object],
) -> tuple[list[State], list[State]]:
    """Take no more of them together than there are too many."""
    kept: list[State] = []
    gone: list[State] = []
    known: dict[Hashable, State] = {}
    for i, state in enumerate(states):
        if len(states) - len(gone) <= limit:
            return [*kept, *states[i:]], gone
        key = (likeness(state), state.grad, state.pending)
        if key in known:
            take(known[key], state)
            gone.append(state)
        else:
            known[key] = state
            kept.append(state)
    return kept, gone


# --- what makes states alike ---------------------------------------------------------------


def _objects(state: State) -> Hashable:
    """The tracked objects and where they are; everything but flags."""
    objects = {oid: thing for oid, thing in state.heap.items() if type(thing) in TRACKED}
    places = (
        item
        for table in (state.vars, state.attrs)
        for item in table.items()
        if type(item[1]) is Ref and item[1].oid in objects
    )
    return (frozenset(objects.items()), frozenset(places))


def _condition(state: State) -> Hashable:
    """What the program's names mean, however it came about."""
    names = _names(state)
    return frozenset((name, _rendered(state.heap[oid], names)) for oid, name in names.items())


def _names(state: State) -> dict[ObjectId, Name]:
    """Every tracked object under the first of its names."""

    def is_tracked(value: Value) -> bool:
        return type(value) is Ref and type(state.heap.get(value.oid)) in TRACKED

    names: dict[ObjectId, Name] = {}
    for variable, value in sorted(state.vars.items(), key=lambda item: str(item[0])):
        if isinstance(value, Ref) and is_tracked(value):
            names.setdefault(value.oid, variable)
    parts = [(key, v.oid) for key, v in state.attrs.items() if isinstance(v, Ref) and is_tracked(v)]
    grown = True
    while grown:
        grown = False
        for (owner, name), oid in parts:
            if owner in names and oid not in names:
                names[oid] = (names[owner], name)
                grown = True
    return names


_KINDS = frozenset("cls library kind sensitive wraps parametric activation fresh".split())
"""What an object is, not the condition that it is in."""


def _rendered(fact: object, names: dict[ObjectId, Name]) -> Hashable:
    """A fact with the names of objects for the objects."""
    kind = type(fact)
    compared = _COMPARED[kind]
    if compared is None:
        return fact if isinstance(fact, Hashable) else None
    if compared:
        return tuple([_rendered(getattr(fact, name), names) for name in compared])
    assert isinstance(fact, tuple | frozenset)
    if kind is frozenset:
        return frozenset([_rendered(part, names) for part in fact])
    if kind is tuple and fact in names:
        return names[fact]
    return tuple([_rendered(part, names) for part in fact])


class _Compared(dict[type, tuple[str, ...] | None]):
    """By type, the fields that tell two facts apart; none for tuples and sets, None for a leaf."""

    def __missing__(self, kind: type) -> tuple[str, ...] | None:
        found: tuple[str, ...] | None = None
        if issubclass(kind, tuple | frozenset):
            found = ()
        elif is_dataclass(kind):
            names = (f.name for f in fields(kind) if f.compare and f.name not in _KINDS)
            found = tuple(names) or None
        self[kind] = found
        return found


_COMPARED = _Compared()


# --- one for both --------------------------------------------------------------------------

K = TypeVar("K", bound=Hashable)


def _stand_for(mine: State, other: State) -> None:
    """One state goes on for both: what it is by the choice alone is not known any more."""
    _forget_differences(mine.vars, mine, other.vars, other)
    _forget_differences(mine.attrs, mine, other.attrs, other)
    mine.assumed = {k: v for k, v in mine.assumed.items() if other.assumed.get(k) == v}
    mine.decisions &= other.decisions


def _forget_differences(
    table: dict[K, Value], mine: State, theirs: dict[K, Value], other: State
) -> None:
    for name, value in table.items():
        another = theirs.get(name, value)
        if another == value or isinstance(value, External | Tensor):
            continue
        if isinstance(value, Ref) and isinstance(another, Ref):
            kind = type(mine.heap.get(value.oid))
            if kind is type(other.heap.get(another.oid)) and kind is not LibraryObject:
                continue
        table[name] = Ref(("join", name))
