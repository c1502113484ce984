"""What the tables and the engine claim of PEFT, against PEFT itself."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.contracts.claims import Status, claimed, real
from tests.truth.stage import gpt2, tiny_hub
from trainlint.core.facts import Certainty, Mode, Share

pytest.importorskip("peft")

SETUP = """
import torch
from peft import *
from peft import (
    AutoPeftModelForCausalLM, LoraConfig, PeftModel, PromptTuningConfig, get_peft_model,
    inject_adapter_in_model, prepare_model_for_kbit_training,
)
from transformers import AutoModelForCausalLM

base = AutoModelForCausalLM.from_pretrained("gpt2")
lora = LoraConfig(r=4, task_type="CAUSAL_LM", lora_dropout=0.1)
other = LoraConfig(r=2, task_type="CAUSAL_LM", lora_dropout=0.1)
"""
WRAPPED = SETUP + "model = get_peft_model(base, lora)\n"
LOADED = SETUP + "model = PeftModel.from_pretrained(base, 'out/adapter')\n"
TWO = WRAPPED + "model.add_adapter('second', other)\n"

CASES = {
    "factory": SETUP + "model = base",
    "get_peft_model": "",
    "get_peft_model on a base in train": (
        SETUP + "base.train()\nmodel = get_peft_model(base, lora)"
    ),
    "get_peft_model, then train": "model.train()",
    "get_peft_model, then eval": "model.eval()",
    "base after get_peft_model": "model = base",
    "inference config": SETUP
    + "model = get_peft_model(base, LoraConfig(task_type='CAUSAL_LM', inference_mode=True))",
    "inference mode set back": SETUP
    + "lora.inference_mode = True\nlora.inference_mode = False\nmodel = get_peft_model(base, lora)",
    "saved config": SETUP
    + "model = get_peft_model(base, LoraConfig.from_pretrained('out/adapter'))",
    "PeftModel itself": SETUP + "model = PeftModel(base, lora)",
    "mixed": SETUP + "model = get_peft_model(base, lora, mixed=True)",
    "prompt tuning": SETUP
    + "model = get_peft_model(base, PromptTuningConfig(task_type='CAUSAL_LM', "
    "num_virtual_tokens=2))",
    "injected": SETUP + "model = inject_adapter_in_model(lora, base)",
    "loaded": LOADED,
    "loaded, then train": LOADED + "model.train()",
    "loaded to train": SETUP
    + "model = PeftModel.from_pretrained(base, 'out/adapter', is_trainable=True)",
    "loaded to train onto a base in train": SETUP
    + "base.train()\nmodel = PeftModel.from_pretrained(base, 'out/adapter', is_trainable=True)",
    "loaded, by position": SETUP
    + "model = PeftModel.from_pretrained(base, 'out/adapter', 'default', True)",
    "loaded with a config made for inference": SETUP + "lora.inference_mode = True\n"
    "model = PeftModel.from_pretrained(base, 'out/adapter', is_trainable=True, config=lora)",
    "loaded, then activated": LOADED + "model.set_adapter('default')",
    "kbit before": SETUP
    + "base = prepare_model_for_kbit_training(base)\nmodel = get_peft_model(base, lora)",
    "kbit after": "model = prepare_model_for_kbit_training(model)",
    "kbit after, then activated": (
        "model = prepare_model_for_kbit_training(model)\nmodel.set_adapter('default')"
    ),
    "frozen by a loop": "for p in model.parameters():\n    p.requires_grad = False",
    "frozen at once": "model.requires_grad_(False)",
    "frozen, then activated": "model.requires_grad_(False)\nmodel.set_adapter('default')",
    "unfrozen": "model.requires_grad_(True)",
    "the tuner unfrozen": "model.base_model.requires_grad_(True)",
    "add_adapter": TWO,
    "add_adapter in eval": "model.eval()\nmodel.add_adapter('second', other)",
    "add_adapter, activated": TWO + "model.set_adapter('second')",
    "add_adapter, activated and back": TWO
    + "model.set_adapter('second')\nmodel.set_adapter('default')",
    "activated frozen": TWO + "model.set_adapter('second', inference_mode=True)",
    "activated both": TWO + "model.base_model.set_adapter(['default', 'second'])",
    "deleted": TWO + "model.delete_adapter('second')",
    "load_adapter": "model.train()\nmodel.load_adapter('out/reference', adapter_name='second')",
    "load_adapter to train": (
        "model.train()\nmodel.load_adapter('out/reference', 'second', is_trainable=True)"
    ),
    "load_adapter, then train": (
        "model.load_adapter('out/reference', adapter_name='second')\nmodel.train()"
    ),
    "load_adapter, activated": (
        "model.load_adapter('out/reference', adapter_name='second')\nmodel.set_adapter('second')"
    ),
    "disable_adapter as a statement": "model.disable_adapter()",
    "disable_adapter as a context": "with model.disable_adapter():\n    pass",
    "disabled layers": "model.base_model.disable_adapter_layers()",
    "disabled layers, enabled": (
        "model.base_model.disable_adapter_layers()\nmodel.base_model.enable_adapter_layers()"
    ),
    "merged": "model.merge_adapter()",
    "merged, then train": "model.merge_adapter()\nmodel.train()",
    "unmerged": "model.merge_adapter()\nmodel.unmerge_adapter()",
    "merged, then activated": "model.merge_adapter()\nmodel.set_adapter('default')",
    "merge_and_unload": "model = model.merge_and_unload()",
    "unload": "model = model.unload()",
    "unload, base": "model.unload()\nmodel = base",
    "unload, wrapped again": "model = get_peft_model(model.unload(), other)",
    "get_base_model": "model = model.get_base_model()",
    "saved": "model.train()\nmodel.save_pretrained('out/again')",
    "transformers' add_adapter": SETUP + "base.add_adapter(lora)\nmodel = base",
    "transformers' add_adapter, made for inference": SETUP
    + "lora.inference_mode = True\nbase.add_adapter(lora)\nmodel = base",
    "transformers' second add_adapter": SETUP
    + "base.add_adapter(lora, 'a')\nbase.add_adapter(other, 'b')\nmodel = base",
    "transformers' set_adapter": SETUP
    + "base.add_adapter(lora, 'a')\nbase.add_adapter(other, 'b')\nbase.set_adapter('a')\n"
    "model = base",
    "transformers' load_adapter": SETUP + "base.train()\nbase.load_adapter('out/adapter')\n"
    "model = base",
    "transformers' load_adapter to train": SETUP
    + "base.train()\nbase.load_adapter('out/adapter', is_trainable=True)\nmodel = base",
    "transformers' disable_adapters": SETUP
    + "base.add_adapter(lora)\nbase.disable_adapters()\nmodel = base",
    "transformers' enable_adapters": SETUP
    + "base.add_adapter(lora)\nbase.disable_adapters()\nbase.enable_adapters()\nmodel = base",
    "a task's own class": SETUP + "model = PeftModelForCausalLM(base, lora)",
    "a task's own class, loaded": SETUP
    + "model = PeftModelForCausalLM.from_pretrained(base, 'out/adapter')",
    "a task's own class, loaded to train": SETUP
    + "model = PeftModelForCausalLM.from_pretrained(base, 'out/adapter', is_trainable=True)",
    "PeftMixedModel": SETUP + "model = PeftMixedModel(base, lora)",
    "PeftMixedModel, a second adapter": SETUP
    + "model = PeftMixedModel(base, lora)\nmodel.add_adapter('second', other)",
    "PeftMixedModel, both": SETUP + "model = PeftMixedModel(base, lora)\n"
    "model.add_adapter('second', other)\nmodel.set_adapter(['default', 'second'])",
    "PeftMixedModel, loaded": SETUP + "model = PeftMixedModel.from_pretrained(base, 'out/adapter')",
    "the Auto class": SETUP + "model = AutoPeftModelForCausalLM.from_pretrained('out/adapter')",
    "the Auto class, to train": SETUP
    + "model = AutoPeftModelForCausalLM.from_pretrained('out/adapter', is_trainable=True)",
    "the Auto class, then train": SETUP
    + "model = AutoPeftModelForCausalLM.from_pretrained('out/adapter')\nmodel.train()",
    "set_requires_grad off": "model.set_requires_grad('default', requires_grad=False)",
    "set_requires_grad on": LOADED + "model.set_requires_grad('default')",
    "set_requires_grad of an idle one": TWO + "model.set_requires_grad('second')",
    "add_weighted_adapter": TWO
    + "model.add_weighted_adapter(['default', 'second'], [0.5, 0.5], 'both', 'cat')",
    "the active one deleted": TWO + "model.delete_adapter('default')",
    "cast_mixed_precision_params": "cast_mixed_precision_params(model, torch.bfloat16)",
    "get_peft_model_state_dict": "kept = get_peft_model_state_dict(model)",
    "set_peft_model_state_dict": (
        "model.eval()\nset_peft_model_state_dict(model, get_peft_model_state_dict(model))"
    ),
    "print_trainable_parameters": "model.print_trainable_parameters()",
    "generate": (
        "model.train()\nmodel.generate(input_ids=torch.tensor([[1, 2]]), max_new_tokens=2)"
    ),
    "the tuner made by hand": SETUP + "model = LoraModel(base, lora, 'default')",
    "injected twice": SETUP + "inject_adapter_in_model(lora, base)\nmodel = base",
    "saved and loaded onto the base again": (
        "model.save_pretrained('out/again')\n"
        "model = PeftModel.from_pretrained(model.unload(), 'out/again')"
    ),
    "merged without unloading, disabled": "model.merge_adapter()\nmodel.unmerge_adapter()\n"
    "model.base_model.disable_adapter_layers()",
    "transformers' delete_adapter": SETUP
    + "base.add_adapter(lora, 'a')\nbase.add_adapter(other, 'b')\nbase.delete_adapter('a')\n"
    "model = base",
    "transformers' add_adapter in train": SETUP
    + "base.train()\nbase.add_adapter(lora)\nmodel = base",
    "transformers' add_adapter, then frozen": SETUP
    + "base.add_adapter(lora)\nbase.requires_grad_(False)\nmodel = base",
    "transformers' add_adapter, frozen, activated": SETUP
    + "base.add_adapter(lora, 'a')\nbase.requires_grad_(False)\nbase.set_adapter('a')\n"
    "model = base",
    "transformers' adapter of a saved folder": SETUP
    + "model = AutoModelForCausalLM.from_pretrained('out/adapter')",
}


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    torch.set_num_threads(1)
    with tiny_hub(tmp_path, monkeypatch), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def code_of(case: str) -> str:
    text = CASES[case]
    return text if text.startswith(SETUP) else WRAPPED + text


def run(code: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(code, "case", "exec"), names)
    return names


@pytest.mark.parametrize("case", CASES)
def test_claims(case: str) -> None:
    code = code_of(case)
    claim = claimed(code).status("model")
    assert not claim.contradicts(real(run(code)["model"]))
    assert claim.mode is not None
    assert claim.base is not None


IDENTITIES = {
    "merge_and_unload gives the base": ("m = model.merge_and_unload()", "m", "base", True),
    "unload gives the base": ("m = model.unload()", "m", "base", True),
    "get_base_model gives the base": ("m = model.get_base_model()", "m", "base", True),
    "the tuner's model is the base": ("m = model.base_model.model", "m", "base", True),
    "the wrapper's model is the base": ("m = model.model", "m", "base", True),
    "the wrapper is not the base": ("m = model", "m", "base", False),
    "the base_model is not the base": ("m = model.base_model", "m", "base", False),
    "preparing gives the model back": (
        "m = prepare_model_for_kbit_training(model)",
        "m",
        "model",
        True,
    ),
}


@pytest.mark.parametrize("case", IDENTITIES)
def test_identities(case: str) -> None:
    code, first, second, same = IDENTITIES[case]
    names = run(WRAPPED + code)
    assert (names[first] is names[second]) is same
    assert claimed(WRAPPED + code).same(first, second) is same


def test_new_adapters_are_new_parameters() -> None:
    names = run(SETUP + "before = set(base.parameters())\nmodel = get_peft_model(base, lora)")
    new = [n for n, p in names["model"].named_parameters() if p not in names["before"]]
    assert new
    assert all("lora_" in n for n in new)
    state = claimed(WRAPPED).state
    assert any(c.what == "the LoRA weights" for _, m in state.modules() for c in m.changes)


def test_a_sequence_classification_head_trains_with_its_task_only() -> None:
    setup = SETUP + (
        "from transformers import AutoModelForSequenceClassification\n"
        "base = AutoModelForSequenceClassification.from_pretrained('roberta', num_labels=2)\n"
    )
    code = setup + "model = get_peft_model(base, LoraConfig(target_modules=['query']{}))\n"
    for extra, trains in (("", False), (", task_type='SEQ_CLS'", True)):
        model = run(code.format(extra))["model"]
        heads = [p.requires_grad for n, p in model.named_parameters() if "classifier" in n]
        assert any(heads) is trains
        adapters = claimed(code.format(extra)).facts("model").adapters
        assert adapters is not None
        assert (adapters.head_fresh_untrained is None) is trains


def test_the_emptied_wrapper_saves_nothing(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    run(WRAPPED + "model.merge_and_unload()\nmodel.save_pretrained('out/empty')")
    assert load_file("out/empty/adapter_model.safetensors") == {}
    adapters = claimed(WRAPPED + "model.merge_and_unload()").facts("model").adapters
    assert adapters is not None
    assert adapters.unloaded is not None


def test_inside_disable_adapter() -> None:
    code = WRAPPED + (
        "context = model.disable_adapter()\n"
        "context.__enter__()\n"
        "layer = model.base_model.model.transformer.h[0].attn.c_attn\n"
        "inside = layer.disable_adapters, any(p.requires_grad for p in model.parameters())\n"
        "context.__exit__(None, None, None)\n"
        "after = layer.disable_adapters, any(p.requires_grad for p in model.parameters())\n"
    )
    names = run(code)
    assert names["inside"] == (True, False)
    assert names["after"] == (False, True)
    claim = claimed(WRAPPED + "with model.disable_adapter():\n    pass\n")
    adapters = claim.facts("model").adapters
    assert adapters is not None
    assert adapters.disabled is Certainty.NO


def test_adapters_of_a_fresh_model_are_seen_by_the_test_itself() -> None:
    model = gpt2()
    assert real(model) == Status(Mode.EVAL, base=Share.ALL)
