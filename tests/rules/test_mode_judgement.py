"""What the mode rules make of facts, event by event."""

from __future__ import annotations

from dataclasses import replace

import pytest

from trainlint.core.diagnostic import Severity
from trainlint.core.events import (
    AttributeAssigned,
    BareReference,
    Evaluation,
    Evidence,
    Receiver,
    ReferenceForward,
    TrainStep,
)
from trainlint.core.facts import (
    AdapterFacts,
    Cause,
    Certainty,
    Mode,
    ModeFact,
    ModelFacts,
    Origin,
    PartFact,
    Share,
    Site,
    TrainableFact,
)
from trainlint.rules.mode.eval_in_train_mode import EvalInTrainMode
from trainlint.rules.mode.method_not_called import MethodNotCalled
from trainlint.rules.mode.mixed_training_flags import MixedTrainingFlags
from trainlint.rules.mode.partial_mode_overridden import PartialModeOverridden
from trainlint.rules.mode.reference_model_in_train_mode import ReferenceModelInTrainMode
from trainlint.rules.mode.train_in_eval_mode import TrainInEvalMode
from trainlint.rules.mode.training_flag_assigned import TrainingFlagAssigned

HERE = Site("train.py", 1)
THERE = Origin(Site("train.py", 2), "trained here")
TRAIN = ModeFact(Mode.TRAIN)
EVAL = ModeFact(Mode.EVAL, Cause.EXPLICIT_CALL, Origin(Site("train.py", 3), "eval"), "score()")
MIXED = ModeFact(Mode.MIXED)
FROM_HUB = ModeFact(Mode.EVAL, Cause.FACTORY)
ASKED_TRAIN = ModeFact(Mode.TRAIN, Cause.EXPLICIT_CALL)
NETWORK = ModelFacts("model", EVAL, sensitive=Certainty.YES, layers=("drop: Dropout",))


def judge(rule, event):
    return list(rule().check(event))


def severities(rule, event):
    return [finding.severity for finding in judge(rule, event)]


def step(model):
    return TrainStep(site=HERE, step=HERE, models=(model,), when=" from the second epoch on")


def evaluation(model, *evidence, **facts):
    facts.setdefault("trained_elsewhere", THERE)
    return Evaluation(
        site=HERE, model=model, grad=Certainty.NO, evidence=frozenset(evidence), **facts
    )


def test_a_model_in_eval_mode_is_trained():
    (finding,) = judge(TrainInEvalMode, step(NETWORK))
    assert finding.severity is Severity.ERROR
    assert finding.message == (
        "`model` is trained in eval mode from the second epoch on: `score()` leaves it in eval "
        "mode and nothing calls `model.train()` before the next step"
    )
    assert finding.trail == (EVAL.origin,)


@pytest.mark.parametrize(
    "model",
    [
        replace(NETWORK, mode=TRAIN),
        replace(NETWORK, mode=ModeFact()),
        replace(NETWORK, managed=True),
        replace(NETWORK, trainable=TrainableFact(Share.NONE)),
        replace(NETWORK, mode=ModeFact(Mode.EVAL, Cause.PEFT_LOAD_ADAPTER)),
        replace(NETWORK, mode=MIXED),
    ],
    ids=["train", "unknown", "managed", "frozen", "load_adapter", "mixed, parts unknown"],
)
def test_a_training_step_that_is_in_order(model):
    assert judge(TrainInEvalMode, step(model)) == []


def test_a_model_without_sensitive_layers_is_information():
    indifferent = replace(NETWORK, sensitive=Certainty.NO)
    assert severities(TrainInEvalMode, step(indifferent)) == [Severity.INFO]


def test_eval_mode_that_freezes_statistics_on_purpose_is_information():
    mode = ModeFact(Mode.EVAL, Cause.EXPLICIT_CALL)
    norms = replace(NETWORK, mode=mode, layers=("bn1: BatchNorm2d",), evaluated=Certainty.NO)
    assert severities(TrainInEvalMode, step(norms)) == [Severity.INFO]
    assert severities(TrainInEvalMode, step(replace(norms, evaluated=Certainty.YES))) == [
        Severity.ERROR
    ]
    assert severities(TrainInEvalMode, step(replace(norms, layers=("d: Dropout",)))) == [
        Severity.ERROR
    ]


