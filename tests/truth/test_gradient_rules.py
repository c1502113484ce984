"""The examples of the gradient rules' pages, on real torch: no folklore."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from tests.truth.rehearsal import play, rehearse
from trainlint.rules.gradient.accumulation_not_scaled import AccumulationNotScaled
from trainlint.rules.gradient.backward_under_no_grad import BackwardUnderNoGrad
from trainlint.rules.gradient.clip_before_unscale import ClipBeforeUnscale
from trainlint.rules.gradient.clip_misplaced import ClipMisplaced
from trainlint.rules.gradient.eval_without_no_grad import EvalWithoutNoGrad
from trainlint.rules.gradient.grad_mode_leaked import GradModeLeaked
from trainlint.rules.gradient.graph_retained import GraphRetained
from trainlint.rules.gradient.loss_detached import LossDetached
from trainlint.rules.gradient.missing_zero_grad import MissingZeroGrad
from trainlint.rules.gradient.no_grad_not_entered import NoGradNotEntered
from trainlint.rules.gradient.scaler_bypassed import ScalerBypassed
from trainlint.rules.gradient.scheduler_before_optimizer import SchedulerBeforeOptimizer
from trainlint.rules.gradient.step_before_backward import StepBeforeBackward
from trainlint.rules.gradient.zero_grad_wipes_gradients import ZeroGradWipesGradients

ON_CPU = ('GradScaler("cuda")', 'GradScaler("cpu")')
TIGHT = ("1.0)", "1e-3)")


def linear_state() -> dict[str, torch.Tensor]:
    return nn.Linear(4, 2).state_dict()


def test_an_evaluation_keeps_a_graph_in_eval_mode():
    bad, good = rehearse(EvalWithoutNoGrad, {"model.pt": linear_state()})
    assert bad.names["logits"].grad_fn is not None
    assert good.names["logits"].grad_fn is None
    assert bad.names["correct"] == good.names["correct"]


def test_a_context_that_is_not_entered_changes_nothing():
    bad, good = rehearse(NoGradNotEntered, {"model.pt": linear_state()})
    assert bad.forwards[-1].output.requires_grad
    assert not good.forwards[-1].output.requires_grad


@pytest.mark.parametrize("switch", [torch.no_grad, torch.inference_mode])
def test_the_class_cannot_be_entered_but_decorates(switch):
    with pytest.raises(TypeError), switch:
        pass
    assert switch(torch.is_grad_enabled)() is False


def test_backward_has_nothing_to_run_through():
    bad, good = rehearse(BackwardUnderNoGrad)
    assert isinstance(bad.failure, RuntimeError)
    assert good.failure is None
    assert good.moved


def test_backward_called_under_no_grad_is_fine():
    weight = torch.ones(1, requires_grad=True)
    loss = (2 * weight).sum()
    with torch.no_grad():
        loss.backward()
    assert weight.grad.item() == 2


def test_enable_grad_rescues_from_no_grad_and_not_from_inference_mode():
    weight = torch.ones(1, requires_grad=True)
    with torch.no_grad(), torch.enable_grad():
        assert (2 * weight).requires_grad
    with torch.inference_mode(), torch.enable_grad():
        assert not (2 * weight).requires_grad


def test_the_epoch_after_the_switch_has_no_graph():
    bad, good = rehearse(GradModeLeaked)
    assert isinstance(bad.failure, RuntimeError)
    assert len(bad.steps) == 4
    assert good.failure is None
    assert len(good.steps) == 12


def test_without_clearing_each_step_follows_the_sum():
    bad, good = rehearse(MissingZeroGrad)
    assert own_gradient(bad, 0)
    assert own_gradient(good, 0)
    assert not own_gradient(bad, 3)
    assert own_gradient(good, 3)


def own_gradient(take, index):
    """Whether the step used the gradient of its own batch alone."""
    step, (x, y) = take.steps[index], take.names["batches"][index]
    weight, bias = (value.clone().requires_grad_(True) for value in step.before)
    nn.functional.cross_entropy(x @ weight.T + bias, y).backward()
    return torch.allclose(step.gradients[0], weight.grad, atol=1e-6)


@pytest.mark.parametrize("rule", [ZeroGradWipesGradients, StepBeforeBackward])
def test_no_step_finds_a_gradient(rule):
    bad, good = rehearse(rule)
    assert bad.failure is None
    assert len(bad.steps) == 4
    assert not bad.moved
    assert good.moved


def test_clearing_in_every_micro_batch_keeps_the_last_one_only():
    program = """
