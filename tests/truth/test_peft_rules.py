"""The examples of the adapter rules' pages, on real peft: no folklore."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.truth.stage import examples, gpt2, perform, tiny_hub
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

SILENTLY_UNTRAINED = [
    PeftLoadedFrozen,
    PeftInferenceConfig,
    PeftKbitOrder,
    PeftFrozenByHand,
    PeftTrainedMerged,
]


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    torch.set_num_threads(1)
    with tiny_hub(tmp_path, monkeypatch):
        yield


@pytest.mark.parametrize("rule", SILENTLY_UNTRAINED, ids=lambda rule: rule.code)
def test_nothing_moves_and_nothing_fails(rule):
    bad, good = examples(rule)
    wrong, right = perform(bad), perform(good)
    assert wrong.failure is None
    assert not wrong.moved
    assert right.failure is None
    assert right.moved_below("lora_")


def test_train_does_not_unfreeze_what_was_loaded_for_inference():
    from peft import PeftModel

    model = PeftModel.from_pretrained(gpt2(), "out/adapter")
    assert not any(module.training for module in model.modules())
    model.train()
    assert not any(p.requires_grad for p in model.parameters())


def test_set_adapter_unfreezes_what_was_loaded_or_prepared():
    from peft import PeftModel, prepare_model_for_kbit_training

    model = PeftModel.from_pretrained(gpt2(), "out/adapter")
    model.set_adapter("default")
    assert any(p.requires_grad for p in model.parameters())
    model = prepare_model_for_kbit_training(model)
    assert not any(p.requires_grad for p in model.parameters())
    model.set_adapter("default")
    assert any(p.requires_grad for p in model.parameters())


def test_a_saved_config_is_for_inference():
    from peft import LoraConfig, get_peft_model

    config = LoraConfig.from_pretrained("out/adapter")
    assert config.inference_mode
    model = get_peft_model(gpt2(), config)
    assert not any(p.requires_grad for p in model.parameters())


def test_dropped_merge_saves_an_adapter_without_tensors():
    bad, good = examples(PeftMergeDiscarded)
    perform(bad)
    assert not load_file("out/merged/adapter_model.safetensors")
    perform(good)
    assert load_file("out/merged/model.safetensors")


def test_the_forward_of_the_emptied_wrapper_is_right():
    from peft import PeftModel

    torch.manual_seed(0)
    model = PeftModel.from_pretrained(gpt2(), "out/adapter")
    for name, value in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value)
    tokens = torch.arange(8)[None]
    with torch.no_grad():
        adapted = model(tokens).logits
        model.merge_and_unload()
        assert torch.allclose(adapted, model(tokens).logits, atol=1e-5)


def test_the_training_goes_into_the_adapter_that_is_active():
    bad, good = examples(PeftNotActivated)
    wrong, right = perform(bad), perform(good)
    assert wrong.moved_below("default")
    assert not wrong.moved_below("poems")
    assert right.moved_below("poems")
    assert not right.moved_below("default")


def test_load_adapter_puts_the_whole_model_in_eval_mode():
    bad, good = examples(PeftLoadAdapterEvals)
    wrong, right = perform(bad), perform(good)
    assert not any(module.training for module in wrong.model.modules())
    assert all(module.training for module in right.model.modules())


def test_disable_adapter_as_a_statement_does_nothing():
    from peft import PeftModel

    model = PeftModel.from_pretrained(gpt2(), "out/adapter")
    for name, value in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.ones_(value)
    model.save_pretrained("out/adapter")
    bad, good = examples(PeftDisableNotEntered)
    wrong, right = perform(bad).names, perform(good).names
    assert torch.equal(wrong["adapted"], wrong["plain"])
    assert not torch.allclose(right["adapted"], right["plain"])


def test_a_second_injection_loses_the_first(recwarn):
    bad, good = examples(PeftNested)
    wrong = perform(bad).model
    warned = [str(warning.message) for warning in recwarn]
    assert any("modify a model with PEFT for a second time" in text for text in warned)
    wrong.save_pretrained("out/nested")
    saved = load_file("out/nested/adapter_model.safetensors")
    right = perform(good).model
    right.save_pretrained("out/flat")
    whole = load_file("out/flat/adapter_model.safetensors")
    assert any("c_attn" in name for name in whole)
    assert set(saved) != set(whole)


@pytest.mark.parametrize(("over", "loads"), [("the base", True), ("the PEFT model", False)])
def test_only_what_is_read_onto_the_base_is_found_again(tmp_path, over, loads):
    """Why `PeftModel.from_pretrained` on the base inside a PEFT model is left alone."""
    from peft import LoraConfig, PeftModel, get_peft_model

    def base():
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(6, 6), torch.nn.Linear(6, 2))

    config = LoraConfig(r=2, target_modules=["0"], init_lora_weights=False)
    x = torch.ones(1, 6)
    saved = get_peft_model(base(), config)
    saved.save_pretrained(tmp_path)
    inner = base()
    wrapper = get_peft_model(inner, config)
    with pytest.warns(UserWarning, match="Already found a `peft_config`"):
        again = PeftModel.from_pretrained(inner if loads else wrapper, tmp_path)
    assert torch.allclose(again(x), saved(x)) is loads


def test_the_fresh_head_stays_random_and_is_not_saved():
    bad, good = examples(PeftHeadNotTrained)
    wrong, right = perform(bad), perform(good)
    assert wrong.moved_below("lora_")
    assert not wrong.moved_below("classifier")
    assert right.moved_below("classifier")
    for performance, folder in ((wrong, "wrong"), (right, "right")):
        performance.model.save_pretrained(folder)
    assert not any("classifier" in name for name in load_file("wrong/adapter_model.safetensors"))
    assert any("classifier" in name for name in load_file("right/adapter_model.safetensors"))


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_reentrant_checkpointing_over_pixels_gives_the_adapters_no_gradient():
    bad, good = examples(PeftCheckpointNoInputGrad)
    wrong, right = perform(bad, rounds=2), perform(good, rounds=2)
    assert wrong.failure is None
    assert wrong.moved_below("classifier")
    assert not wrong.moved_below("lora_")
    assert right.moved_below("lora_")


def test_what_the_base_learns_is_not_saved():
    bad, good = examples(PeftBaseTrains)
    wrong = perform(bad)
    assert wrong.moved_below("mlp")
    assert not any("mlp" in name for name in load_file("out/adapter/adapter_model.safetensors"))
    right = perform(good)
    assert not right.moved_below("mlp")
    assert any("lm_head" in name for name in load_file("out/adapter/adapter_model.safetensors"))
