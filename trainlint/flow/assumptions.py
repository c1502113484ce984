"""What two ways to the same place have both assumed."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

from trainlint.flow.values import Const

Assumptions = Mapping[Hashable, bool]


def agreed(first: Assumptions, second: Assumptions) -> dict[Hashable, bool]:
    """What holds on both ways: said by both, or said by one and implied by the other.

    Who knows that `kind` is "a" knows that it is not "b": after the branches for "a" and for "c"
    have come together, "b" is still ruled out, though only one of them was asked about it.
    """
    both = {key: held for key, held in first.items() if second.get(key) is held}
    if len(both) < len(first) and len(both) < len(second):
        _add_implied(both, first, second)
        _add_implied(both, second, first)
    return both


def _add_implied(both: dict[Hashable, bool], mine: Assumptions, theirs: Assumptions) -> None:
    equal = {k[1]: k for k, held in theirs.items() if held and is_equality(k)}  # type: ignore[index]
    if not equal:
        return
    for key, held in mine.items():
        if not held and is_equality(key) and equal.get(key[1], key) != key:  # type: ignore[index]
            both[key] = False


def is_equality(key: Hashable) -> bool:
    """With a constant: what is equal to one variable may be equal to another too."""
    return type(key) is tuple and len(key) == 3 and key[0] == "eq" and isinstance(key[2], Const)
