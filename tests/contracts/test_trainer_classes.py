"""What the tables claim of each Trainer class, against the installed library."""

from __future__ import annotations

import importlib
import inspect
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.truth.stage import gpt2
from trainlint.core.facts import Mode, Share
from trainlint.libraries.spec import TrainerClass
from trainlint.libraries.trainers import TRAINERS
from trainlint.runtime import observe

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

TABLE = {path: s for path, s in TRAINERS.calls.items() if isinstance(s, TrainerClass)}


@pytest.fixture(autouse=True)
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def installed(path: str) -> Any:
    """The class, or skip: other versions have it, or it is not installed."""
    owner, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(owner), name)
    except (ImportError, AttributeError):
        pytest.skip(f"no {path} here")


def parameters(cls: Any) -> list[str]:
    names = list(inspect.signature(cls.__init__).parameters)[1:]
    if names == ["args", "kwargs"]:
        pytest.skip("it only hands on what it gets")
    return names


def config(path: str) -> Any:
    owner = importlib.import_module(path.rpartition(".")[0])
    name = path.rpartition(".")[2]
    for ending in ("Config", "TrainingArguments"):
        found = getattr(owner, name.removesuffix("Trainer") + ending, None)
        if found is not None:
            return found
    return transformers.TrainingArguments


@pytest.mark.parametrize("path", TABLE)
def test_where_the_model_and_the_arguments_stand(path: str) -> None:
    names = parameters(installed(path))
    spec = TABLE[path]
    assert names[spec.model] == spec.keyword
    assert spec.args is None or names[spec.args] == "args"


@pytest.mark.parametrize("path", TABLE)
def test_who_puts_adapters_in(path: str) -> None:
    assert ("peft_config" in parameters(installed(path))) is TABLE[path].injects


@pytest.mark.parametrize("path", TABLE)
def test_who_checkpoints_unless_told_otherwise(path: str) -> None:
    installed(path)
    fields = config(path).__dataclass_fields__
    assert bool(fields["gradient_checkpointing"].default) is TABLE[path].checkpoints


@pytest.mark.parametrize("path", TABLE)
def test_whose_loop_is_the_one_of_transformers(path: str) -> None:
    """`heals`: the loop that `test_trainers.py` watches is theirs too."""
    cls = installed(path)
    assert issubclass(cls, transformers.Trainer) is TABLE[path].heals
    own = inspect.getsource(cls.training_step)
    inherited = cls.training_step is transformers.Trainer.training_step
    assert inherited or "super()" in own or "model.train()" in own


# --- TRL, run ------------------------------------------------------------------------------------


def tokenizer() -> Any:
    tokenizers = pytest.importorskip("tokenizers")
    words = {f"w{i}": i for i in range(40)} | {"<pad>": 40, "<eos>": 41, "<unk>": 42}
    model = tokenizers.models.WordLevel(words, unk_token="<unk>")
    fast = tokenizers.Tokenizer(model)
    fast.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=fast, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    )


def sft(model: Any, seen: list[Mode], **more: Any) -> Any:
    trl = pytest.importorskip("trl")
    datasets = pytest.importorskip("datasets")

    class Watched(trl.SFTTrainer):  # type: ignore[misc]
        def compute_loss(self, model: Any, *args: Any, **kwargs: Any) -> Any:
            seen.append(observe(model).facts().mode.mode)
            return super().compute_loss(model, *args, **kwargs)

    rows = datasets.Dataset.from_list([{"input_ids": [1, 2, 3, 4, 41]}] * 8)
    arguments = trl.SFTConfig(
        output_dir="out",
        max_steps=3,
        per_device_train_batch_size=2,
        learning_rate=0.1,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        bf16=False,
        disable_tqdm=True,
        max_length=16,
    )
    return Watched(model, arguments, train_dataset=rows, processing_class=tokenizer(), **more)


def lora() -> Any:
    peft = pytest.importorskip("peft")
    return peft.LoraConfig(r=4, task_type="CAUSAL_LM", target_modules=["c_attn"])


def weights(model: Any) -> dict[str, Any]:
    return {n: p.detach().clone() for n, p in model.named_parameters()}


def moved(before: dict[str, Any], model: Any) -> list[str]:
    return [n for n, p in model.named_parameters() if not torch.equal(before[n], p.detach())]


def test_sft_puts_adapters_in_and_trains_them_alone_in_train_mode() -> None:
    seen: list[Mode] = []
    trainer = sft(gpt2(), seen, peft_config=lora())
    adapters = observe(trainer.model).facts().adapters
    assert adapters is not None
    assert adapters.trainable.share is Share.ALL
    assert adapters.base_trainable.share is Share.NONE
    before = weights(trainer.model)
    trainer.train()
    assert seen == [Mode.TRAIN] * 3
    assert moved(before, trainer.model)
    assert all("lora_" in name for name in moved(before, trainer.model))


def test_sft_trains_frozen_adapters_in_silence() -> None:
    """Checkpointing, on by default, makes the loss require a gradient that nobody takes."""
    peft = pytest.importorskip("peft")
    peft.get_peft_model(gpt2(), lora()).save_pretrained("adapter")
    model = peft.PeftModel.from_pretrained(gpt2(), "adapter")
    trainer = sft(model, [])
    before = weights(trainer.model)
    trainer.train()
    assert moved(before, trainer.model) == []


def test_the_default_optimizer_takes_what_trains() -> None:
    model = pytest.importorskip("peft").get_peft_model(gpt2(), lora())
    trainer = sft(model, [])
    optimizer = trainer.create_optimizer()
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in trainer.model.parameters() if p.requires_grad}
