"""Weights that are written in place: by a step of one's own, or to follow another model's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainlint.flow.state import State
from trainlint.flow.values import ParameterSource, ParameterValue, Ref, Value

if TYPE_CHECKING:
    from trainlint.flow.training import Training


def written_to(place: Value) -> tuple[ParameterSource, ...]:
    """Where the parameters come from that a write to `p` or to `p.data` changes."""
    if isinstance(place, Ref) and isinstance(place.oid, tuple):
        owner = place.oid[1] if place.oid[0] == "attr" else None
        if isinstance(owner, tuple) and owner[:1] == ("parameter",):
            place = owner[1]
    return place.sources if isinstance(place, ParameterValue) else ()


def updated_by_hand(training: Training, place: Value, state: State) -> None:
    """`p.data.sub_(lr * p.grad)`, `p -= lr * p.grad`: the step that an optimizer does not take."""
    for source in written_to(place):
        for oid in training.of_model(source.oid, state):
            if oid in training.records:
                training.records[oid].by_hand = True
