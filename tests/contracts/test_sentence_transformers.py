"""What the tables claim of sentence-transformers' adapters, losses and evaluators."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.test_trainer_classes import lora, tokenizer
from trainlint.core.facts import Mode, Share
from trainlint.libraries import LIBRARY
from trainlint.libraries.spec import Harmless, Role
from trainlint.runtime import observe

st = pytest.importorskip("sentence_transformers")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

METHODS = (
    "add_adapter load_adapter set_adapter delete_adapter enable_adapters disable_adapters"
    " active_adapters get_adapter_state_dict"
).split()


@pytest.fixture
def model(tmp_path: Path) -> Any:
    config = transformers.BertConfig(
        vocab_size=64,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=32,
    )
    transformers.BertModel(config).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    models = importlib.import_module("sentence_transformers.models")
    words = models.Transformer(str(tmp_path), max_seq_length=8)
    return st.SentenceTransformer(modules=[words, models.Pooling(16)], device="cpu")


@pytest.mark.parametrize("inference", [False, True])
def test_add_adapter_activates_and_unfreezes_what_it_adds(model: Any, inference: bool) -> None:
    config = peft.LoraConfig(r=4, target_modules=["query"], inference_mode=inference)
    model.add_adapter(config)
    adapters = observe(model).facts().adapters
    assert adapters is not None
    assert adapters.trainable.share is Share.ALL
    assert adapters.base_trainable.share is Share.NONE


@pytest.mark.parametrize("name", METHODS)
def test_its_adapter_methods_are_in_the_table(model: Any, name: str) -> None:
    assert hasattr(model, name)
    assert LIBRARY.native_method("sentence_transformers.SentenceTransformer", name) is not None


def test_an_evaluator_leaves_eval_mode(model: Any) -> None:
    name = "sentence_transformers.evaluation.EmbeddingSimilarityEvaluator"
    assert LIBRARY.call(name) == Role("evaluator")
    evaluation = importlib.import_module("sentence_transformers.evaluation")
    rate = evaluation.EmbeddingSimilarityEvaluator(["w1", "w2"], ["w3", "w4"], [0.1, 0.9])
    rate(model.train())
    assert observe(model).facts().mode.mode is Mode.EVAL


def test_a_loss_leaves_the_model_as_it_is(model: Any) -> None:
    model.train().add_adapter(lora_of_bert())
    before = observe(model).facts()
    losses = importlib.import_module("sentence_transformers.losses")
    losses.MatryoshkaLoss(model, losses.CoSENTLoss(model), [8, 4])
    assert isinstance(LIBRARY.call("sentence_transformers.losses.CoSENTLoss"), Harmless)
    after = observe(model).facts()
    assert (after.mode.mode, after.trainable.share) == (before.mode.mode, before.trainable.share)


def lora_of_bert() -> Any:
    config = lora()
    config.target_modules = {"query"}
    config.task_type = None
    return config
