"""PEFT's class for each task, and what loads it with its base: the same as for language models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trainlint.core.facts import AdapterFacts, Mode, Share
from trainlint.libraries.peft import PEFT
from trainlint.libraries.spec import Inject, LoadAdapters
from trainlint.runtime import observe

peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

SMALL = {"vocab_size": 40, "num_labels": 3}
GPT2 = transformers.GPT2Config(n_embd=16, n_layer=1, n_head=2, n_positions=32, **SMALL)
BERT = transformers.BertConfig(
    hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, **SMALL
)
T5 = transformers.T5Config(d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, **SMALL)

TASKS = {
    "CausalLM": ("GPT2LMHeadModel", GPT2, "c_attn"),
    "Seq2SeqLM": ("T5ForConditionalGeneration", T5, "q"),
    "SequenceClassification": ("BertForSequenceClassification", BERT, "query"),
    "TokenClassification": ("BertForTokenClassification", BERT, "query"),
    "QuestionAnswering": ("BertForQuestionAnswering", BERT, "query"),
    "FeatureExtraction": ("BertModel", BERT, "query"),
}


def base(task: str) -> Any:
    name, config, _ = TASKS[task]
    return getattr(transformers, name)(config)


def config(task: str) -> Any:
    return peft.LoraConfig(r=2, target_modules=[TASKS[task][2]])


def adapters(model: Any) -> AdapterFacts:
    found: AdapterFacts | None = observe(model).facts().adapters
    assert found is not None
    return found


@pytest.fixture
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An adapter beside its base, both on disk."""
    own = base(request.param)
    own.save_pretrained(tmp_path / "base")
    own.name_or_path = str(tmp_path / "base")
    cls = getattr(peft, f"PeftModelFor{request.param}")
    cls(own, config(request.param)).save_pretrained(tmp_path / "adapter")
    return str(tmp_path / "adapter")


def test_every_task_is_in_the_table_and_no_other() -> None:
    known = {p.removeprefix("peft.PeftModelFor") for p in PEFT.calls if p.count(".") == 1}
    assert known >= set(TASKS)
    assert {n.removeprefix("PeftModelFor") for n in dir(peft) if n.startswith("PeftModelFor")} == (
        set(TASKS)
    )


@pytest.mark.parametrize("task", TASKS)
def test_its_class_puts_adapters_in_that_train_alone(task: str) -> None:
    assert PEFT.calls[f"peft.PeftModelFor{task}"] == Inject()
    model = getattr(peft, f"PeftModelFor{task}")(base(task), config(task))
    assert adapters(model).trainable.share is Share.ALL
    names = {n for n, p in model.named_parameters() if p.requires_grad}
    heads = {n for n in names if "lora_" not in n}
    assert all("modules_to_save" in name for name in heads)


@pytest.mark.parametrize(("task", "saved"), [(t, t) for t in TASKS], indirect=["saved"])
def test_loading_freezes_unless_asked_otherwise(task: str, saved: str) -> None:
    assert PEFT.calls[f"peft.PeftModelFor{task}.from_pretrained"] == LoadAdapters()
    cls = getattr(peft, f"PeftModelFor{task}")
    frozen = cls.from_pretrained(base(task), saved)
    assert adapters(frozen).trainable.share is Share.NONE
    assert observe(frozen).facts().mode.mode is Mode.EVAL
    assert adapters(cls.from_pretrained(base(task), saved, is_trainable=True)).trainable.share is (
        Share.ALL
    )


@pytest.mark.parametrize(("task", "saved"), [(t, t) for t in TASKS], indirect=["saved"])
def test_loading_with_the_base_does_the_same(task: str, saved: str) -> None:
    assert f"peft.AutoPeftModelFor{task}.from_pretrained" in PEFT.calls
    cls = getattr(peft, f"AutoPeftModelFor{task}")
    frozen = cls.from_pretrained(saved)
    assert adapters(frozen).trainable.share is Share.NONE
    assert observe(frozen).facts().mode.mode is Mode.EVAL
    assert adapters(cls.from_pretrained(saved, is_trainable=True)).trainable.share is Share.ALL
