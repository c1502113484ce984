"""Set-ups of research code: what looks wrong there and is meant, and what is wrong indeed.

Each was first answered wrongly by a watch that had not seen its shape.
"""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.runtime.tiny import (
    adamw,
    convnet,
    image_step,
    images,
    llama,
    lora,
    loss_of,
    one_step,
    tokens,
)
from trainlint.runtime import watch
from trainlint.runtime.watch import Watch


def _acting(run: Watch) -> list[str]:
    return [v.code for v in run.report.violations if v.acts]


def _watch(model: nn.Module, optimizer: Any = None) -> Watch:
    return watch(model, optimizer, on_violation=lambda violation: None)


def _loss(model: nn.Module, seed: int = 0) -> torch.Tensor:
    x, y = images(seed)
    return F.cross_entropy(model(x), y)


def _batch_norms(model: nn.Module) -> list[nn.BatchNorm1d]:
    return [m for m in model.modules() if isinstance(m, nn.BatchNorm1d)]


# --- momentum targets ---------------------------------------------------------------------------


class _Target(nn.Module):
    """A network and its moving average, as BYOL and MoCo have them."""

    def __init__(self, target: nn.Module | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.online = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU())
        self.predict = nn.Linear(8, 8)
        self.target = copy.deepcopy(self.online) if target is None else target
        self.target.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            wanted = self.target(x)
        return F.mse_loss(self.predict(self.online(x)), wanted)


def _follow(model: _Target, *, moving: bool = False) -> list[str]:
    optimizer = adamw(model)
    with _watch(model, optimizer) as run:
        for step in range(4):
            optimizer.zero_grad()
            model(images(step)[0]).backward()
            optimizer.step()
            for own, other in zip(model.online.parameters(), model.target.parameters()):
                if moving:
                    other.data.lerp_(own.data, 0.01)
    return _acting(run)


def test_a_momentum_target_keeps_its_batch_norm_in_train_mode() -> None:
    assert _follow(_Target(), moving=True) == []


def test_a_frozen_network_of_another_kind_does_not() -> None:
    other = nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4), nn.Linear(4, 8))
    assert _follow(_Target(other)) == ["TL105"]


def test_nor_does_one_of_the_same_kind_with_weights_of_its_own() -> None:
    torch.manual_seed(1)
    other = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU())
    assert _follow(_Target(other)) == ["TL105"]


# --- evaluations that are more than that --------------------------------------------------------


def test_monte_carlo_dropout_needs_no_declaration() -> None:
    model = convnet()
    optimizer = adamw(model)
    with _watch(model, optimizer) as run:
        image_step(model, optimizer)
        model.eval()
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.train()
        with torch.no_grad():
            torch.stack([model(images()[0]) for _ in range(4)]).var(0)
    assert run.report.violations == []


def test_a_dropout_that_was_left_on_is_no_sampling() -> None:
    model = convnet()
    optimizer = adamw(model)
    with _watch(model, optimizer) as run:
        image_step(model, optimizer)
        model.eval()
        model.backbone.train()
        for norm in _batch_norms(model):
            norm.eval()
        with torch.no_grad():
            model(images()[0])
    assert _acting(run) == ["TL102"]


def _reset(norm: nn.BatchNorm1d) -> None:
    norm.reset_running_stats()


def _cumulative(norm: nn.BatchNorm1d) -> None:
    norm.momentum = None


def _alone(norm: nn.BatchNorm1d) -> None:
    norm.momentum = 1.0


@pytest.mark.parametrize("prepare", [_reset, _cumulative, _alone])
def test_running_statistics_gathered_anew(prepare: Callable[[nn.BatchNorm1d], None]) -> None:
    model = convnet()
    optimizer = adamw(model)
    with _watch(model, optimizer) as run:
        for step in range(6):
            image_step(model, optimizer, step)
        for norm in _batch_norms(model):
            prepare(norm)
        with torch.no_grad():
            for seed in range(4):
                model(images(seed)[0])
    assert _acting(run) == []


