"""Which states go where there are too many, and which of the others stand for them.

Options multiply: a program that lets its user choose the seed, the optimizer, the schedule and
whether to wrap the model has dozens of ways to its training loop, on all of which the same names
mean the same kind of thing in the same condition. One of them then stands for the others: what it
does they do, and no choice between them explains what is found on it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import TypeVar

from trainlint.flow.assumptions import agreed
from trainlint.flow.numbering import NUMBERS
from trainlint.flow.state import (
    MAX_DISJUNCTS,
    TRACKED,
    Decision,
    InstanceObject,
    LibraryObject,
    SchedulerObject,
    State,
    merge,
)
from trainlint.flow.values import External, ObjectId, Ref, Tensor, Value

Decisions = frozenset[Decision]
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
    excess = len(states) - limit
    if excess <= 0:
        return states, []
    groups: dict[Hashable, list[State]] = {}
    for state in states:
        groups.setdefault((likeness(state), state.grad, state.pending), []).append(state)
    gone: list[State] = []
    for first, *others in groups.values():
        taken = others[max(len(others) - excess, 0) :]
        weakest = _weakest(first.decisions, [other.decisions for other in taken])
        for other in taken:
            take(first, other)
        first.decisions = weakest
        gone += taken
        excess -= len(taken)
        if excess == 0:
            break
    left = {id(state) for state in gone}
    return [state for state in states if id(state) not in left], gone


def _weakest(mine: Decisions, others: list[Decisions]) -> Decisions:
    """The least that has to be decided for one of them; what goes both ways need not be.

    `a` and `not a, b` and `not a, not b` are nothing at all, but without the last they are not.
    """
    paths = {mine, *others}
    while True:
        joined = {a & b for a in paths for b in paths if _differ_in_one(a, b)}
        if joined <= paths:
            break
        paths = {p for p in paths | joined if not any(q < p for q in joined)}
    return min((p for p in paths if p <= mine), key=len, default=mine)


def _differ_in_one(a: Decisions, b: Decisions) -> bool:
    differing = a ^ b
    return len(differing) == 2 and len({key for key, _ in differing}) == 1


# --- what makes states alike ---------------------------------------------------------------


def _objects(state: State) -> Hashable:
    """The tracked objects and where they are; everything but flags."""
    number = NUMBERS.of
    objects = {oid: number(thing) for oid, thing in state.heap.items() if type(thing) in TRACKED}
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
    return frozenset([(name, _look(state.heap[oid], names)) for oid, name in names.items()])


def _look(thing: object, names: dict[ObjectId, Name]) -> int:
    """The number of an object's condition; what else it speaks of may have other names here."""
    known = _LOOKS.get(id(thing))
    if known is None:
        known = _LOOKS[id(thing)] = (thing, tuple(dict.fromkeys(_tuples(thing))), {})
    _, inside, numbers = known
    called = tuple([names.get(part) for part in inside])
    number = numbers.get(called)
    if number is None:
        number = numbers[called] = NUMBERS.of_value(_rendered(thing, names))
    return number


_LOOKS: dict[int, tuple[object, tuple[ObjectId, ...], dict[tuple[Name, ...], int]]] = {}
"""By an object's identity: the object, the identities in it, and its conditions by their names."""


def forget_looks() -> None:
    """At the end of an analysis, with its numbers."""
    _LOOKS.clear()


def _tuples(fact: object) -> Iterator[tuple[object, ...]]:
    """Every tuple in a fact: each may be an object's identity."""
    kind = type(fact)
    compared = _COMPARED[kind]
    if compared:
        for name in compared:
            yield from _tuples(getattr(fact, name))
    elif compared is not None:
        assert isinstance(fact, tuple | frozenset)
        if isinstance(fact, tuple):
            yield fact
        for part in fact:
            yield from _tuples(part)


def _names(state: State) -> dict[ObjectId, Name]:
    """Every tracked object under the first of its names; a wrapped model under its wrapper's."""
    names: dict[ObjectId, Name] = {}
    held = [(place, part) for place, v in state.vars.items() if (part := _seen_through(v, state))]
    for place, oid in sorted(held, key=lambda item: _spelled(item[0])):
        names.setdefault(oid, place)
    parts = [
        (owner, name, part)
        for (owner, name), v in state.attrs.items()
        if (part := _seen_through(v, state))
    ]
    grown = True
    while grown:
        grown = False
        for owner, name, part in parts:
            if owner in names and part not in names:
                names[part] = (names[owner], name)
                grown = True
    return names


_spelled = lru_cache(maxsize=4_000)(str)
_THIN = frozenset(("ddp", "dp", "compile"))
"""Wrappers that leave a model in the condition that it is in."""


def _seen_through(value: Value, state: State) -> ObjectId:
    """The object that a name holds, if its condition tells states apart: not a schedule's.

    An instance of a class that is no module, a trainer's, gives its name to what it holds.
    """
    if not isinstance(value, Ref):
        return None
    oid = value.oid
    while (module := state.module(oid)) is not None and module.wrapper in _THIN:
        oid = module.wraps
    kind = type(state.heap.get(oid))
    return oid if kind in _TELLING else None


_TELLING = TRACKED - {SchedulerObject} | {InstanceObject}
_KINDS = frozenset("cls library kind sensitive wraps parametric activation fresh".split())
"""What an object is, not the condition that it is in."""


def _rendered(fact: object, names: dict[ObjectId, Name]) -> Hashable:
    """A fact with the names of objects for the objects."""
    kind = type(fact)
    compared = _COMPARED[kind]
    if compared is None:
        return fact if kind.__hash__ is not None else None
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
    mine.assumed = agreed(mine.assumed, other.assumed)


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