import torch
from torch import nn

torch.manual_seed(0)
batches = [(torch.randn(8, 4), torch.randint(2, (8,))) for _ in range(4)]
model = nn.Linear(4, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for i, (x, y) in enumerate(batches):
    CLEAR
    nn.functional.cross_entropy(model(x), y).backward()
    if (i + 1) % 4 == 0:
        optimizer.step()
"""
    bad = play(program.replace("CLEAR", "optimizer.zero_grad()"))
    good = play(program.replace("CLEAR", "pass"))
    last = own_gradient_of_batch(bad, 3)
    assert torch.allclose(bad.steps[0].gradients[0], last, atol=1e-6)
    assert not torch.allclose(good.steps[0].gradients[0], last, atol=1e-6)


def own_gradient_of_batch(take, index):
    x, y = take.names["batches"][index]
    weight, bias = (value.clone().requires_grad_(True) for value in take.steps[0].before)
    nn.functional.cross_entropy(x @ weight.T + bias, y).backward()
    return weight.grad


def test_the_first_learning_rate_is_skipped():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        bad, good = rehearse(SchedulerBeforeOptimizer)
    assert [step.rate for step in bad.steps[::4]] == [0.05, 0.025, 0.0125]
    assert [step.rate for step in good.steps[::4]] == [0.1, 0.05, 0.025]
    assert any("lr_scheduler.step()` before" in str(w.message) for w in caught)


def test_a_plain_step_follows_gradients_65536_times_too_large():
    bad, good = rehearse(ScalerBypassed, edit=ON_CPU)
    assert bad.steps[0].length == pytest.approx(65536 * good.steps[0].length, rel=0.01)


def test_clipping_after_the_step_clips_no_step():
    bad, good = rehearse(ClipMisplaced, edit=TIGHT)
    assert all(step.norm > 1e-2 for step in bad.steps)
    assert all(step.norm < 1.1e-3 for step in good.steps)


def test_clipping_before_the_backward_clips_no_step():
    program = """
import torch
from torch import nn

model = nn.Linear(4, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(3):
    optimizer.zero_grad()
    loss = model(torch.ones(2, 4)).pow(2).sum()
    nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
    loss.backward()
    optimizer.step()
"""
    assert all(step.norm > 1e-2 for step in play(program).steps)


def test_clipping_scaled_gradients_leaves_next_to_nothing():
    bad, good = rehearse(ClipBeforeUnscale, edit=ON_CPU)
    assert bad.steps[0].length < good.steps[0].length / 10_000
    assert good.steps[0].moved


def test_no_parameter_gets_a_gradient_from_a_detached_loss():
    bad, good = rehearse(LossDetached)
    assert bad.failure is None
    assert all(gradient is None for step in bad.steps for gradient in step.gradients)
    assert not bad.moved
    assert good.moved


@pytest.mark.parametrize(
    "cut",
    [
        "loss.item()",
        "loss.data",
        "loss.detach()",
        "torch.tensor(loss)",
        "logits.argmax(1).float().mean()",
    ],
)
def test_without_requires_grad_a_cut_loss_raises(cut):
    weight = torch.ones(2, requires_grad=True)
    logits = (weight * torch.ones(3, 2)).softmax(1)
    loss = logits.sum()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = eval(cut, {"torch": torch, "loss": loss, "logits": logits})
    with pytest.raises((RuntimeError, AttributeError)):
        value.backward()


def test_kept_results_keep_their_graph():
    bad, good = rehearse(GraphRetained)
    assert all(kept.grad_fn is not None for kept in bad.names["drift"])
    assert all(kept.grad_fn is None for kept in good.names["drift"])


def test_undivided_losses_make_the_step_as_many_times_too_large():
    bad, good = rehearse(AccumulationNotScaled)
    assert bad.steps[0].norm == pytest.approx(4 * good.steps[0].norm, rel=1e-4)
