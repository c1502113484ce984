"""What `flow.hooked` and the tables claim of Lightning's training loop, against Lightning itself.

The loop's order is the newest Lightning's; that modes are kept holds since 2.2 (PR#18951).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from trainlint.libraries.trainers import LIGHTNING_LOOP, LIGHTNING_METHODS

pytest.importorskip("lightning")

import lightning

Look = tuple[str, bool, bool, bool]

HOOKS = (
    *LIGHTNING_LOOP.start,
    *LIGHTNING_LOOP.epoch_start,
    *LIGHTNING_LOOP.batch_start,
    LIGHTNING_LOOP.step,
    *LIGHTNING_LOOP.after_backward,
    *LIGHTNING_LOOP.batch_end,
    *LIGHTNING_LOOP.validation,
    "on_train_epoch_end",
)
"""In the order in which `flow.hooked` runs them; `training_epoch_end` is Lightning 1's."""


class Tiny(lightning.LightningModule):
    """A linear head on a body with a dropout, which a test puts in some mode."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
        self.head = nn.Linear(4, 2)
        self.modes: list[bool] = []
        """The body's mode in each training step."""

    def loss(self, batch: Any) -> torch.Tensor:
        return nn.functional.cross_entropy(self.head(self.body(batch[0])), batch[1])

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.modes.append(self.body.training)
        return self.loss(batch)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.loss(batch)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def loader() -> torch.utils.data.DataLoader[Any]:
    torch.manual_seed(0)
    data = torch.utils.data.TensorDataset(torch.randn(8, 4), torch.randint(0, 2, (8,)))
    return torch.utils.data.DataLoader(data, batch_size=4)


def fit(model: lightning.LightningModule, epochs: int = 2, validate: bool = True) -> None:
    quiet = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        num_sanity_val_steps=0,
        **dict.fromkeys(quiet, False),
    )
    trainer.fit(model, loader(), loader() if validate else None)


def moved(model: Tiny) -> bool:
    """Whether a run changes the head."""
    before = model.head.weight.detach().clone()
    fit(model, epochs=1, validate=False)
    return not torch.equal(before, model.head.weight)


def watched(names: tuple[str, ...]) -> tuple[type[Tiny], list[Look]]:
    """A class that notes in each hook: its name, both modes and whether gradients are on."""
    seen: list[Look] = []

    def note(name: str, inherited: Callable[..., Any] | None) -> Callable[..., Any]:
        def hook(self: Tiny, *args: Any, **kwargs: Any) -> Any:
            seen.append((name, self.training, self.body.training, torch.is_grad_enabled()))
            return inherited(self, *args, **kwargs) if inherited is not None else None

        return hook

    own = {name: note(name, getattr(Tiny, name, None)) for name in names}
    return type("Watched", (Tiny,), own), seen


def test_the_hooks_run_in_the_tables_order() -> None:
    cls, seen = watched(HOOKS)
    fit(cls(), epochs=1)
    order = list(dict.fromkeys(name for name, *_ in seen))
    assert order == list(HOOKS)


def test_what_is_configured_comes_before_training() -> None:
    before = ("prepare_data", "setup", "configure_model", "configure_optimizers")
    cls, seen = watched((*before, "on_fit_start"))
    fit(cls(), epochs=1)
    assert [name for name, *_ in seen] == [*before, "on_fit_start"]


def test_validation_is_in_eval_mode_without_gradients_and_training_is_as_it_was() -> None:
    cls, seen = watched((*LIGHTNING_LOOP.validation, "training_step", "on_train_epoch_end"))
    fit(cls())
    for name, whole, body, grad in seen:
        validates = name in LIGHTNING_LOOP.validation
        assert (whole, body, grad) == ((False, False, False) if validates else (True, True, True))


def test_a_part_that_was_in_eval_mode_before_stays_so() -> None:
    model = Tiny()
    model.body.eval()
    fit(model)
    assert model.modes == [False] * 4


def evaluating(hook: str) -> list[bool]:
    """The body's mode in four steps of two epochs if that hook puts it in eval mode."""

    def put(self: Tiny, *args: Any, **kwargs: Any) -> Any:
        self.body.eval()
        inherited = getattr(Tiny, hook)
        return inherited(self, *args, **kwargs)

    model = type("Evaluating", (Tiny,), {hook: put})()
    fit(model)
    return list(model.modes)


@pytest.mark.parametrize("hook", LIGHTNING_LOOP.validation)
def test_eval_mode_ends_with_the_validation(hook: str) -> None:
    assert evaluating(hook) == [True] * 4


def test_eval_mode_from_the_end_of_an_epoch_lasts() -> None:
    assert evaluating("on_train_epoch_end") == [True, True, False, False]


@pytest.mark.parametrize("hook", ["on_fit_start", "on_train_start", "on_train_epoch_start"])
def test_eval_mode_from_a_start_lasts(hook: str) -> None:
    assert evaluating(hook) == [False] * 4


def test_the_modules_own_freeze_is_eval_mode_without_gradients() -> None:
    assert LIGHTNING_METHODS["freeze"] == "freeze"
    model = Tiny()
    model.freeze()
    assert not model.body.training
    assert not any(p.requires_grad for p in model.parameters())
    model.unfreeze()
    assert model.body.training
    assert all(p.requires_grad for p in model.parameters())


def returning(change: Callable[[torch.Tensor], Any]) -> Tiny:
    def training_step(self: Tiny, batch: Any, batch_idx: int) -> Any:
        return change(self.loss(batch))

    made: Tiny = type("Returning", (Tiny,), {"training_step": training_step})()
    return made


def test_a_loss_or_a_dictionary_with_it_trains() -> None:
    assert moved(returning(lambda loss: loss))
    assert moved(returning(lambda loss: {"loss": loss, "other": 1}))


def test_a_loss_without_its_graph_trains_nothing() -> None:
    with pytest.raises(RuntimeError, match="does not require grad"):
        moved(returning(lambda loss: loss.detach()))
    assert not moved(returning(lambda loss: loss.detach().requires_grad_()))
    assert not moved(returning(lambda loss: torch.tensor(loss.item(), requires_grad=True)))


def test_nothing_returned_is_a_batch_skipped() -> None:
    assert not moved(returning(lambda loss: None))


def test_gradients_are_cleared_between_the_step_and_backward() -> None:
    """What `training_step` finds in `.grad` never reaches the next step."""
    sizes: list[float] = []

    class Looks(Tiny):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            for p in self.parameters():
                p.grad = torch.full_like(p, 1e6)
            return self.loss(batch)

        def on_before_optimizer_step(self, optimizer: Any) -> None:
            sizes.append(max(float(p.grad.abs().max()) for p in self.parameters()))

    fit(Looks(), epochs=1)
    assert max(sizes) < 1e3


def test_by_hand_nothing_is_cleared() -> None:
    left: list[bool] = []

    class ByHand(Tiny):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> None:
            left.append(self.head.weight.grad is not None)
            self.manual_backward(self.loss(batch))
            self.optimizers().step()

    fit(ByHand(), epochs=1)
    assert left == [False, True]
