"""What TRL's preference and reward trainers do to the model, its reference and its adapters.

TRL 1.16. A reference model is in no optimizer and keeps its mode; under PEFT the reference is the
base with its adapters off, or a frozen copy of the adapters.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.contracts.test_trainer_classes import lora, moved, tokenizer, weights
from tests.truth.stage import gpt2
from trainlint.core.facts import Mode
from trainlint.runtime import observe

trl = pytest.importorskip("trl")
peft = pytest.importorskip("peft")
datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def settings(cls: Any, **more: Any) -> Any:
    return cls(
        output_dir="out",
        max_steps=2,
        per_device_train_batch_size=2,
        learning_rate=0.1,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        bf16=False,
        disable_tqdm=True,
        **more,
    )


def dpo(model: Any, **more: Any) -> Any:
    rows = [{"prompt": "w1 w2", "chosen": "w3 w4", "rejected": "w5 w6"}] * 8
    data = datasets.Dataset.from_list(rows)
    arguments = settings(trl.DPOConfig, max_length=16)
    return trl.DPOTrainer(
        model, args=arguments, train_dataset=data, processing_class=tokenizer(), **more
    )


def grpo(model: Any, **more: Any) -> Any:
    data = datasets.Dataset.from_list([{"prompt": "w1 w2"}, {"prompt": "w3 w4"}] * 4)
    arguments = settings(trl.GRPOConfig, beta=0.1, num_generations=2, max_completion_length=4)

    def reward(completions: list[str], **_: Any) -> list[float]:
        return [float(i % 2) for i, _ in enumerate(completions)]

    return trl.GRPOTrainer(
        model, reward, args=arguments, train_dataset=data, processing_class=tokenizer(), **more
    )


def held(trainer: Any) -> set[int]:
    """The parameters that its own optimizer takes."""
    groups = trainer.create_optimizer().param_groups
    return {id(p) for group in groups for p in group["params"]}


def saved() -> str:
    peft.get_peft_model(gpt2(), lora()).save_pretrained("adapter")
    return "adapter"


@pytest.mark.parametrize("mode", [Mode.TRAIN, Mode.EVAL])
def test_a_reference_model_is_in_no_optimizer_and_keeps_the_mode_it_comes_in(mode: Mode) -> None:
    """Nobody calls `eval()` on it. What is left of its mode is its dropout, and that is taken out."""
    model, reference = gpt2(), gpt2().train(mode is Mode.TRAIN)
    trainer = dpo(model, ref_model=reference)
    assert held(trainer) == {id(p) for p in trainer.model.parameters()}
    before, theirs = weights(model), weights(reference)
    trainer.train()
    assert moved(before, model)
    assert moved(theirs, reference) == []
    assert observe(model).facts().mode.mode is Mode.TRAIN
    assert observe(reference).facts().mode.mode is mode
    assert all(m.p == 0 for m in reference.modules() if isinstance(m, torch.nn.Dropout))


@pytest.mark.parametrize("make", [dpo, grpo])
def test_with_a_config_the_reference_is_the_base_with_its_adapters_off(make: Any) -> None:
    trainer = make(gpt2(), peft_config=lora())
    assert trainer.ref_model is None
    assert list(trainer.model.peft_config) == ["default"]
    before = weights(trainer.model)
    trainer.train()
    changed = moved(before, trainer.model)
    assert changed
    assert all("lora_" in name for name in changed)
    assert all(p.requires_grad for n, p in trainer.model.named_parameters() if "lora_" in n)


@pytest.mark.parametrize("make", [dpo, grpo])
def test_of_a_peft_model_the_reference_is_a_copy_of_its_adapters(make: Any) -> None:
    """A second adapter, `ref`, that is not trained and that nobody forgot to activate."""
    trainer = make(peft.get_peft_model(gpt2(), lora()))
    model = trainer.model
    assert trainer.ref_model is None
    assert list(model.peft_config) == ["default", "ref"]
    own = {id(p) for n, p in model.named_parameters() if ".default." in n}
    assert held(trainer) == own
    before = weights(model)
    trainer.train()
    assert all(".default." in name for name in moved(before, model))
    assert moved(before, model)


def test_adapters_loaded_frozen_train_in_silence_with_grpo() -> None:
    """Taking turns with `ref` unfreezes them, after the optimizer has taken what trained: none."""
    trainer = grpo(peft.PeftModel.from_pretrained(gpt2(), saved()))
    before = weights(trainer.model)
    trainer.train()
    assert moved(before, trainer.model) == []


def test_adapters_loaded_frozen_break_dpo_at_its_first_backward() -> None:
    """They are unfrozen between the forward and its recomputation, which then differs."""
    trainer = dpo(peft.PeftModel.from_pretrained(gpt2(), saved()))
    before = weights(trainer.model)
    with pytest.raises(torch.utils.checkpoint.CheckpointError):
        trainer.train()
    assert moved(before, trainer.model) == []


def classifier() -> Any:
    transformers = pytest.importorskip("transformers")
    config = gpt2().config
    config.num_labels, config.pad_token_id = 1, 0
    return transformers.GPT2ForSequenceClassification(config)


def reward(model: Any, **more: Any) -> Any:
    rows = [{"chosen": "w1 w2 w3", "rejected": "w4 w5"}] * 8
    return trl.RewardTrainer(
        model,
        settings(trl.RewardConfig, max_length=16),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tokenizer(),
        **more,
    )


def test_the_reward_trainer_trains_adapters_and_the_head() -> None:
    config = peft.LoraConfig(r=4, task_type="SEQ_CLS", target_modules=["c_attn"])
    trainer = reward(classifier(), peft_config=config)
    before = weights(trainer.model)
    trainer.train()
    changed = moved(before, trainer.model)
    assert any("lora_" in name for name in changed)
    assert any("score.modules_to_save" in name for name in changed)
    assert all("lora_" in n or "modules_to_save" in n for n in changed)


def test_a_reward_model_with_frozen_adapters_trains_in_silence() -> None:
    config = peft.LoraConfig(
        r=4, task_type="SEQ_CLS", target_modules=["c_attn"], inference_mode=True
    )
    trainer = reward(peft.get_peft_model(classifier(), config))
    before = weights(trainer.model)
    trainer.train()
    assert moved(before, trainer.model) == []
