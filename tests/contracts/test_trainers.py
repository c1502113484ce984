"""What `flow.trainers` claims of transformers' Trainer, against the Trainer itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trainlint.libraries.spec import TrainerClass
from trainlint.libraries.trainers import OWN_STEPS, TRAINERS

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")


def tiny() -> Any:
    config = transformers.BertConfig(
        vocab_size=20,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
    )
    return transformers.BertForSequenceClassification(config)


def trainer(cls: Any, model: Any, folder: Path, **settings: Any) -> Any:
    data = [{"input_ids": torch.tensor([1, 2, 3]), "labels": torch.tensor(i % 2)} for i in range(8)]
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        max_steps=3,
        per_device_train_batch_size=2,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        **settings,
    )
    return cls(model, arguments, train_dataset=data, eval_dataset=data)


def overriding(name: str, method: Callable[..., Any]) -> Any:
    return type("Own", (transformers.Trainer,), {name: method})


def moved(cls: Any, folder: Path) -> bool:
    model = tiny()
    before = model.classifier.weight.detach().clone()
    trainer(cls, model, folder).train()
    return not torch.equal(before, model.classifier.weight)


def test_the_table_says_that_it_heals() -> None:
    spec = TRAINERS.calls["transformers.Trainer"]
    assert isinstance(spec, TrainerClass)
    assert spec.heals
    assert spec.evaluations == ("evaluate", "predict")


def test_each_step_begins_in_train_mode_with_gradients(tmp_path: Path) -> None:
    seen: list[tuple[bool, bool]] = []

    def compute_loss(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if torch.is_grad_enabled():
            seen.append((model.training, torch.is_grad_enabled()))
        loss = model(**inputs).loss
        model.eval()
        return (loss, None) if args or kwargs.get("return_outputs") else loss

    trainer(overriding("compute_loss", compute_loss), tiny(), tmp_path).train()
    assert seen == [(True, True)] * 3


def test_eval_mode_asked_for_in_the_loss_holds_for_that_step(tmp_path: Path) -> None:
    ran_in: list[bool] = []

    def compute_loss(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        model.eval()
        loss = model(**inputs).loss
        ran_in.append(model.training)
        return loss

    assert moved(overriding("compute_loss", compute_loss), tmp_path)
    assert ran_in == [False] * 3


def test_evaluate_and_predict_leave_eval_mode(tmp_path: Path) -> None:
    model = tiny()
    own = trainer(transformers.Trainer, model, tmp_path)
    own.train()
    assert model.training
    own.evaluate()
    assert not model.training
    model.train()
    own.predict(own.eval_dataset)
    assert not model.training


def test_a_run_that_ends_with_an_evaluation_leaves_eval_mode(tmp_path: Path) -> None:
    model = tiny()
    own = trainer(transformers.Trainer, model, tmp_path, eval_strategy="steps", eval_steps=3)
    own.train()
    assert not model.training


@pytest.mark.parametrize("name", OWN_STEPS)
def test_what_a_class_may_override_is_what_runs(name: str, tmp_path: Path) -> None:
    called: list[int] = []
    inherited = getattr(transformers.Trainer, name)

    def own(self: Any, *args: Any, **kwargs: Any) -> Any:
        called.append(1)
        return inherited(self, *args, **kwargs)

    trainer(overriding(name, own), tiny(), tmp_path).train()
    assert len(called) == 3


def test_a_loss_without_its_graph_trains_nothing(tmp_path: Path) -> None:
    def detached(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        return model(**inputs).loss.detach().requires_grad_()

    assert not moved(overriding("compute_loss", detached), tmp_path)


def test_a_model_made_from_a_configuration_is_in_train_mode() -> None:
    from trainlint.libraries import LIBRARY
    from trainlint.libraries.spec import Factory

    spec = LIBRARY.call("transformers.BertForSequenceClassification")
    assert isinstance(spec, Factory)
    assert spec.mode.value == "train"
    assert tiny().training
    collator = LIBRARY.call("transformers.DataCollatorForTokenClassification")
    assert not isinstance(collator, Factory)
