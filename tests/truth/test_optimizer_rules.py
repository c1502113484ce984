"""The examples of the optimizer rules' pages, on real torch: no folklore."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch
from torch import nn

from tests.truth.stage import examples, perform
from trainlint.rules.optimizer.exhausted_parameter_iterator import ExhaustedParameterIterator
from trainlint.rules.optimizer.freeze_after_optimizer import FreezeAfterOptimizer
from trainlint.rules.optimizer.gradients_without_optimizer import GradientsWithoutOptimizer
from trainlint.rules.optimizer.optimizer_includes_frozen_params import (
    OptimizerIncludesFrozenParams,
)
from trainlint.rules.optimizer.optimizer_misses_params import OptimizerMissesParams
from trainlint.rules.optimizer.optimizer_over_frozen_params import OptimizerOverFrozenParams
from trainlint.rules.optimizer.optimizer_stale_model import OptimizerStaleModel
from trainlint.rules.optimizer.requires_grad_misset import RequiresGradMisset


class Convolutional(nn.Module):
    """Stands for a ResNet: a trunk of 512 features and `fc`."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Conv2d(3, 512, 3)
        self.fc = nn.Linear(512, 1000)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.trunk(x).mean((2, 3)))


@pytest.fixture(autouse=True)
def torchvision(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    torch.set_num_threads(1)
    package, models = ModuleType("torchvision"), ModuleType("torchvision.models")
    models.resnet18 = Convolutional  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchvision", package)
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    return


def test_a_frozen_optimizer_moves_nothing():
    bad, good = examples(OptimizerOverFrozenParams)
    wrong, right = perform(bad, "backbone"), perform(good, "head")
    assert wrong.failure is None
    assert not wrong.moved
    assert right.moved


def test_frozen_parameters_are_left_alone_by_torch():
    bad, good = examples(OptimizerIncludesFrozenParams)
    for performance in (perform(bad), perform(good)):
        assert performance.moved_below("2.")
        assert not performance.moved_below("0.")
    held = perform(bad).names["optimizer"].state
    frozen = {id(p) for p in perform(bad).model.parameters() if not p.requires_grad}
    assert not any(id(p) in frozen for p in held)


@pytest.mark.parametrize("kind", ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad"])
def test_weight_decay_does_not_reach_what_never_had_a_gradient(kind: str):
    layer = nn.Linear(4, 4)
    layer.weight.requires_grad_(False)
    before = layer.weight.clone()
    optimizer = getattr(torch.optim, kind)(layer.parameters(), lr=0.1, weight_decay=0.5)
    for _ in range(3):
        optimizer.zero_grad()
        layer(torch.randn(2, 4)).sum().backward()
        optimizer.step()
    assert torch.equal(layer.weight, before)


def test_lbfgs_keeps_history_over_frozen_parameters():
    frozen, trained = (
        nn.Parameter(torch.ones(1000), requires_grad=False),
        nn.Parameter(torch.ones(2)),
    )
    optimizer = torch.optim.LBFGS([frozen, trained])

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (trained**4).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert next(iter(optimizer.state.values()))["old_dirs"][0].numel() == 1002


def test_what_comes_after_the_optimizer_does_not_move():
    bad, good = examples(OptimizerMissesParams)
    wrong, right = perform(bad, rounds=2), perform(good, rounds=2)
    assert wrong.moved_below("trunk")
    assert not wrong.moved_below("fc")
    assert wrong.model.fc.weight.grad is not None
    assert right.moved_below("fc")


def test_a_copy_is_not_stepped():
    bad, good = examples(OptimizerStaleModel)
    assert not perform(bad).moved
    assert perform(good).moved


def test_moving_casting_and_loading_keep_the_parameters():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    held = [id(p) for p in model.parameters()]
    model = model.to(torch.float64).half().float()
    model.load_state_dict(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).state_dict())
    assert [id(p) for p in model.parameters()] == held
    assert [id(p) for p in torch.compile(model).parameters()] == held


def test_frozen_with_a_gradient_left_goes_on_moving():
    bad, good = examples(FreezeAfterOptimizer)
    freezing = "model[0].requires_grad_(False)"
    for example, moves in ((bad, True), (good, False)):
        assert freezing in example
        example = example.replace("epoch == 5", "epoch == 2")
        example = example.replace(
            freezing, "frozen = model[0].weight.requires_grad_(False).clone()"
        )
        performance = perform(example)
        assert performance.failure is None
        still = torch.equal(performance.names["frozen"], performance.model[0].weight)
        assert still is not moves


@pytest.mark.filterwarnings("ignore")
def test_an_exhausted_iterator_clips_nothing():
    bad, good = examples(ExhaustedParameterIterator)
    norms: list[float] = []
    original = nn.utils.clip_grad_norm_

    def recorded(parameters, limit):
        norm = original(parameters, limit)
        norms.append(float(norm))
        return norm

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.utils, "clip_grad_norm_", recorded)
        perform(bad)
        assert norms
        assert not any(norms)
        norms.clear()
        perform(good)
        assert norms
        assert all(norms)


def test_the_wrong_flag_freezes_nothing():
    bad, good = examples(RequiresGradMisset)
    wrong, right = perform(bad).names["backbone"], perform(good).names["backbone"]
    assert all(p.requires_grad for p in wrong.parameters())
    assert not any(p.requires_grad for p in right.parameters())
    parameter = nn.Parameter(torch.ones(1))
    parameter.require_grad = False
    assert parameter.requires_grad
    parameter.requires_grad_ = False
    assert parameter.requires_grad


def test_gradients_pile_up_in_what_nobody_steps():
    bad, good = examples(GradientsWithoutOptimizer)
    few, many = (perform(bad, rounds=n).names["critic"][0].weight.grad.norm() for n in (2, 40))
    assert many > few
    assert all(p.grad is None for p in perform(good).names["critic"].parameters())