def test_an_evaluation_in_train_mode_after_that_is_one() -> None:
    model = convnet()
    optimizer = adamw(model)
    with _watch(model, optimizer) as run:
        for step in range(2):
            image_step(model, optimizer, step)
        for norm in _batch_norms(model):
            norm.reset_running_stats()
        with torch.no_grad():
            for seed in range(3):
                model(images(seed)[0])
    assert _acting(run) == ["TL102"]


def test_an_attack_of_which_one_half_needs_no_gradient() -> None:
    model = convnet()
    optimizer = adamw(model)
    with _watch(model, optimizer) as run:
        for step in range(4):
            x, y = images(step)
            model.eval()
            attacked = x.clone().requires_grad_()
            apart = F.kl_div(model(attacked).log_softmax(1), model(x).softmax(1))
            (grad,) = torch.autograd.grad(apart, [attacked])
            model.train()
            optimizer.zero_grad()
            F.cross_entropy(model(x + 0.1 * grad.sign()), y).backward()
            optimizer.step()
    assert _acting(run) == []


def test_an_evaluation_in_another_step_still_keeps_its_graph_for_nothing() -> None:
    model = convnet()
    optimizer = adamw(model)
    with _watch(model, optimizer) as run:
        x, _ = images()
        model.eval()
        torch.autograd.grad(model(x.requires_grad_()).sum(), [x])
        model.train()
        image_step(model, optimizer)
        model.eval()
        _loss(model).item()
        model.train()
        image_step(model, optimizer, 1)
    assert _acting(run) == ["TL201"]


@pytest.mark.filterwarnings("ignore")
def test_observers_of_quantisation_aware_training_observe_in_eval_mode() -> None:
    quantization = pytest.importorskip("torch.ao.quantization")
    model = nn.Sequential(quantization.QuantStub(), convnet())
    model.qconfig = quantization.get_default_qat_qconfig("fbgemm")
    quantization.prepare_qat(model.train(), inplace=True)
    optimizer = adamw(model)
    with _watch(model, optimizer) as run:
        image_step(model, optimizer)
        model.eval()
        with torch.no_grad():
            model(3 * images(1)[0])
    assert _acting(run) == []


def test_labels_that_the_model_makes_for_itself() -> None:
    model = convnet()
    optimizer = adamw(model)
    with _watch(model, optimizer) as run:
        for step in range(3):
            x, _ = images(step)
            with torch.no_grad():
                labels = (model(x) + model(x - 0.1)).argmax(1)
            optimizer.zero_grad()
            F.cross_entropy(model(x + 0.1), labels).backward()
            optimizer.step()
    assert _acting(run) == []


def test_a_target_made_after_the_trained_forward() -> None:
    model = convnet()
    optimizer = adamw(model)
    with _watch(model, optimizer) as run:
        for step in range(3):
            x, _ = images(step)
            optimizer.zero_grad()
            out = model(x)
            with torch.no_grad():
                wanted = model(x + 0.1)
            F.mse_loss(out, wanted).backward()
            optimizer.step()
    assert _acting(run) == []


def test_an_evaluation_below_the_step_in_the_same_function() -> None:
    model = convnet()
    optimizer = adamw(model)
    with _watch(model, optimizer) as run:
        for step in range(3):
            x, y = images(step)
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            with torch.no_grad():
                model(x)
    assert _acting(run) == ["TL102"]


# --- gradients ----------------------------------------------------------------------------------


def test_gradients_that_arrive_and_are_taken_away() -> None:
    model = convnet()
    optimizer = adamw(model)
    with _watch(model, optimizer) as run:
        for step in range(4):
            optimizer.zero_grad()
            _loss(model, step).backward()
            model.head.weight.grad = None
            optimizer.step()
    assert run.report.violations == []


def test_gradients_by_hand_in_place_of_those_stepped_on() -> None:
    model = convnet()
    optimizer = adamw(model)
    with _watch(model, optimizer) as run:
        for step in range(4):
            parameters = list(model.parameters())
            found = torch.autograd.grad(_loss(model, step), parameters)
            for parameter, grad in zip(parameters, found):
                parameter.grad = grad
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
    assert _acting(run) == []


