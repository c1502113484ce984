"""The trainers, run for real on tiny models, healthy and broken."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.runtime.tiny import adamw, convnet, images, llama, lora, tokens
from trainlint.runtime import TrainingStateError


class Texts(torch.utils.data.Dataset):  # type: ignore[type-arg]
    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        row = tokens(index)[0]
        return {"input_ids": row, "labels": row}


def _trainer(model: Any, folder: Path, callback: Any, optimizer: Any = None, **options: Any) -> Any:
    from transformers import Trainer, TrainingArguments

    values: dict[str, Any] = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 2,
        "max_steps": 4,
        "report_to": [],
        "save_strategy": "no",
        "use_cpu": True,
        "disable_tqdm": True,
        "learning_rate": 1e-2,
    }
    values.update(options)
    return Trainer(
        model=model,
        args=TrainingArguments(**values),
        train_dataset=Texts(),
        eval_dataset=Texts(),
        callbacks=[callback],
        optimizers=(optimizer, None),
    )


@pytest.mark.parametrize(
    "options",
    [{}, {"gradient_accumulation_steps": 2}, {"eval_strategy": "steps", "eval_steps": 2}],
    ids=["plain", "accumulation", "evaluation"],
)
def test_transformers_healthy(tmp_path: Path, options: dict[str, Any]) -> None:
    from trainlint.integrations.transformers import TrainlintCallback

    callback = TrainlintCallback()
    _trainer(lora(), tmp_path, callback, **options).train()
    assert callback.report.violations == []
    assert callback.report.steps == 4
    assert not hasattr(nn.Module.train, "__wrapped__")


def test_transformers_optimizer_before_get_peft_model(tmp_path: Path) -> None:
    from trainlint.integrations.transformers import TrainlintCallback

    base = llama()
    optimizer = torch.optim.AdamW(base.parameters(), lr=1e-2)
    trainer = _trainer(lora(base), tmp_path, TrainlintCallback(), optimizer)
    with pytest.raises(TrainingStateError) as caught:
        trainer.train()
    found = caught.value.violations[0]
    assert found.code == "TL303"
    assert found.where is not None
    assert "test_integrations.py" in found.where
    assert not hasattr(nn.Module.train, "__wrapped__")


def test_transformers_loaded_frozen_trains_in_silence(tmp_path: Path) -> None:
    from peft import PeftModel

    from trainlint.integrations.transformers import TrainlintCallback

    lora().save_pretrained(tmp_path / "adapter")
    model = PeftModel.from_pretrained(llama(), tmp_path / "adapter")
    model.enable_input_require_grads()
    callback = TrainlintCallback(on_violation="warn")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _trainer(model, tmp_path, callback, optimizer).train()
    assert [v.code for v in callback.report.violations if v.acts] == ["TL401"]
    assert "no adapter weight will move" in callback.report.violations[0].message


class _Dropped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = convnet()


def _lightning(model: nn.Module, callback: Any, folder: Path, **options: Any) -> Any:
    import lightning.pytorch as pl

    class Module(pl.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = model
            self.automatic_optimization = not options.get("manual", False)

        def training_step(self, batch: Any, index: int) -> Any:
            loss = nn.functional.cross_entropy(self.net(batch[0]), batch[1])
            if not self.automatic_optimization:
                optimizer = self.optimizers()
                if options.get("clear", True):
                    optimizer.zero_grad()
                self.manual_backward(loss)
                optimizer.step()
            return loss

        def validation_step(self, batch: Any, index: int) -> None:
            self.net(batch[0])

        def configure_optimizers(self) -> Any:
            return adamw(self)

    data = torch.utils.data.DataLoader(
        [tuple(images(0)[i][k] for i in (0, 1)) for k in range(8)], 4
    )
    trainer = pl.Trainer(
        max_epochs=3,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
        default_root_dir=folder,
        callbacks=[callback],
    )
    trainer.fit(Module(), data, data)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("manual", [False, True])
def test_lightning_healthy(tmp_path: Path, manual: bool) -> None:
    from trainlint.integrations.lightning import TrainlintCallback

    callback = TrainlintCallback()
    _lightning(convnet(), callback, tmp_path, manual=manual)
    assert callback.report.violations == []
    assert callback.report.steps == 6
    assert not hasattr(nn.Module.train, "__wrapped__")


@pytest.mark.filterwarnings("ignore")
def test_lightning_model_left_in_eval(tmp_path: Path) -> None:
    from trainlint.integrations.lightning import TrainlintCallback

    model = convnet().eval()
    with pytest.raises(TrainingStateError) as caught:
        _lightning(model, TrainlintCallback(), tmp_path)
    assert caught.value.violations[0].code in ("TL101", "TL107")
    assert not hasattr(nn.Module.train, "__wrapped__")


@pytest.mark.filterwarnings("ignore")
def test_lightning_manual_optimisation_without_zero_grad(tmp_path: Path) -> None:
    from trainlint.integrations.lightning import TrainlintCallback

    callback = TrainlintCallback(on_violation="log")
    _lightning(convnet(), callback, tmp_path, manual=True, clear=False)
    assert [v.code for v in callback.report.violations] == ["TL205"]


def _accelerated(model: Any, optimizer: Any, **options: Any) -> Any:
    from accelerate import Accelerator

    from trainlint.integrations.accelerate import watch

    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    data = torch.utils.data.DataLoader(Texts(), 1)
    model, optimizer, data = accelerator.prepare(model, optimizer, data)
    with watch(accelerator, **options) as run:
        for batch in data:
            with accelerator.accumulate(model):
                accelerator.backward(model(**batch).loss)
                accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
    return run.report


def test_accelerate_healthy() -> None:
    model = lora()
    report = _accelerated(model, adamw(model))
    assert report.violations == []
    assert report.steps == 4


def test_accelerate_optimizer_of_an_earlier_model() -> None:
    import copy

    model = lora()
    with pytest.raises(TrainingStateError) as caught:
        _accelerated(copy.deepcopy(model), adamw(model))
    assert caught.value.violations[0].code == "TL304"
