"""The examples of the mode rules' pages, on real torch: no folklore."""

from __future__ import annotations

from unittest.mock import patch

import pytest
import torch
from torch import nn

from tests.truth.rehearsal import rehearse
from trainlint.rules.mode.eval_in_train_mode import EvalInTrainMode
from trainlint.rules.mode.method_not_called import MethodNotCalled
from trainlint.rules.mode.mixed_training_flags import MixedTrainingFlags
from trainlint.rules.mode.partial_mode_overridden import PartialModeOverridden
from trainlint.rules.mode.reference_model_in_train_mode import ReferenceModelInTrainMode
from trainlint.rules.mode.train_in_eval_mode import TrainInEvalMode
from trainlint.rules.mode.training_flag_assigned import TrainingFlagAssigned


def dropout_net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 2))


def test_after_an_evaluation_the_next_epochs_train_without_dropout():
    bad, good = rehearse(TrainInEvalMode)
    assert bad.flags(nn.Dropout, grad_enabled=True) == [True] * 4 + [False] * 8
    assert good.flags(nn.Dropout, grad_enabled=True) == [True] * 12
    assert bad.moved  # nothing crashes: it trains, only differently


def test_dropout_drops_during_the_evaluation():
    bad, good = rehearse(EvalInTrainMode)
    assert set(bad.flags(nn.Dropout, grad_enabled=False)) == {True}
    assert set(good.flags(nn.Dropout, grad_enabled=False)) == {False}
    x = torch.randn(64, 4)
    with torch.no_grad():
        model = bad.names["model"].train()
        assert not torch.equal(model(x), model(x))
        model.eval()
        assert torch.equal(model(x), model(x))


def test_batch_norm_learns_from_validation_data_under_no_grad():
    norm = nn.BatchNorm1d(4)
    with torch.no_grad():
        norm(torch.randn(16, 4) + 3)
    assert norm.running_mean.abs().sum() > 0


def test_a_named_method_does_nothing():
    bad, good = rehearse(MethodNotCalled, {"model.pt": dropout_net().state_dict()})
    assert all(module.training for module in bad.names["model"].modules())
    assert not any(module.training for module in good.names["model"].modules())


def test_an_assigned_flag_does_not_reach_the_dropout():
    bad, good = rehearse(TrainingFlagAssigned, {"model.pt": dropout_net().state_dict()})
    assert not bad.names["model"].training
    assert bad.names["model"][1].training
    assert not good.names["model"][1].training


def test_train_wakes_the_statistics_of_a_part_in_eval_mode():
    bad, good = rehearse(PartialModeOverridden)
    assert bad.names["model"].backbone[1].running_mean.abs().sum() > 0
    assert good.names["model"].backbone[1].running_mean.abs().sum() == 0


def test_frozen_batch_norm_moves_its_statistics_all_the_same():
    norm = nn.BatchNorm1d(4).requires_grad_(False)
    norm(torch.randn(16, 4) + 3)
    assert norm.running_mean.abs().sum() > 0


def test_a_teacher_in_train_mode_contradicts_itself():
    state = nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.5), nn.Linear(16, 2)).state_dict()
    bad, good = rehearse(ReferenceModelInTrainMode, {"teacher.pt": state})
    x = torch.randn(64, 4)
    for take, agrees in ((bad, False), (good, True)):
        teacher = take.names["teacher"]
        assert torch.equal(teacher(x), teacher(x)) is agrees


def tiny_gpt2(*args: object, **kwargs: object) -> nn.Module:
    """What `from_pretrained` returns: a model in eval mode."""
    from transformers import AutoModelForCausalLM, GPT2Config

    config = GPT2Config(n_layer=1, n_embd=16, n_head=2, vocab_size=32, n_positions=16)
    return AutoModelForCausalLM.from_config(config).eval()


def test_adapters_on_an_eval_base_leave_a_mix():
    rows = [{"input_ids": torch.tensor([1, 2, 3]), "labels": torch.tensor([1, 2, 3])}] * 2
    with patch("transformers.AutoModelForCausalLM.from_pretrained", tiny_gpt2):
        bad, good = rehearse(MixedTrainingFlags, {"batches.pt": rows})
    assert bad.failure is None
    assert good.failure is None
    assert set(bad.flags(nn.Dropout, grad_enabled=True)) == {True, False}
    assert set(good.flags(nn.Dropout, grad_enabled=True)) == {True}


def test_from_pretrained_gives_eval_mode_and_a_constructor_train_mode(tmp_path):
    from transformers import AutoModelForCausalLM

    tiny_gpt2().train().save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert not any(module.training for module in loaded.modules())
    assert all(p.requires_grad for p in loaded.parameters())
    assert AutoModelForCausalLM.from_config(loaded.config).training


@pytest.mark.parametrize("wrap", [nn.Sequential, nn.DataParallel])
def test_a_wrapper_is_in_train_mode_around_an_eval_model(wrap):
    wrapped = wrap(dropout_net().eval())
    assert wrapped.training
    assert not next(wrapped.children()).training