def around_encoder(head_sensitive, encoder=FROM_HUB, head=TRAIN, **facts):
    parts = (
        PartFact("encoder", encoder, Certainty.UNKNOWN, **facts),
        PartFact("head", head, head_sensitive),
    )
    return ModelFacts("model", MIXED, parts=parts)


def test_a_linear_head_on_a_pretrained_encoder_is_eval_mode():
    assert severities(TrainInEvalMode, step(around_encoder(Certainty.NO))) == [Severity.ERROR]
    assert judge(MixedTrainingFlags, step(around_encoder(Certainty.NO))) == []


def test_a_head_with_dropout_on_a_pretrained_encoder_is_a_mix():
    (finding,) = judge(MixedTrainingFlags, step(around_encoder(Certainty.YES)))
    assert finding.severity is Severity.WARNING
    assert finding.names == ("encoder",)
    assert judge(TrainInEvalMode, step(around_encoder(Certainty.YES))) == []


@pytest.mark.parametrize(
    "model",
    [
        around_encoder(Certainty.YES, kept_eval=THERE),
        around_encoder(Certainty.YES, trainable=Share.NONE),
        around_encoder(Certainty.YES, head=ASKED_TRAIN),
        around_encoder(Certainty.YES, encoder=ModeFact(Mode.EVAL, Cause.PEFT_LOAD_ADAPTER)),
        replace(around_encoder(Certainty.YES), managed=True),
        replace(around_encoder(Certainty.YES), mode=TRAIN),
    ],
    ids=["kept in eval", "frozen", "head by hand", "load_adapter", "managed", "healed"],
)
def test_a_mix_with_a_reason(model):
    assert judge(MixedTrainingFlags, step(model)) == []


def test_under_adapters_a_frozen_base_explains_nothing():
    mixed = around_encoder(Certainty.YES, trainable=Share.NONE)
    assert severities(MixedTrainingFlags, step(replace(mixed, adapters=AdapterFacts()))) == [
        Severity.WARNING
    ]


def test_an_indifferent_base_under_adapters_is_information():
    parts = (
        PartFact("base", FROM_HUB, Certainty.NO),
        PartFact("lora", TRAIN, Certainty.YES),
    )
    model = ModelFacts("model", MIXED, parts=parts, adapters=AdapterFacts())
    assert severities(MixedTrainingFlags, step(model)) == [Severity.INFO]


def test_a_mix_is_evaluated():
    model = replace(around_encoder(Certainty.YES), loaded=THERE)
    (finding,) = judge(MixedTrainingFlags, evaluation(model, Evidence.METRICS))
    assert finding.message.startswith("`model` is evaluated with `encoder` in eval mode")
    assert judge(MixedTrainingFlags, evaluation(around_encoder(Certainty.NO), Evidence.NAME)) == []


LIVE = replace(NETWORK, mode=TRAIN)


def test_an_evaluation_in_train_mode():
    (finding,) = judge(EvalInTrainMode, evaluation(LIVE, Evidence.METRICS))
    assert finding.severity is Severity.WARNING
    assert finding.message == (
        "`model` is evaluated in train mode: `drop: Dropout` act as in training"
    )
    assert finding.trail == (THERE,)


@pytest.mark.parametrize(
    "event",
    [
        evaluation(NETWORK, Evidence.METRICS),
        evaluation(replace(LIVE, mode=ModeFact()), Evidence.METRICS),
        evaluation(replace(LIVE, mode=MIXED), Evidence.METRICS),
        evaluation(replace(LIVE, managed=True), Evidence.METRICS),
        evaluation(LIVE, Evidence.METRICS, needs_train=True),
        evaluation(LIVE, Evidence.NAME, result_used=Certainty.NO),
        evaluation(LIVE, Evidence.NAME, Evidence.GRAD_OFF, trained_elsewhere=None),
        evaluation(replace(LIVE, sensitive=Certainty.UNKNOWN), Evidence.GRAD_OFF),
        evaluation(replace(LIVE, mode=ASKED_TRAIN, trained=Certainty.NO), Evidence.METRICS),
    ],
    ids=[
        "eval",
        "unknown",
        "mixed",
        "managed",
        "detector",
        "statistics",
        "smoke test",
        "only no_grad",
        "asked for",
    ],
)
def test_an_evaluation_that_is_in_order(event):
    assert judge(EvalInTrainMode, event) == []


