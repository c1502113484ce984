"""What is known of a value where two ways come together."""

from __future__ import annotations

from collections.abc import Hashable

from trainlint.flow.assumptions import agreed
from trainlint.flow.values import Ref, const


def equal(other: Hashable) -> Hashable:
    return ("eq", Ref("kind"), other)


def test_who_knows_a_constant_rules_out_the_others() -> None:
    first = {equal(const("a")): True}
    second = {equal(const("a")): False, equal(const("b")): False, equal(const("c")): True}

    assert agreed(first, second)[equal(const("b"))] is False


def test_what_is_equal_to_a_variable_may_be_equal_to_another() -> None:
    first = {equal(Ref("a")): True, ("truth", Ref("x")): True}
    second = {equal(Ref("a")): False, equal(Ref("b")): False}

    assert agreed(first, second) == {}
