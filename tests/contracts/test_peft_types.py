"""What is claimed of every PEFT type, against what `observe()` sees of the real call."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.contracts.claims import claimed
from tests.runtime.zoo import ZOO, Kind
from trainlint.core.facts import Certainty, Mode, ModelFacts, Share

pytest.importorskip("peft")

from trainlint.runtime import observe

BASE = """
from peft import *
from peft import PeftModel, {config}, get_peft_model, prepare_model_for_kbit_training
from transformers import LlamaConfig, LlamaForCausalLM

base = LlamaForCausalLM(LlamaConfig(
    vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, head_dim=8,
    num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=64,
    attention_dropout=0.1, use_cache=False,
))
"""
MADE = "model = get_peft_model(base, {made})\n"
CASES = {
    "made": MADE,
    "made on a base in eval": "base.eval()\n" + MADE,
    "then train": "base.eval()\n" + MADE + "model.train()\n",
    "then eval": MADE + "model.eval()\n",
    "for inference": "model = get_peft_model(base, {inference})\n",
    "frozen by hand": MADE + "for p in model.parameters():\n    p.requires_grad = False\n",
    "loaded": MADE + "model.save_pretrained('out')\nplain = LlamaForCausalLM(base.config)\n"
    "model = PeftModel.from_pretrained(plain, 'out')\n",
    "loaded to train": MADE + "model.save_pretrained('out')\n"
    "plain = LlamaForCausalLM(base.config)\n"
    "model = PeftModel.from_pretrained(plain, 'out', is_trainable=True)\n",
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def code_of(kind: Kind, case: str) -> str:
    made, inference = kind.code(), kind.code(inference_mode=True)
    body = CASES[case].format(made=made, inference=inference)
    return BASE.format(config=kind.config) + body


def seen(code: str) -> ModelFacts:
    names: dict[str, Any] = {}
    exec(compile(code, "case", "exec"), names)
    facts: ModelFacts = observe(names["model"]).facts()
    return facts


def contradictions(claim: ModelFacts, real: ModelFacts) -> list[str]:
    """The facts that both know and do not agree on."""
    told: list[tuple[str, Any, Any, Any]] = [
        ("mode", claim.mode.mode, real.mode.mode, Mode.UNKNOWN),
        ("all", claim.trainable.share, real.trainable.share, Share.UNKNOWN),
    ]
    if claim.adapters is not None and real.adapters is not None:
        ours, theirs = claim.adapters, real.adapters
        told += [
            ("adapters", ours.trainable.share, theirs.trainable.share, Share.UNKNOWN),
            ("base", ours.base_trainable.share, theirs.base_trainable.share, Share.UNKNOWN),
            ("merged", ours.merged, theirs.merged, Certainty.UNKNOWN),
            ("disabled", ours.disabled, theirs.disabled, Certainty.UNKNOWN),
        ]
    return [
        f"{what}: claimed {ours}, really {theirs}"
        for what, ours, theirs, unknown in told
        if unknown not in (ours, theirs) and ours != theirs
    ]


PROMPTS = {"CARTRIDGE", "CPT", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING"} | {
    "PROMPT_TUNING"
}
LEFT_OUT = {
    # A prompt cannot be loaded to be trained: PEFT raises.
    *((kind, "loaded to train") for kind in PROMPTS),
    # What the folder holds is not known, and that MiCA freezes a half of it neither.
    ("MICA", "loaded to train"),
    # It trains copies of the base's own layers, which count as the base's.
    *(("SHADOW", case) for case in CASES),
}
TOLD = [(kind, case) for kind in ZOO for case in CASES if (kind, case) not in LEFT_OUT]


@pytest.mark.parametrize(("kind", "case"), TOLD)
def test_claims(kind: str, case: str) -> None:
    code = code_of(ZOO[kind], case)
    claim = claimed(code).facts("model")
    assert claim.adapters is not None
    assert contradictions(claim, seen(code)) == []


def test_a_prompt_cannot_be_loaded_to_be_trained() -> None:
    for kind in PROMPTS:
        with pytest.raises(ValueError, match="prompt learning adapter"):
            seen(code_of(ZOO[kind], "loaded to train"))
