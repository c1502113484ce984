"""What the optimizer, module and process rules make of facts, event by event."""

from __future__ import annotations

from dataclasses import replace

import pytest

from trainlint.core.diagnostic import Severity
from trainlint.core.events import (
    AttributeAssigned,
    BareReference,
    EpochLoop,
    FunctionalDropout,
    LayerCreatedInForward,
    LossApplied,
    ModeOverride,
    ModuleClassDefined,
    ParametersConsumed,
    Receiver,
    TrainStep,
)
from trainlint.core.facts import (
    AdapterFacts,
    Cause,
    Certainty,
    ModelFacts,
    OptimizerFacts,
    Origin,
    ParameterGap,
    Share,
    Site,
    TrainableFact,
)
from trainlint.rules.distributed.sampler_epoch_not_set import SamplerEpochNotSet
from trainlint.rules.module import layer_created_in_forward
from trainlint.rules.module.functional_dropout_always_on import FunctionalDropoutAlwaysOn
from trainlint.rules.module.loss_activation_mismatch import LossActivationMismatch
from trainlint.rules.module.train_override_broken import TrainOverrideBroken
from trainlint.rules.optimizer.exhausted_parameter_iterator import ExhaustedParameterIterator
from trainlint.rules.optimizer.optimizer_includes_frozen_params import (
    OptimizerIncludesFrozenParams,
)
from trainlint.rules.optimizer.optimizer_misses_params import OptimizerMissesParams
from trainlint.rules.optimizer.optimizer_over_frozen_params import OptimizerOverFrozenParams
from trainlint.rules.optimizer.requires_grad_misset import RequiresGradMisset

HERE = Site("train.py", 1)
CREATED = Origin(Site("train.py", 2), "takes its parameters here")
CHANGED = Origin(Site("train.py", 3), "changed here")
OPTIMIZER = OptimizerFacts(name="optimizer", kind="AdamW", created=CREATED)
FROZEN = ModelFacts("model", trainable=TrainableFact(Share.NONE, Cause.EXPLICIT_CALL, CHANGED))
STEP = TrainStep(site=HERE, step=HERE, models=(FROZEN,), optimizer=OPTIMIZER)


def with_optimizer(**facts: object) -> TrainStep:
    return replace(STEP, optimizer=replace(OPTIMIZER, **facts))


def test_a_frozen_optimizer_is_reported_where_it_is_made():
    (finding,) = OptimizerOverFrozenParams().check(with_optimizer(frozen=Share.ALL))
    assert finding.site == CREATED.site


@pytest.mark.parametrize("share", [Share.SOME, Share.NONE, Share.UNKNOWN])
def test_anything_that_may_train_is_no_frozen_optimizer(share):
    assert not list(OptimizerOverFrozenParams().check(with_optimizer(frozen=share)))


def test_a_better_explanation_silences_the_frozen_optimizer():
    gap = ParameterGap("model", "the LoRA weights", Cause.PEFT_INJECTION, CHANGED)
    for facts in ({"missing": (gap,)}, {"stale": (gap,)}):
        event = with_optimizer(frozen=Share.ALL, **facts)
        assert not list(OptimizerOverFrozenParams().check(event))


@pytest.mark.parametrize(
    "cause",
    [
        Cause.PEFT_LOADED_FROZEN,
        Cause.PEFT_INFERENCE_CONFIG,
        Cause.PEFT_KBIT_AFTER,
        Cause.PEFT_FROZEN_BY_HAND,
    ],
)
def test_frozen_adapters_have_rules_of_their_own(cause):
    adapters = AdapterFacts(trainable=TrainableFact(Share.NONE, cause, CHANGED))
    event = replace(with_optimizer(frozen=Share.ALL), models=(replace(FROZEN, adapters=adapters),))
    assert not list(OptimizerOverFrozenParams().check(event))


def test_a_trainer_over_a_frozen_model():
    event = replace(STEP, optimizer=None, framework="transformers.Trainer")
    (finding,) = OptimizerOverFrozenParams().check(event)
    assert finding.site == HERE
    trains = ModelFacts("head", trainable=TrainableFact(Share.ALL))
    event = replace(event, models=(FROZEN, trains))
    assert not list(OptimizerOverFrozenParams().check(event))