def test_master_weights_in_another_precision() -> None:
    model = convnet()
    half = copy.deepcopy(model).bfloat16()
    optimizer = adamw(model)
    with _watch(half) as run:
        for step in range(4):
            half.zero_grad()
            x, y = images(step)
            F.cross_entropy(half(x.bfloat16()).float(), y).backward()
            for master, own in zip(model.parameters(), half.parameters()):
                assert own.grad is not None
                master.grad = own.grad.float()
            optimizer.step()
            with torch.no_grad():
                for master, own in zip(model.parameters(), half.parameters()):
                    own.copy_(master)
    assert _acting(run) == []


def test_an_earlier_models_optimizer_with_gradients_left() -> None:
    earlier = convnet()
    optimizer = adamw(earlier)
    _loss(earlier).backward()
    model = convnet()
    with _watch(model) as run:
        for step in range(3):
            model.zero_grad()
            _loss(model, step).backward()
            optimizer.step()
    assert _acting(run) == ["TL304"]


@pytest.mark.parametrize("left", [False, True])
def test_a_given_optimizer_of_an_earlier_model_is_no_optimizer_of_an_image(left: bool) -> None:
    earlier = convnet()
    optimizer = adamw(earlier)
    if left:
        _loss(earlier).backward()
    model = convnet()
    with _watch(model, optimizer) as run:
        model.zero_grad()
        _loss(model).backward()
        optimizer.step()
    assert _acting(run) == ["TL304"]


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize(("cleared", "codes"), [(True, []), (False, ["TL308"])])
def test_an_image_optimised_through_a_network_that_is_not_frozen(
    cleared: bool, codes: list[str], given: bool
) -> None:
    model = convnet().eval()
    image = torch.randn(2, 8, requires_grad=True)
    optimizer = torch.optim.Adam([image], lr=0.05)
    with _watch(model, optimizer if given else None) as run:
        for _ in range(4):
            optimizer.zero_grad()
            if cleared:
                model.zero_grad()
            model(image).square().mean().backward()
            optimizer.step()
    assert _acting(run) == codes


@pytest.mark.parametrize(("from_step", "codes"), [(10, []), (99, ["TL207"])])
def test_one_of_two_optimizers_that_never_steps(from_step: int, codes: list[str]) -> None:
    model = convnet()
    head = torch.optim.SGD(model.head.parameters(), lr=0.1)
    backbone = torch.optim.SGD(model.backbone.parameters(), lr=0.1)
    with _watch(model, [head, backbone]) as run:
        for step in range(20):
            head.zero_grad()
            backbone.zero_grad()
            _loss(model, step).backward()
            head.step()
            if step >= from_step:
                backbone.step()
    assert _acting(run) == codes


class _SharpnessAware(torch.optim.Optimizer):
    """SAM: an optimizer around another, which steps in its place."""

    def __init__(self, parameters: Any, lr: float) -> None:
        super().__init__(parameters, {"lr": lr})
        self.base = torch.optim.SGD(self.param_groups, lr=lr)
        self.param_groups = self.base.param_groups

    @torch.no_grad()
    def climb(self) -> None:
        for parameter in (p for group in self.param_groups for p in group["params"]):
            self.state[parameter]["kept"] = parameter.detach().clone()
            parameter.add_(parameter.grad, alpha=0.05)
        self.zero_grad()

    @torch.no_grad()
    def descend(self) -> None:
        for parameter in (p for group in self.param_groups for p in group["params"]):
            parameter.copy_(self.state[parameter]["kept"])
        self.base.step()
        self.zero_grad()


def test_an_optimizer_around_another() -> None:
    model = convnet()
    optimizer = _SharpnessAware(model.parameters(), 0.1)
    with _watch(model, optimizer) as run:
        for step in range(20):
            _loss(model, step).backward()
            optimizer.climb()
            _loss(model, step).backward()
            optimizer.descend()
    assert _acting(run) == []


