"""Numbers that equal facts share.

A module's facts have some forty fields, and states are compared at every join. They share their
objects, which are never changed: each is hashed once, and its number is compared from then on.
"""

from __future__ import annotations

from collections.abc import Hashable


class Numbering:
    """Gives equal objects one number, until it is cleared."""

    def __init__(self) -> None:
        self._by_value: dict[Hashable, int] = {}
        self._by_identity: dict[int, tuple[object, int]] = {}

    def of(self, thing: Hashable) -> int:
        """The number of an object that lives on, which is remembered by its identity."""
        known = self._by_identity.get(id(thing))
        if known is not None:
            return known[1]
        number = self.of_value(thing)
        self._by_identity[id(thing)] = (thing, number)  # held, so that its identity stays its own
        return number

    def of_value(self, thing: Hashable) -> int:
        """The number of a value that was made to be compared."""
        return self._by_value.setdefault(thing, len(self._by_value))

    def cache_clear(self) -> None:
        """Forget all; numbers from before mean nothing any more."""
        self._by_value.clear()
        self._by_identity.clear()


NUMBERS = Numbering()
"""Those of one analysis."""
