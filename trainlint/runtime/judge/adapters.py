"""Everything about adapters in one list of verdicts."""

from __future__ import annotations

from trainlint.runtime.judge.base import base_trains, head_not_trained
from trainlint.runtime.judge.status import irregular, without_effect
from trainlint.runtime.judge.tied import tied_split
from trainlint.runtime.judge.training import (
    cannot_train,
    not_activated,
    part_frozen,
    trained_merged,
)
from trainlint.runtime.judge.verdict import Verdict
from trainlint.runtime.observation import Observation
from trainlint.runtime.report import grouped


def judge(state: Observation, *, training: bool) -> list[Verdict]:
    """Adapter status, and, if the model is to be trained, whether the adapters can train."""
    if not state.has_adapters:
        return []
    if state.nested:
        text = (
            f"adapters were put into what already is a PEFT model ({grouped(state.nested)}): "
            "saving and loading see the outer ones only"
        )
        return [Verdict("TL410", text, state.nested, cause="nested")]
    found = [*irregular(state), *without_effect(state)]
    if training:
        states = state.adapters()
        found += trained_merged(state, states) or cannot_train(state, states)
        if not any(v.code.startswith("TL40") for v in found):
            found += part_frozen(state)
            found += not_activated(state, states)
        found += base_trains(state)
        found += head_not_trained(state)
    found += tied_split(state)
    return found