def test_frozen_parts_weigh_by_what_they_cost():
    (harmless,) = OptimizerIncludesFrozenParams().check(with_optimizer(frozen=Share.SOME))
    (costly,) = OptimizerIncludesFrozenParams().check(
        with_optimizer(frozen=Share.SOME, kind="LBFGS")
    )
    assert (harmless.severity, costly.severity) == (Severity.INFO, Severity.WARNING)


@pytest.mark.parametrize("facts", [{"given_frozen": Share.NONE}, {"moves_frozen": CHANGED}])
def test_what_was_frozen_later_is_another_matter(facts):
    event = with_optimizer(frozen=Share.SOME, **facts)
    assert not list(OptimizerIncludesFrozenParams().check(event))


def test_each_gap_is_reported_where_it_arose():
    gap = ParameterGap("model", "`model.fc`", Cause.HEAD_REPLACED, CHANGED)
    (finding,) = OptimizerMissesParams().check(with_optimizer(missing=(gap,)))
    assert finding.site == CHANGED.site
    assert finding.trail == (CREATED, CHANGED)
    unexplained = replace_cause(gap, Cause.FRAMEWORK)
    assert not list(OptimizerMissesParams().check(with_optimizer(missing=(unexplained,))))


def replace_cause(gap: ParameterGap, cause: Cause) -> ParameterGap:
    return replace(gap, cause=cause)


def test_the_first_use_of_an_iterator_is_its_right():
    event = ParametersConsumed(site=HERE, name="params", earlier=None)
    assert not list(ExhaustedParameterIterator().check(event))
    assert list(ExhaustedParameterIterator().check(replace(event, earlier=CREATED)))


def assigned(receiver: Receiver, attribute: str, **facts: object) -> AttributeAssigned:
    event = AttributeAssigned(
        site=HERE, receiver=receiver, name="it", attribute=attribute, value="False"
    )
    return replace(event, **facts)


@pytest.mark.parametrize(
    "event",
    [
        assigned(Receiver.MODULE, "requires_grad"),
        assigned(Receiver.PEFT_MODEL, "requires_grad"),
        assigned(Receiver.PARAMETER, "require_grad"),
        assigned(Receiver.MODULE, "requires_grads"),
        assigned(Receiver.PARAMETER, "requires_grad_"),
        assigned(Receiver.TENSOR, "requires_grad_"),
    ],
)
def test_assignments_that_do_nothing(event):
    assert list(RequiresGradMisset().check(event))


@pytest.mark.parametrize(
    "event",
    [
        assigned(Receiver.PARAMETER, "requires_grad"),
        assigned(Receiver.TENSOR, "requires_grad"),
        assigned(Receiver.TENSOR, "require_grad"),
        assigned(Receiver.UNKNOWN, "requires_grad"),
        assigned(Receiver.OTHER, "requires_grad"),
        assigned(Receiver.MODULE, "requires_grad", inside_own_method=True),
        assigned(Receiver.MODULE, "training"),
    ],
)
def test_assignments_that_are_right_or_unknown(event):
    assert not list(RequiresGradMisset().check(event))


def referred(attribute: str, compared: bool, **facts: object) -> BareReference:
    event = BareReference(
        site=HERE, receiver=Receiver.PARAMETER, name="p", attribute=attribute, compared=compared
    )
    return replace(event, **facts)


def test_references_that_do_nothing():
    rule = RequiresGradMisset()
    assert list(rule.check(referred("requires_grad", compared=True)))
    assert list(rule.check(referred("requires_grad_", compared=False)))
    assert not list(rule.check(referred("requires_grad", compared=False)))
    assert not list(rule.check(referred("shape", compared=True)))
    shown = referred("requires_grad", compared=True, last_in_cell=True)
    assert not list(rule.check(shown))


DROPOUT = FunctionalDropout(
    site=HERE,
    callee="torch.nn.functional.dropout",
    training="missing",
    probability_zero=Certainty.UNKNOWN,
    guarded=False,
    in_module=True,
)


def test_functional_dropout_that_eval_does_not_reach():
    rule = FunctionalDropoutAlwaysOn()
    (finding,) = rule.check(DROPOUT)
    assert finding.help == "add `training=self.training`"
    attention = replace(DROPOUT, callee="torch.nn.functional.scaled_dot_product_attention")
    (finding,) = rule.check(attention)
    assert "dropout_p" in str(finding.help)


