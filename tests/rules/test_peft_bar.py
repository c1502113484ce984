"""Each fault that PEFT users make is found in a script, in functions, in a class, across files.

The fixtures themselves are checked by `tests/fixtures`; here it is told that none is missing.
"""

from __future__ import annotations

from pathlib import Path

import pytest

FIXTURES = Path(__file__).parents[2] / "fixtures"

FOUR = ("bad_script", "bad_functions", "bad_class")

FAULTS = {
    "`is_trainable` dropped": ("peft-loaded-frozen", (*FOUR, "bad_loaded_in_other_file")),
    "`inference_mode=True` kept": ("peft-inference-config", (*FOUR, "bad_config_in_other_file")),
    "k-bit preparation moved after": ("peft-kbit-order", (*FOUR, "bad_prepared_in_other_file")),
    "freezing by loop after": ("peft-frozen-by-hand", (*FOUR, "bad_frozen_in_other_file")),
    "optimizer before `get_peft_model`": (
        "optimizer-misses-params",
        (
            "bad_lora_after_optimizer",
            "bad_lora_in_functions",
            "bad_lora_in_class",
            "bad_lora_in_other_file",
        ),
    ),
    "`set_adapter` after the optimizer": (
        "optimizer-misses-params",
        (
            "bad_activated_script",
            "bad_second_adapter",
            "bad_activated_in_class",
            "bad_activated_in_other_file",
        ),
    ),
    "`merge_and_unload()` dropped": ("peft-merge-discarded", (*FOUR, "bad_merged_in_other_file")),
    "`disable_adapter()` as a statement": (
        "peft-disable-not-entered",
        (*FOUR, "bad_called_in_other_file"),
    ),
    "training while merged": ("peft-trained-merged", (*FOUR, "bad_merged_in_other_file")),
    "second `get_peft_model`": ("peft-nested", (*FOUR, "bad_built_in_other_file")),
    "missing `task_type` with a fresh head": (
        "peft-head-not-trained",
        (*FOUR, "bad_config_in_other_file"),
    ),
}

HEALTHY = {
    "the quicktour's flow": "peft-trained-merged/ok_quicktour.py",
    "the custom loop of the docs": "peft-checkpoint-no-input-grad/ok_custom_loop_of_the_docs.py",
}


def text_of(case: Path) -> str:
    files = sorted(case.rglob("*.py")) if case.is_dir() else [case.with_suffix(".py")]
    return "\n".join(file.read_text("utf-8") for file in files)


@pytest.mark.parametrize("fault", FAULTS)
def test_it_is_expected_in_every_shape(fault: str) -> None:
    rule, cases = FAULTS[fault]
    for case in cases:
        assert f": [{rule}]" in text_of(FIXTURES / rule / case), case


@pytest.mark.parametrize("flow", HEALTHY)
def test_the_healthy_flows_expect_nothing(flow: str) -> None:
    text = (FIXTURES / HEALTHY[flow]).read_text("utf-8")
    assert "# error:" not in text
    assert "# warning:" not in text


def test_every_rule_has_enough_look_alikes() -> None:
    rules = {rule for rule, _ in FAULTS.values()} | {
        "peft-not-activated",
        "peft-load-adapter-evals",
        "peft-checkpoint-no-input-grad",
        "peft-base-trains",
        "ddp-forward-bypassed",
        "sampler-epoch-not-set",
    }
    for rule in rules:
        assert len(list((FIXTURES / rule).glob("bad_*"))) >= 4, rule
        assert len(list((FIXTURES / rule).glob("ok_*"))) >= 8, rule
