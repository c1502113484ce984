"""What the gradient rules make of facts, event by event."""

from __future__ import annotations

from dataclasses import replace

import pytest

from trainlint.core.events import (
    AccumulationStep,
    Backward,
    BackwardWithoutStep,
    ContextNotCalled,
    DiscardedCall,
    Evaluation,
    Evidence,
    GradientsCleared,
    GradientsClipped,
    GraphKept,
    OptimizerStep,
    SchedulerStep,
    StepWithoutBackward,
)
from trainlint.core.facts import (
    Certainty,
    Cut,
    Gradients,
    LossFacts,
    Mode,
    ModeFact,
    ModelFacts,
    OptimizerFacts,
    Origin,
    Share,
    Site,
    TrainableFact,
)
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

HERE = Site("train.py", 1)
OFF = Origin(Site("train.py", 2), "gradients are turned off here")
CLEARED = Origin(Site("train.py", 3), "cleared here")
BACKWARD = Origin(Site("train.py", 4), "backward here")
STEP_RULES = [MissingZeroGrad, ZeroGradWipesGradients, StepBeforeBackward, ScalerBypassed]


def judge(rule, event):
    return list(rule().check(event))


def optimizer(gradients=Gradients.FRESH, **facts):
    return OptimizerFacts("opt", gradients=gradients, cleared=CLEARED, backward=BACKWARD, **facts)


def step(gradients=Gradients.FRESH, *, in_loop=True, through_scaler=False, **facts):
    return OptimizerStep(
        site=HERE,
        optimizer=optimizer(gradients, **facts),
        in_loop=in_loop,
        through_scaler=through_scaler,
    )


def which(event):
    return [rule.code for rule in STEP_RULES if judge(rule, event)]


@pytest.mark.parametrize(
    ("event", "codes"),
    [
        (step(Gradients.FRESH), []),
        (step(Gradients.UNKNOWN), []),
        (step(Gradients.ABSENT), []),
        (step(Gradients.CLEARED), []),
        (step(Gradients.MIXED_IN), ["TL205"]),
        (step(Gradients.MIXED_IN, in_loop=False), []),
        (step(Gradients.MIXED_IN, uses_closure=True), []),
        (step(Gradients.WIPED), ["TL206"]),
        (step(Gradients.WIPED, in_loop=False), ["TL206"]),
        (step(Gradients.WIPED, cleared_at_times=True), []),
        (step(Gradients.WIPED, backward_this_round=False), ["TL207"]),
        (step(Gradients.WIPED, backward_this_round=False, cleared_at_times=True), []),
        (step(Gradients.WIPED, backward_this_round=False, in_loop=False), []),
        (step(scaled=Certainty.YES), ["TL209"]),
        (step(scaled=Certainty.YES, through_scaler=True), []),
        (step(scaled=Certainty.UNKNOWN), []),
        (step(Gradients.CLEARED, scaled=Certainty.YES), []),
    ],
)
def test_a_step(event, codes):
    assert which(event) == codes


def test_wiped_gradients_are_reported_where_they_are_cleared():
    (finding,) = judge(ZeroGradWipesGradients, step(Gradients.WIPED))
    assert finding.site == CLEARED.site
    assert finding.trail == (BACKWARD,)


@pytest.mark.parametrize(
    ("gradients", "between", "found"),
    [
        (Gradients.FRESH, True, True),
        (Gradients.FRESH, False, False),
        (Gradients.CONSUMED, True, False),
    ],
)
def test_clearing_between_micro_batches(gradients, between, found):
    event = GradientsCleared(
        site=HERE, optimizer=optimizer(gradients), between_micro_batches=between
    )
    assert bool(judge(ZeroGradWipesGradients, event)) is found


def test_one_half_is_missing():
    lonely = judge(StepBeforeBackward, BackwardWithoutStep(site=HERE, optimizer=optimizer()))
    assert lonely[0].message.startswith("backward gives gradients to `opt`, which never steps")
    idle = judge(StepBeforeBackward, StepWithoutBackward(site=HERE, optimizer=optimizer()))
    assert idle[0].message.startswith("`opt` steps and no backward gives it gradients")
    closure = StepWithoutBackward(site=HERE, optimizer=optimizer(uses_closure=True))
    assert judge(StepBeforeBackward, closure) == []


@pytest.mark.parametrize(
    ("facts", "found"),
    [
        ({"before_optimizer": Certainty.YES}, True),
        ({"before_optimizer": Certainty.NO}, False),
        ({"before_optimizer": Certainty.UNKNOWN}, False),
        ({"before_optimizer": Certainty.YES, "epoch_given": True}, False),
        ({"before_optimizer": Certainty.YES, "same_loop": Certainty.NO}, False),
        ({"before_optimizer": Certainty.YES, "same_loop": Certainty.YES}, True),
    ],
)
def test_a_scheduler(facts, found):
    event = SchedulerStep(site=HERE, name="scheduler", optimizer=optimizer(), **facts)
    assert bool(judge(SchedulerBeforeOptimizer, event)) is found


