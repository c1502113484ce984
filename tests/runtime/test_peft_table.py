"""Every PEFT type: healthy runs are silent, each injected fault is named by its code.

`scripts/peft_table.py` prints the same as `docs/runtime-peft.md`.
"""

from __future__ import annotations

import pytest

from tests.runtime.peft_faults import FAULTS, NOT_APPLICABLE, healthy, verdict
from tests.runtime.zoo import ZOO

QUICK = ("LORA", "MODULES_TO_SAVE", "PROMPT_TUNING")
LONG = tuple(kind for kind in ZOO if kind not in QUICK)


def _check(kind: str) -> None:
    wrong = {}
    for name, (code, _) in FAULTS.items():
        found = verdict(kind, name)
        if found not in (code, NOT_APPLICABLE):
            wrong[name] = (code, found)
    assert wrong == {}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", QUICK)
def test_each_fault_has_its_code(kind: str) -> None:
    _check(kind)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", LONG)
def test_each_fault_has_its_code_for_every_other_type(kind: str) -> None:
    _check(kind)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", QUICK)
def test_a_healthy_run_is_silent(kind: str) -> None:
    assert healthy(kind, 6).violations == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", LONG)
def test_a_healthy_run_of_twenty_steps_is_silent(kind: str) -> None:
    assert healthy(kind, 20).violations == []


@pytest.mark.slow
def test_the_zoo_holds_every_type_that_peft_offers() -> None:
    from peft import PeftType

    assert {t.value for t in PeftType} - set(ZOO) <= {"XLORA"}  # needs saved adapters to start