def test_a_loss_that_trains_a_copy() -> None:
    model = convnet()
    optimizer = adamw(model)
    with _watch(model, optimizer) as run:
        for step in range(4):
            fast = copy.deepcopy(model)
            optimizer.zero_grad()
            _loss(fast, step).backward()
            optimizer.step()
    assert _acting(run) == ["TL207"]


# --- micro-batches ------------------------------------------------------------------------------


def _accumulate(run_one: Callable[[nn.Module, Any, int], None], steps: int = 4) -> list[str]:
    model = convnet()
    optimizer = adamw(model)
    with _watch(model, optimizer) as run:
        for step in range(steps):
            run_one(model, optimizer, step)
    return _acting(run)


def _cleared_each_time(model: nn.Module, optimizer: Any, step: int) -> None:
    for part in range(4):
        optimizer.zero_grad()
        (_loss(model, 4 * step + part) / 4).backward()
    optimizer.step()


def _cleared_each_time_clipped(model: nn.Module, optimizer: Any, step: int) -> None:
    for part in range(3):
        model.zero_grad()
        (_loss(model, 3 * step + part) * (1 / 3)).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


def _cleared_once(model: nn.Module, optimizer: Any, step: int) -> None:
    optimizer.zero_grad()
    for part in range(4):
        (_loss(model, 4 * step + part) / 4).backward()
    optimizer.step()


def _probed(model: nn.Module, optimizer: Any, step: int) -> None:
    for part in range(4):
        optimizer.zero_grad()
        _loss(model, 4 * step + part).backward()
    optimizer.step()


def _of_each_sample(model: nn.Module, optimizer: Any, step: int) -> None:
    model.eval()  # no statistics over a batch of one
    total = [torch.zeros_like(p) for p in model.parameters()]
    x, y = images(step)
    for part in range(8):
        optimizer.zero_grad()
        (F.cross_entropy(model(x[part : part + 1]), y[part : part + 1]) / 8).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        for kept, parameter in zip(total, model.parameters()):
            kept += parameter.grad
    for kept, parameter in zip(total, model.parameters()):
        parameter.grad = kept
    optimizer.step()


def _of_each_task(model: nn.Module, optimizer: Any, step: int) -> None:
    taken = []
    for task in range(3):
        optimizer.zero_grad()
        (_loss(model, 3 * step + task) / 3).backward()
        taken.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    optimizer.zero_grad()
    for parameter, grads in zip(model.parameters(), zip(*taken)):
        parameter.grad = torch.stack(grads).sum(0)
    optimizer.step()


def _sharpness_aware(model: nn.Module, optimizer: Any, step: int) -> None:
    optimizer.zero_grad()
    (_loss(model, step) / 2).backward()
    kept = [p.detach().clone() for p in model.parameters()]
    for parameter in model.parameters():
        assert parameter.grad is not None
        parameter.data.add_(parameter.grad, alpha=0.05)
    optimizer.zero_grad()
    (_loss(model, step) / 2).backward()
    for parameter, value in zip(model.parameters(), kept):
        parameter.data.copy_(value)
    optimizer.step()


@pytest.mark.parametrize("run_one", [_cleared_each_time, _cleared_each_time_clipped])
def test_clearing_before_each_micro_batch_loses_all_but_the_last(run_one: Any) -> None:
    assert _accumulate(run_one) == ["TL206"]


def test_it_is_seen_under_a_grad_scaler_too() -> None:
    scaler = torch.amp.GradScaler("cpu")

    def one(model: nn.Module, optimizer: Any, step: int) -> None:
        for part in range(4):
            optimizer.zero_grad()
            scaler.scale(_loss(model, 4 * step + part) / 4).backward()
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()

    assert _accumulate(one) == ["TL206"]


def _probed_once(model: nn.Module, optimizer: Any, step: int) -> None:
    for part in range(3 if step == 1 else 1):
        optimizer.zero_grad()
        (_loss(model, 3 * step + part) / 3).backward()
    optimizer.step()


@pytest.mark.parametrize(
    "run_one", [_cleared_once, _probed, _probed_once, _of_each_task, _sharpness_aware]
)
def test_backwards_without_a_step_of_their_own(run_one: Any) -> None:
    assert _accumulate(run_one) == []


