"""What the adapter rules make of facts, event by event."""

from __future__ import annotations

from dataclasses import replace

import pytest

from trainlint.core.diagnostic import Severity
from trainlint.core.events import (
    AdapterNeverActivated,
    AdapterSaved,
    AdaptersInjected,
    DiscardedCall,
    Receiver,
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
    Share,
    Site,
    TrainableFact,
)
from trainlint.rules.peft.peft_base_trains import PeftBaseTrains
from trainlint.rules.peft.peft_checkpoint_no_input_grad import PeftCheckpointNoInputGrad
from trainlint.rules.peft.peft_disable_not_entered import PeftDisableNotEntered
from trainlint.rules.peft.peft_frozen_by_hand import PeftFrozenByHand
from trainlint.rules.peft.peft_head_not_trained import PeftHeadNotTrained
from trainlint.rules.peft.peft_inference_config import PeftInferenceConfig
from trainlint.rules.peft.peft_kbit_order import PeftKbitOrder
from trainlint.rules.peft.peft_load_adapter_evals import PeftLoadAdapterEvals
from trainlint.rules.peft.peft_loaded_frozen import PeftLoadedFrozen
from trainlint.rules.peft.peft_merge_discarded import PeftMergeDiscarded
from trainlint.rules.peft.peft_nested import PeftNested
from trainlint.rules.peft.peft_not_activated import PeftNotActivated
from trainlint.rules.peft.peft_trained_merged import PeftTrainedMerged

HERE = Site("train.py", 1)
THERE = Origin(Site("model.py", 7), "done here")
HEAD = ModelFacts("head", trainable=TrainableFact(Share.ALL))

FREEZERS = {
    Cause.PEFT_LOADED_FROZEN: PeftLoadedFrozen,
    Cause.PEFT_INFERENCE_CONFIG: PeftInferenceConfig,
    Cause.PEFT_KBIT_AFTER: PeftKbitOrder,
    Cause.PEFT_FROZEN_BY_HAND: PeftFrozenByHand,
}


def frozen(cause: Cause | None, origin: Origin | None = THERE) -> ModelFacts:
    fact = TrainableFact(Share.NONE, cause, origin)
    return ModelFacts("model", trainable=fact, adapters=AdapterFacts(trainable=fact))


def step(*models: ModelFacts) -> TrainStep:
    return TrainStep(site=HERE, step=HERE, models=models)


@pytest.mark.parametrize("cause", FREEZERS)
def test_each_cause_has_its_rule(cause):
    found = {
        rule: [finding.site for finding in rule().check(step(frozen(cause)))]
        for rule in FREEZERS.values()
    }
    assert found.pop(FREEZERS[cause]) == [THERE.site]
    assert not any(found.values())


@pytest.mark.parametrize("cause", FREEZERS)
def test_where_something_trains_frozen_adapters_may_be_meant(cause):
    unknown = ModelFacts("other")
    for other in (HEAD, unknown):
        assert not list(FREEZERS[cause]().check(step(frozen(cause), other)))


@pytest.mark.parametrize("cause", FREEZERS)
def test_without_an_origin_the_step_is_the_place(cause):
    (finding,) = FREEZERS[cause]().check(step(frozen(cause, origin=None)))
    assert finding.site == HERE


def adapted(**facts: object) -> ModelFacts:
    return replace(HEAD, name="model", adapters=AdapterFacts(**facts))


@pytest.mark.parametrize(
    ("rule", "facts"),
    [
        (PeftTrainedMerged, {"merged": Certainty.YES, "merged_origin": THERE}),
        (PeftHeadNotTrained, {"head_fresh_untrained": THERE}),
        (PeftCheckpointNoInputGrad, {"input_grad_missing": THERE}),
        (PeftNotActivated, {"not_activated": ("poems",), "added_origin": THERE}),
    ],
)
def test_facts_that_speak_at_the_backward(rule, facts):
    (finding,) = rule().check(step(adapted(**facts)))
    assert finding.site == HERE
    assert THERE in finding.trail
    assert not list(rule().check(step(adapted(), HEAD)))


def test_an_unknown_merge_is_silent():
    assert not list(PeftTrainedMerged().check(step(adapted(merged=Certainty.UNKNOWN))))


def test_an_adapter_that_is_never_activated():
    event = AdapterNeverActivated(
        site=HERE, model=adapted(active=("default",)), adapter="poems", added=THERE
    )
    (finding,) = PeftNotActivated().check(event)
    assert "`default`" in finding.message
    assert 'set_adapter("poems")' in str(finding.help)


LOADED = ModeFact(Mode.EVAL, Cause.PEFT_LOAD_ADAPTER, THERE)


@pytest.mark.parametrize(
    ("facts", "severities"),
    [
        ({"mode": LOADED}, [Severity.WARNING]),
        ({"mode": replace(LOADED, mode=Mode.MIXED)}, [Severity.WARNING]),
        ({"mode": LOADED, "sensitive": Certainty.NO}, [Severity.INFO]),
        ({"mode": LOADED, "managed": True}, []),
        ({"mode": replace(LOADED, mode=Mode.TRAIN)}, []),
        ({"mode": ModeFact(Mode.EVAL, Cause.EXPLICIT_CALL, THERE)}, []),
    ],
)
def test_load_adapter_that_evals(facts, severities):
    found = PeftLoadAdapterEvals().check(step(replace(adapted(), **facts)))
    assert [finding.severity for finding in found] == severities


def test_discarded_calls():
    merged = DiscardedCall(
        site=HERE,
        callee="peft-model.merge_and_unload",
        receiver=Receiver.PEFT_MODEL,
        name="model",
        used_after=THERE,
    )
    assert list(PeftMergeDiscarded().check(merged))
    assert not list(PeftMergeDiscarded().check(replace(merged, used_after=None)))
    assert not list(PeftMergeDiscarded().check(replace(merged, receiver=Receiver.UNKNOWN)))
    disabled = replace(merged, callee="peft-model.disable_adapter")
    assert list(PeftDisableNotEntered().check(disabled))
    assert not list(PeftDisableNotEntered().check(replace(disabled, receiver=Receiver.UNKNOWN)))
    assert not list(PeftDisableNotEntered().check(merged))


def test_adapters_into_adapters():
    event = AdaptersInjected(
        site=HERE, callee="peft.get_peft_model", model=adapted(names=("default",), injected=THERE)
    )
    (finding,) = PeftNested().check(event)
    assert finding.trail == (THERE,)
    assert not list(PeftNested().check(replace(event, model=HEAD)))
    assert not list(PeftNested().check(replace(event, callee="peft.PeftModel.add_adapter")))
    deleted = adapted(names=(), injected=THERE)
    assert not list(PeftNested().check(replace(event, model=deleted)))
    emptied = adapted(names=("default",), injected=THERE, unloaded=THERE)
    assert not list(PeftNested().check(replace(event, model=emptied)))


def test_base_weights_that_only_training_holds():
    unfrozen = TrainableFact(Share.SOME, Cause.PEFT_BASE_UNFROZEN, THERE)
    model = adapted(base_trainable=unfrozen, base_trained=THERE)
    saved = AdapterSaved(site=HERE, model=model)
    (finding,) = PeftBaseTrains().check(saved)
    assert finding.site == THERE.site
    untrained = replace(model, adapters=AdapterFacts(base_trainable=unfrozen))
    assert not list(PeftBaseTrains().check(replace(saved, model=untrained)))
    assert not list(PeftBaseTrains().check(step(model)))
    under_trainer = replace(step(model), framework="transformers.Trainer")
    (finding,) = PeftBaseTrains().check(under_trainer)
    assert finding.site == HERE
