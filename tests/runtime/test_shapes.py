"""Healthy set-ups and faults in the shapes of real scripts: attacks, turns, scalers, clips by hand.

Each came out of scripts that were written without a look at the watch; the first answers were
wrong, and this is what they should have been.
"""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from tests.runtime.tiny import adamw, convnet, image_step, images, lora, loss_of
from trainlint.runtime import watch
from trainlint.runtime.watch import Watch


def _acting(run: Watch) -> list[str]:
    return [v.code for v in run.report.violations if v.acts]


def _watch(model: nn.Module, optimizer: Any = None) -> Watch:
    return watch(model, optimizer, on_violation=lambda violation: None)


def _loss(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(model(x), y)


# --- backwards for the inputs -------------------------------------------------------------------


def _attack(model: nn.Module, seed: int, rounds: int = 1) -> torch.Tensor:
    x, y = images(seed)
    for _ in range(rounds):
        x = x.detach().requires_grad_()
        _loss(model, x, y).backward()
        assert x.grad is not None
        x = x + 0.1 * x.grad.sign()
        model.zero_grad()
    return x.detach()


def test_an_attack_on_the_evaluated_model_trains_nothing() -> None:
    model = convnet()
    optimizer = adamw(model)
    with _watch(model, optimizer) as run:
        for step in range(3):
            image_step(model, optimizer, step)
        model.eval()
        for seed in range(20):
            attacked = _attack(model, seed)
            with torch.no_grad():
                model(attacked)
        model.train()
        image_step(model, optimizer, 4)
    assert _acting(run) == []


@pytest.mark.parametrize("mode", [True, False])
def test_adversarial_training_by_backward(mode: bool) -> None:
    model = convnet()
    optimizer = adamw(model)
    with _watch(model, optimizer) as run:
        for step in range(3):
            model.train(mode)
            adversarial = _attack(model, step, rounds=20)
            model.train()
            optimizer.zero_grad()
            _loss(model, adversarial, images(step)[1]).backward()
            optimizer.step()
    assert _acting(run) == []


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("make", [torch.Tensor.requires_grad_, nn.Parameter])
def test_an_image_optimised_through_a_frozen_network(make: Any, given: bool) -> None:
    network = convnet().eval().requires_grad_(False)
    image = make(torch.randn(2, 8))
    optimizer = torch.optim.Adam([image], lr=0.05)
    with _watch(network, optimizer if given else None) as run:
        for _ in range(4):
            optimizer.zero_grad()
            network(image).square().mean().backward()
            optimizer.step()
    assert _acting(run) == []


def test_an_image_optimised_by_a_closure() -> None:
    network = convnet().eval().requires_grad_(False)
    image = torch.randn(2, 8, requires_grad=True)
    optimizer = torch.optim.LBFGS([image], max_iter=3)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = network(image).square().mean()
        loss.backward()
        return loss

    with _watch(network, optimizer) as run:
        for _ in range(3):
            optimizer.step(closure)
    assert _acting(run) == []


def test_grad_cam_by_a_backward_hook() -> None:
    model = convnet()
    optimizer = adamw(model)
    with _watch(model, optimizer) as run:
        image_step(model, optimizer)
        model.eval()
        handle = model.backbone.register_full_backward_hook(lambda *_: None)
        model.zero_grad()
        model(images()[0])[0, 1].backward()
        handle.remove()
        model.train()
        image_step(model, optimizer, 1)
    assert _acting(run) == []


def test_a_step_on_such_gradients_is_training_after_all() -> None:
    model = convnet()
    optimizer = adamw(model)
    with _watch(model, optimizer) as run:
        for step in range(2):
            x, y = images(step)
            model.eval()
            optimizer.zero_grad()
            _loss(model, x.requires_grad_(), y).backward()
            optimizer.step()
    assert _acting(run) == ["TL101"]
    assert [v.step for v in run.report.violations] == [1]


def test_what_was_taken_back_is_judged_again() -> None:
    model = lora()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    model.enable_input_require_grads()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    with _watch(model, optimizer) as run:
        embedded = torch.randn(2, 8, 32, requires_grad=True)
        model(inputs_embeds=embedded).logits.square().mean().backward()
        optimizer.zero_grad()
        assert _acting(run) == []
        loss_of(model).backward()
        optimizer.step()
    assert _acting(run) == ["TL404"]


def test_frozen_weights_that_move_are_not_called_harmless_too() -> None:
    model = convnet()
    optimizer = adamw(model)
    with _watch(model, optimizer) as run:
        image_step(model, optimizer)
        optimizer.zero_grad(set_to_none=False)
        model.head.weight.requires_grad_(False)
        x, y = images(1)
        _loss(model, x, y).backward()
        optimizer.step()
    assert [v.code for v in run.report.violations] == ["TL305"]


# --- gradients taken aside, or put there by hand ------------------------------------------------


def test_gradients_by_hand_are_clipped_where_they_should_be() -> None:
    model = convnet()
    optimizer = adamw(model)
    with _watch(model, optimizer) as run:
        for step in range(4):
            optimizer.zero_grad()
            parameters = list(model.parameters())
            found = torch.autograd.grad(_loss(model, *images(step)), parameters)
            for parameter, grad in zip(parameters, found):
                parameter.grad = grad
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
    assert _acting(run) == []


def test_fisher_information_after_training_and_gradients_per_task() -> None:
    model = convnet()
    optimizer = adamw(model)
    with _watch(model, optimizer) as run:
        for step in range(3):
            taken = []
            for task in range(4):
                optimizer.zero_grad()
                _loss(model, *images(10 * step + task)).backward()
                taken.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
            for parameter, grads in zip(model.parameters(), zip(*taken)):
                parameter.grad = torch.stack(grads).sum(0)
            optimizer.step()
        for seed in range(20):
            model.zero_grad()
            _loss(model, *images(seed)).backward()
    assert _acting(run) == []


# --- several optimizers -------------------------------------------------------------------------


def _two() -> tuple[nn.ModuleDict, Any, Any]:
    torch.manual_seed(0)
    model = nn.ModuleDict({"maker": nn.Linear(4, 8), "critic": nn.Linear(8, 1)})
    maker = torch.optim.Adam(model["maker"].parameters(), lr=1e-3)
    critic = torch.optim.Adam(model["critic"].parameters(), lr=1e-3)
    return model, maker, critic


def test_a_critic_frozen_for_the_makers_turn() -> None:
    model, maker, critic = _two()
    with _watch(model, [maker, critic]) as run:
        for _ in range(3):
            critic.zero_grad()
            made = model["maker"](torch.randn(6, 4)).detach()
            (model["critic"](made) - model["critic"](torch.randn(6, 8))).mean().backward()
            critic.step()
            model["critic"].requires_grad_(False)
            maker.zero_grad()
            model["critic"](model["maker"](torch.randn(6, 4))).mean().neg().backward()
            maker.step()
            model["critic"].requires_grad_(True)
    assert run.report.violations == []


def test_a_clip_of_everything_before_each_ones_step() -> None:
    model, maker, critic = _two()
    with _watch(model, [maker, critic]) as run:
        for _ in range(3):
            for part, optimizer in (("maker", maker), ("critic", critic)):
                optimizer.zero_grad()
                inputs = torch.randn(6, 4 if part == "maker" else 8)
                model[part](inputs).square().mean().backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
    assert _acting(run) == []


# --- faults that were missed --------------------------------------------------------------------


def test_no_zero_grad_under_a_grad_scaler() -> None:
    model = convnet()
    optimizer = adamw(model)
    scaler = torch.amp.GradScaler("cpu")
    with _watch(model, optimizer) as run:
        for step in range(4):
            with torch.autocast("cpu", torch.bfloat16):
                loss = _loss(model, *images(step))
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
    assert _acting(run) == ["TL205"]


def test_a_skipped_step_leaves_nothing_to_clear() -> None:
    model = convnet()
    optimizer = adamw(model)
    scaler = torch.amp.GradScaler("cpu")
    with _watch(model, optimizer) as run:
        for step in range(6):
            optimizer.zero_grad(set_to_none=False)
            loss = _loss(model, *images(step)) * (float("inf") if step in (1, 2) else 1.0)
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
    assert _acting(run) == []


@pytest.mark.parametrize(
    ("clip", "clear"),
    [
        (nn.utils.clip_grad_value_, False),
        (nn.utils.clip_grad_norm_, False),
        (nn.utils.clip_grad_norm_, True),
    ],
)
def test_a_clip_after_the_step(clip: Any, clear: bool) -> None:
    model = convnet()
    optimizer = adamw(model)
    with _watch(model, optimizer) as run:
        for step in range(3):
            image_step(model, optimizer, step)
            if clear:
                optimizer.zero_grad()
            clip(model.parameters(), 0.5)
    assert _acting(run) == ["TL210"]


class _Checkpointed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = checkpoint(self.body, x, use_reentrant=True)
        return out


def test_a_reentrant_checkpoint_that_leaves_the_loss_without_a_graph() -> None:
    model = _Checkpointed()
    optimizer = adamw(model)
    with _watch(model, optimizer) as run, pytest.raises(RuntimeError, match="does not require"):
        _loss(model, *images()).backward()
    assert _acting(run) == ["TL412"]


def test_a_frozen_norm_that_nobody_put_in_eval_is_not_said_to_have_been() -> None:
    model = convnet()
    model.backbone.requires_grad_(False)
    optimizer = adamw(model)
    with _watch(model, optimizer) as run:
        image_step(model, optimizer)
    (found,) = run.report.violations
    assert found.code == "TL105"
    assert "undid" not in found.message


def test_an_assigned_root_flag_is_no_cause_of_what_was_off_before() -> None:
    model = convnet()
    model.backbone[3].eval()
    optimizer = adamw(model)
    with _watch(model, optimizer) as run:
        image_step(model, optimizer)
        model.training = False
        with torch.no_grad():
            for module in model.modules():
                module.training = False
            model(images()[0])
        for name, module in model.named_modules():
            module.training = name != "backbone.3"
        image_step(model, optimizer, 1)
    assert _acting(run) == ["TL107"]


def test_a_users_class_is_not_kept_alive() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.dropout(self.layer(x), 0.1, self.training)

    model = Own()
    with _watch(model):
        model(torch.randn(1, 2)).sum().backward()
    kind = weakref.ref(Own)
    del model, Own
    gc.collect()
    assert kind() is None