def clip(gradients=Gradients.FRESH, scaled=Certainty.NO, uses_closure=False, **facts):
    held = optimizer(gradients, scaled=scaled, uses_closure=uses_closure)
    return GradientsClipped(site=HERE, optimizer=held, **facts)


@pytest.mark.parametrize(
    ("event", "misplaced", "scaled"),
    [
        (clip(), False, False),
        (clip(Gradients.ABSENT), False, False),
        (clip(Gradients.UNKNOWN), False, False),
        (clip(Gradients.CONSUMED), True, False),
        (clip(Gradients.CLEARED), True, False),
        (clip(Gradients.ABSENT, never_before_step=True), True, False),
        (clip(Gradients.CONSUMED, measures=True), False, False),
        (clip(Gradients.CLEARED, uses_closure=True), False, False),
        (clip(scaled=Certainty.YES), False, True),
        (clip(scaled=Certainty.YES, limit_scaled=True), False, False),
        (clip(scaled=Certainty.UNKNOWN), False, False),
        (clip(Gradients.CONSUMED, scaled=Certainty.YES), True, False),
    ],
)
def test_a_clip(event, misplaced, scaled):
    assert bool(judge(ClipMisplaced, event)) is misplaced
    assert bool(judge(ClipBeforeUnscale, event)) is scaled


LOSS_RULES = [BackwardUnderNoGrad, GradModeLeaked, LossDetached]


@pytest.mark.parametrize(
    ("loss", "codes"),
    [
        (LossFacts("loss"), []),
        (LossFacts("loss", cut=Cut.NO_GRAD, grad_off=OFF), ["TL203"]),
        (LossFacts("loss", cut=Cut.NO_GRAD, grad_off=OFF, grad_leaked=True), ["TL204"]),
        (LossFacts("loss", cut=Cut.NO_GRAD), []),
        (LossFacts("loss", cut=Cut.ITEM), ["TL212"]),
        (LossFacts("", cut=Cut.REBUILT), ["TL212"]),
    ],
)
def test_a_backward(loss, codes):
    event = Backward(site=HERE, loss=loss)
    assert [rule.code for rule in LOSS_RULES if judge(rule, event)] == codes


def test_a_loss_without_a_name():
    (finding,) = judge(LossDetached, Backward(site=HERE, loss=LossFacts("", cut=Cut.ITEM)))
    assert finding.message == (
        "the loss is cut from its graph by `.item()`: backward reaches no parameter"
    )


MODEL = ModelFacts("model", ModeFact(Mode.EVAL))


def evaluation(*evidence, model=MODEL, grad=Certainty.YES, in_loop=True, **facts):
    return Evaluation(
        site=HERE, model=model, grad=grad, evidence=frozenset(evidence), in_loop=in_loop, **facts
    )


@pytest.mark.parametrize(
    ("event", "found"),
    [
        (evaluation(Evidence.EVAL_ASKED), True),
        (evaluation(Evidence.NAME, Evidence.METRICS), True),
        (evaluation(Evidence.NAME), False),
        (evaluation(Evidence.METRICS), False),
        (evaluation(Evidence.EVAL_ASKED, grad=Certainty.NO), False),
        (evaluation(Evidence.EVAL_ASKED, grad=Certainty.UNKNOWN), False),
        (evaluation(Evidence.EVAL_ASKED, in_loop=False), False),
        (evaluation(Evidence.EVAL_ASKED, needs_train=True), False),
        (evaluation(Evidence.EVAL_ASKED, model=replace(MODEL, managed=True)), False),
        (
            evaluation(
                Evidence.EVAL_ASKED, model=replace(MODEL, trainable=TrainableFact(Share.NONE))
            ),
            False,
        ),
    ],
)
def test_an_evaluation(event, found):
    assert bool(judge(EvalWithoutNoGrad, event)) is found


@pytest.mark.parametrize(
    ("event", "advice"),
    [
        (DiscardedCall(site=HERE, callee="torch.no_grad"), "use `with torch.no_grad():`"),
        (
            DiscardedCall(site=HERE, callee="torch.inference_mode", followed_by_def=True),
            "write `@torch.inference_mode()`",
        ),
        (ContextNotCalled(site=HERE, callee="torch.no_grad"), "write `with torch.no_grad():`"),
        (DiscardedCall(site=HERE, callee="torch.set_grad_enabled"), None),
        (DiscardedCall(site=HERE, callee="tinygrad.no_grad"), None),
    ],
)
def test_a_gradient_context(event, advice):
    findings = judge(NoGradNotEntered, event)
    assert [finding.help for finding in findings] == ([advice] if advice else [])


def test_rules_that_are_off_until_selected():
    assert not GraphRetained.default
    assert not AccumulationNotScaled.default
    kept = GraphKept(site=HERE, name="", keeper="outputs")
    assert judge(GraphRetained, kept)[0].message.startswith("a result is kept in `outputs`")
    assert judge(GraphRetained, replace(kept, in_loop=False)) == []
    summed = AccumulationStep(site=HERE, divided=Certainty.NO, optimizer=optimizer())
    assert judge(AccumulationNotScaled, summed)
    assert judge(AccumulationNotScaled, replace(summed, divided=Certainty.UNKNOWN)) == []
