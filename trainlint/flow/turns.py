"""Adapters that take turns: `for name in names: model.set_adapter(name)`."""

from __future__ import annotations

from trainlint.flow.state import ListObject, State
from trainlint.flow.values import ObjectId, Ref, Value

_IN_TURN = ("item", "text")
"""What a name is that a loop gives: one of a list that is not known, `f"expert{i}"`."""


def next_in_turn(
    given: Value | None, parts: list[tuple[str, ObjectId]], state: State
) -> frozenset[str] | None:
    """The adapter that a loop over names not known activates: one that is idle now.

    Sooner or later each of them has its turn. The last that came is taken, as the one that what
    was made earlier cannot know. Where optimizers stand in a collection each adapter may have its
    own, and nothing is said.
    """
    if not (isinstance(given, Ref) and isinstance(given.oid, tuple) and given.oid[0] in _IN_TURN):
        return None
    if _optimizers_in_a_collection(state):
        return None
    idle = [name for name, part in parts if (m := state.module(part)) is not None and m.inactive]
    return frozenset(idle[-1:]) or None


def _optimizers_in_a_collection(state: State) -> bool:
    made = {oid for oid, _ in state.optimizers()}
    return any(
        isinstance(item, Ref) and item.oid in made
        for held in state.heap.values()
        if isinstance(held, ListObject)
        for item in (held.items or held.summary)
    )
