"""Every PEFT type: healthy runs are silent, each injected fault is named by its code.

`scripts/peft_table.py` prints the same as `docs/runtime-peft.md`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runtime.peft_faults import FAULTS, NAMELESS, first_step, healthy, outcome
from tests.runtime.zoo import ZOO

QUICK = ("LORA", "MODULES_TO_SAVE", "PROMPT_TUNING")
LONG = tuple(kind for kind in ZOO if kind not in QUICK)


def _check(kind: str) -> None:
    """Exactly one finding: of the right code, at the first step that shows it, with names."""
    wrong = {}
    for name, (code, _) in FAULTS.items():
        found = outcome(kind, name)
        if found is None:
            continue
        got = [(v.code, v.step) for v in found]
        named = all(v.modules or v.parameters for v in found)
        if got != [(code, first_step(kind, name))] or not (named or code in NAMELESS):
            wrong[name] = [str(v) for v in found]
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


def test_the_printed_table_is_of_these_types_and_faults() -> None:
    """What `docs/` prints may not fall behind: `python scripts/peft_table.py` makes it."""
    printed = (Path(__file__).resolve().parents[2] / "docs" / "runtime-peft.md").read_text()
    lines = [line for line in printed.splitlines() if line.startswith("|")]
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert head == ["type", "healthy", *FAULTS]
    assert [row[0] for row in rows] == list(ZOO)
    expected = [code for code, _ in FAULTS.values()]
    for row in rows:
        assert row[1] == "silent"
        assert all(cell in (code, "-") for cell, code in zip(row[2:], expected, strict=True))
