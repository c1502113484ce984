"""The examples of the module rules' pages, on real torch: no folklore."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from tests.truth.stage import examples, perform
from trainlint.rules.module.functional_dropout_always_on import FunctionalDropoutAlwaysOn
from trainlint.rules.module.layer_created_in_forward import LayerCreatedInForward
from trainlint.rules.module.loss_activation_mismatch import LossActivationMismatch
from trainlint.rules.module.train_override_broken import TrainOverrideBroken
from trainlint.rules.module.unregistered_submodule import UnregisteredSubmodule


def repeats(model: nn.Module) -> bool:
    """Two forwards in eval mode agree."""
    model.eval()
    x = torch.randn(4, 16)
    return torch.equal(model(x), model(x))


@pytest.mark.parametrize("rule", [FunctionalDropoutAlwaysOn, LayerCreatedInForward])
def test_eval_does_not_switch_the_dropout_off(rule):
    bad, good = examples(rule)
    assert not repeats(perform(bad).names["Classifier"]())
    assert repeats(perform(good).names["Classifier"]())


def test_which_functions_drop_by_default():
    x = torch.ones(1, 64, 8)
    for name in ("dropout", "dropout1d", "dropout2d", "dropout3d"):
        shaped = x[..., None] if name == "dropout2d" else x[..., None, None] if "3" in name else x
        assert (getattr(nn.functional, name)(shaped, 0.5) == 0).any(), name
    for name in ("alpha_dropout", "feature_alpha_dropout", "rrelu"):
        assert torch.equal(getattr(nn.functional, name)(x), x), name
    attended = [nn.functional.scaled_dot_product_attention(x, x, x, dropout_p=0.5) for _ in "ab"]
    assert not torch.equal(*attended)


def test_a_plain_list_hides_layers():
    bad, good = examples(UnregisteredSubmodule)
    wrong, right = perform(bad).names["Deep"](), perform(good).names["Deep"]()
    assert len(list(wrong.parameters())) == 2
    assert len(list(right.parameters())) == 10
    wrong.eval()
    assert wrong.layers[0].training
    assert not any("layers" in name for name in wrong.state_dict())


def test_an_override_without_super_leaves_the_children():
    bad, good = examples(TrainOverrideBroken)
    wrong, right = perform(bad).names["Encoder"](), perform(good).names["Encoder"]()
    wrong.eval()
    right.eval()
    assert wrong.conv.training
    assert not right.conv.training
    right.train()
    assert not right.norm.training


def test_eval_needs_a_train_that_takes_a_mode():
    class Deaf(nn.Linear):
        def train(self):  # type: ignore[override]
            return super().train()

    with pytest.raises(TypeError):
        Deaf(1, 1).eval()


def test_parents_do_not_call_an_overridden_eval():
    class Child(nn.Linear):
        asked = False

        def eval(self):
            self.asked = True
            return super().eval()

    parent = nn.Sequential(Child(1, 1)).eval()
    assert not parent[0].asked
    assert not parent[0].training


def test_cross_entropy_after_softmax_cannot_get_near_zero():
    perfect = torch.full((1, 10), -1e4)
    perfect[0, 3] = 1e4
    loss = nn.CrossEntropyLoss()
    target = torch.tensor([3])
    assert loss(perfect, target) < 1e-6
    assert math.isclose(loss(perfect.softmax(-1), target), 1.4612, abs_tol=1e-3)
    twice = loss(perfect.log_softmax(-1), target)
    assert torch.isclose(twice, loss(perfect, target))


def test_the_losses_that_need_probabilities():
    with pytest.raises(RuntimeError):
        nn.BCELoss()(torch.tensor([3.0]), torch.tensor([1.0]))
    assert nn.NLLLoss()(torch.tensor([[5.0, 1.0]]), torch.tensor([0])) < 0


def test_the_examples_run():
    bad, good = examples(LossActivationMismatch)
    for example in (bad, good):
        performance = perform(example)
        assert performance.failure is None
        assert performance.moved