@pytest.mark.parametrize(
    "facts",
    [
        {"training": "true"},
        {"training": "tied"},
        {"training": "unknown"},
        {"training": "false"},
        {"probability_zero": Certainty.YES},
        {"guarded": True},
        {"in_module": False},
        {"callee": "torch.nn.functional.alpha_dropout"},
        {"callee": "torch.nn.functional.rrelu"},
    ],
)
def test_functional_dropout_that_is_meant_or_off(facts):
    assert not list(FunctionalDropoutAlwaysOn().check(replace(DROPOUT, **facts)))


@pytest.mark.parametrize(("sensitive", "parametric"), [(True, False), (False, True)])
def test_layers_made_in_forward(sensitive, parametric):
    rule = layer_created_in_forward.LayerCreatedInForward()
    event = LayerCreatedInForward(
        site=HERE, layer="nn.X", sensitive=sensitive, parametric=parametric
    )
    assert list(rule.check(event))
    assert not list(rule.check(replace(event, sensitive=False, parametric=False)))


RIGHT = ModeOverride(
    method="train",
    site=HERE,
    takes_mode=True,
    returns_self=True,
    calls_super=True,
    uses_mode=True,
    runs_training=False,
)


def judged(*overrides: ModeOverride) -> list[Severity]:
    event = ModuleClassDefined(site=HERE, name="Net", overrides=overrides)
    return [finding.severity for finding in TrainOverrideBroken().check(event)]


@pytest.mark.parametrize(
    "fault",
    [
        {"takes_mode": False},
        {"calls_super": False},
        {"uses_mode": False},
        {"runs_training": True},
        {"is_attribute": True},
    ],
)
def test_overrides_that_break(fault):
    assert judged(replace(RIGHT, **fault)) == [Severity.ERROR]


def test_overrides_that_are_right():
    assert judged(RIGHT) == []
    assert judged(replace(RIGHT, calls_super=False, uses_mode=False, inert=True)) == []
    assert judged(replace(RIGHT, uses_mode=False, forces_eval=True)) == []
    assert judged(replace(RIGHT, returns_self=False)) == [Severity.INFO]


def test_overridden_eval():
    evaluates = replace(RIGHT, method="eval")
    assert judged(evaluates) == [Severity.ERROR]
    assert judged(evaluates, RIGHT) == []
    assert judged(replace(evaluates, calls_super=False), RIGHT) == [Severity.ERROR]


@pytest.mark.parametrize(
    ("loss", "activation", "wrong"),
    [
        ("CrossEntropyLoss", "softmax", True),
        ("torch.nn.functional.cross_entropy", "relu", True),
        ("CrossEntropyLoss", "log_softmax", False),
        ("CrossEntropyLoss", "none", False),
        ("BCEWithLogitsLoss", "sigmoid", True),
        ("BCEWithLogitsLoss", "none", False),
        ("BCELoss", "none", True),
        ("BCELoss", "sigmoid", False),
        ("BCELoss", "softmax", False),
        ("NLLLoss", "none", True),
        ("nll_loss", "softmax", True),
        ("NLLLoss", "log_softmax", False),
        ("MSELoss", "softmax", False),
        ("CrossEntropyLoss", "", False),
    ],
)
def test_losses_and_activations(loss, activation, wrong):
    event = LossApplied(site=HERE, loss=loss, activation=activation)
    assert bool(list(LossActivationMismatch().check(event))) is wrong


@pytest.mark.parametrize(
    ("facts", "wrong"),
    [
        ({}, True),
        ({"managed": True}, False),
        ({"epoch_set": Certainty.YES}, False),
        ({"epoch_set": Certainty.UNKNOWN}, False),
        ({"shuffles": Certainty.NO}, False),
        ({"shuffles": Certainty.UNKNOWN}, False),
    ],
)
def test_samplers(facts, wrong):
    event = EpochLoop(site=HERE, sampler="sampler", shuffles=Certainty.YES, epoch_set=Certainty.NO)
    assert bool(list(SamplerEpochNotSet().check(replace(event, **facts)))) is wrong