def test_loaded_weights_are_worth_an_evaluation():
    event = evaluation(replace(LIVE, loaded=THERE), Evidence.NAME, trained_elsewhere=None)
    assert severities(EvalInTrainMode, event) == [Severity.WARNING]


def reference(model, **facts):
    return ReferenceForward(site=HERE, model=model, student="student", backward=HERE, **facts)


def test_a_teacher_in_train_mode():
    assert severities(ReferenceModelInTrainMode, reference(LIVE)) == [Severity.WARNING]
    assert judge(ReferenceModelInTrainMode, reference(NETWORK)) == []
    assert judge(ReferenceModelInTrainMode, reference(replace(LIVE, mode=ASKED_TRAIN))) == []


def test_a_momentum_encoder_of_batch_norms_is_information():
    norms = replace(LIVE, layers=("bn: BatchNorm1d",))
    follows = reference(norms, follows=Certainty.YES)
    assert severities(ReferenceModelInTrainMode, follows) == [Severity.INFO]
    assert severities(ReferenceModelInTrainMode, reference(norms)) == [Severity.WARNING]


def test_an_undone_part():
    undone = (("backbone", THERE, Origin(HERE, "train")),)
    model = ModelFacts("model", TRAIN, overridden=undone)
    (finding,) = judge(PartialModeOverridden, step(model))
    assert finding.message == (
        "`backbone` of `model` is put in eval mode, and `train()` of the whole model undoes it "
        "from the second epoch on"
    )
    assert finding.trail == (THERE, Origin(HERE, "train"))
    part = PartFact("backbone", TRAIN, Certainty.NO)
    assert severities(PartialModeOverridden, step(replace(model, parts=(part,)))) == [Severity.INFO]
    assert judge(PartialModeOverridden, step(replace(model, overridden=()))) == []


def reference_to(receiver, attribute, name="model", **facts):
    return BareReference(site=HERE, receiver=receiver, name=name, attribute=attribute, **facts)


@pytest.mark.parametrize(
    ("event", "found"),
    [
        (reference_to(Receiver.MODULE, "eval"), True),
        (reference_to(Receiver.MODULE, "step"), False),
        (reference_to(Receiver.OPTIMIZER, "step"), True),
        (reference_to(Receiver.SCHEDULER, "step"), True),
        (reference_to(Receiver.TENSOR, "backward", "loss"), True),
        (reference_to(Receiver.OTHER, "eval"), False),
        (reference_to(Receiver.UNKNOWN, "eval", "self.model"), True),
        (reference_to(Receiver.UNKNOWN, "eval", "frame"), False),
        (reference_to(Receiver.UNKNOWN, "eval", "model", last_in_cell=True), False),
        (reference_to(Receiver.MODULE, "eval", last_in_cell=True), True),
        (reference_to(Receiver.UNKNOWN, "step", "clock"), False),
        (reference_to(Receiver.UNKNOWN, "zero_grad", "opt"), True),
        (reference_to(Receiver.MODULE, "eval", compared=True), False),
    ],
)
def test_a_bare_reference(event, found):
    assert bool(judge(MethodNotCalled, event)) is found


def assigned(**facts):
    defaults = {
        "receiver": Receiver.MODULE,
        "name": "model",
        "attribute": "training",
        "value": "False",
        "has_submodules": Certainty.YES,
    }
    return AttributeAssigned(site=HERE, **(defaults | facts))


def test_an_assigned_flag():
    (finding,) = judge(TrainingFlagAssigned, assigned())
    assert finding.help == "call `model.eval()`"
    observed = replace(NETWORK, flag_assigned=THERE)
    (live,) = judge(TrainingFlagAssigned, step(observed))
    assert live.site == THERE.site


@pytest.mark.parametrize(
    "event",
    [
        assigned(receiver=Receiver.OTHER),
        assigned(receiver=Receiver.UNKNOWN),
        assigned(attribute="mode"),
        assigned(inside_own_method=True),
        assigned(over_all_modules=True),
        assigned(has_submodules=Certainty.NO),
        assigned(has_submodules=Certainty.UNKNOWN),
    ],
)
def test_an_assignment_that_is_in_order(event):
    assert judge(TrainingFlagAssigned, event) == []