def test_gradients_of_each_sample() -> None:
    assert "TL206" not in _accumulate(_of_each_sample)


# --- rates and flags ----------------------------------------------------------------------------


@pytest.mark.parametrize(("length", "codes"), [(1000, ["TL703"]), (30, [])])
def test_a_warm_up_by_whole_division(length: int, codes: list[str]) -> None:
    model = convnet()
    optimizer = adamw(model)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: step // length)
    with _watch(model, optimizer) as run:
        for step in range(60):
            image_step(model, optimizer, step)
            schedule.step()
    assert _acting(run) == codes


def test_norms_put_in_eval_mode_in_vain() -> None:
    model = convnet()
    optimizer = adamw(model)
    with _watch(model, optimizer) as run:
        for norm in _batch_norms(model):
            norm.eval()
        model.train()
        image_step(model, optimizer)
    assert _acting(run) == ["TL105"]


def test_norms_in_eval_mode_for_one_forward() -> None:
    model = convnet()
    optimizer = adamw(model)
    with _watch(model, optimizer) as run:
        for step in range(3):
            for norm in _batch_norms(model):
                norm.eval()
            x, _ = images(step)
            torch.autograd.grad(model(x.requires_grad_()).sum(), [x])
            model.train()
            image_step(model, optimizer, step)
    assert _acting(run) == []


class _Shallow(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inside = convnet()

    def train(self, mode: bool = True) -> _Shallow:
        self.training = mode
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.inside(x)
        return out


def test_what_follows_from_a_broken_override_is_not_said_again() -> None:
    model = _Shallow()
    optimizer = adamw(model)
    with _watch(model, optimizer) as run:
        model.train()
        image_step(model, optimizer)
        model.eval()
        with torch.no_grad():
            model(images()[0])
    assert _acting(run) == ["TL504"]


# --- adapters -----------------------------------------------------------------------------------


def _reference_step(model: Any, optimizer: Any, step: int, *, enter: bool) -> None:
    batch = tokens(step)
    block = model.disable_adapter()
    if enter:
        with block, torch.no_grad():
            reference = model(input_ids=batch).logits
    else:
        del block
        with torch.no_grad():
            reference = model(input_ids=batch).logits
    optimizer.zero_grad()
    F.mse_loss(model(input_ids=batch).logits, reference).backward()
    optimizer.step()


@pytest.mark.parametrize(("enter", "codes"), [(True, []), (False, ["TL409"])])
def test_disable_adapter_as_a_statement(enter: bool, codes: list[str]) -> None:
    model = lora()
    optimizer = adamw(model)
    with _watch(model, optimizer) as run:
        for step in range(3):
            _reference_step(model, optimizer, step, enter=enter)
    assert _acting(run) == codes


def test_a_base_left_in_eval_is_told_from_its_adapters() -> None:
    for rate, severity in ((0.0, "info"), (0.1, "warning")):
        model = lora(llama(attention_dropout=rate).eval())
        optimizer = adamw(model)
        with _watch(model, optimizer) as run:
            one_step(model, optimizer)
        (found,) = run.report.violations
        assert (found.code, found.severity) == ("TL107", severity)
        assert "as `get_peft_model` leaves" in found.message


@pytest.mark.parametrize(("first", "code"), [(True, "TL303"), (False, "TL301")])
def test_what_was_built_first_is_known_after_collections_too(first: bool, code: str) -> None:
    base = llama()
    early = torch.optim.AdamW(base.parameters())
    model = lora(base)
    late = torch.optim.AdamW([p for p in model.parameters() if not p.requires_grad])
    optimizer = early if first else late
    for generation in (0, 1, 2):
        gc.collect(generation)
    with _watch(model, optimizer) as run:
        one_step(model, optimizer)
    assert _acting(run) == [code]


def test_a_merged_adapter_under_a_loss_made_to_require_grad() -> None:
    model = lora()
    optimizer = adamw(model)
    model.merge_adapter()
    with _watch(model, optimizer) as run:
        loss_of(model).detach().requires_grad_().backward()
    assert _acting(run) == ["TL406"]
