"""What SetFit's trainer does to the body of its model; skipped where SetFit is not installed.

Seen with SetFit 1.2.0 on sentence-transformers 6.2.0, in an environment of its own.
"""

from __future__ import annotations

import importlib
import inspect
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.contracts.test_trainer_classes import moved, tokenizer, weights
from trainlint.core.facts import Mode
from trainlint.libraries.spec import TrainerClass
from trainlint.libraries.trainers import TRAINERS
from trainlint.runtime import observe

setfit = pytest.importorskip("setfit")
datasets = pytest.importorskip("datasets")
transformers = pytest.importorskip("transformers")

TABLE = {
    path: spec
    for path, spec in TRAINERS.calls.items()
    if path.startswith("setfit.") and isinstance(spec, TrainerClass)
}


@pytest.fixture(autouse=True)
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def model() -> Any:
    config = transformers.BertConfig(
        vocab_size=64,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=32,
    )
    transformers.BertModel(config).save_pretrained("body")
    tokenizer().save_pretrained("body")
    st = importlib.import_module("sentence_transformers")
    models = importlib.import_module("sentence_transformers.models")
    words = models.Transformer("body", max_seq_length=8)
    body = st.SentenceTransformer(modules=[words, models.Pooling(16)], device="cpu")
    head = setfit.SetFitHead(in_features=16, out_features=2)
    return setfit.SetFitModel(model_body=body, model_head=head, labels=["a", "b"])


def trainer(own: Any) -> Any:
    rows = {"text": ["w1 w2", "w3 w4", "w5 w6", "w7 w8"], "label": [0, 1, 0, 1]}
    arguments = setfit.TrainingArguments(
        output_dir="out",
        batch_size=2,
        max_steps=3,
        body_learning_rate=0.1,
        report_to="none",
        save_strategy="no",
        show_progress_bar=False,
    )
    return setfit.Trainer(own, arguments, train_dataset=datasets.Dataset.from_dict(rows))


@pytest.mark.parametrize("path", TABLE)
def test_where_the_model_and_the_arguments_stand(path: str) -> None:
    names = list(inspect.signature(getattr(setfit, path.partition(".")[2])).parameters)
    spec = TABLE[path]
    assert names[spec.model] == spec.keyword
    assert (names[spec.args] == "args") if spec.args is not None else ("args" not in names)


def test_each_step_runs_in_train_mode() -> None:
    own, seen = model(), []
    own.model_body.eval()
    own.model_body.register_forward_pre_hook(lambda module, _: seen.append(module.training))
    trainer(own).train_embeddings(["w1", "w2", "w3", "w4"], [0, 1, 0, 1])
    assert seen
    assert all(seen)


def test_predicting_leaves_eval_mode() -> None:
    own = model()
    trainer(own).train()
    own.predict(["w1 w2"])
    assert observe(own.model_body).facts().mode.mode is Mode.EVAL


def test_only_the_adapters_of_the_body_move() -> None:
    peft = pytest.importorskip("peft")
    own = model()
    own.model_body.add_adapter(peft.LoraConfig(r=4, target_modules=["query"]))
    before = weights(own.model_body)
    trainer(own).train_embeddings(["w1", "w2", "w3", "w4"], [0, 1, 0, 1])
    changed = moved(before, own.model_body)
    assert changed
    assert all("lora_" in name for name in changed)
