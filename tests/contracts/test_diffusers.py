"""What the tables and the engine claim of diffusers' models, against diffusers itself."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.contracts.claims import claimed, real

pytest.importorskip("diffusers")
pytest.importorskip("peft")

SETUP = """
from diffusers import UNet2DConditionModel
from peft import LoraConfig

model = UNet2DConditionModel(
    sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(8, 8),
    norm_num_groups=2, attention_head_dim=4, cross_attention_dim=8,
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
)
lora = LoraConfig(r=2, target_modules=["to_q", "to_v"], lora_dropout=0.1)
"""
ONE = SETUP + "model.add_adapter(lora)\n"
TWO = SETUP + "model.add_adapter(lora, 'a')\nmodel.add_adapter(lora, 'b')\n"
SAVED = "pytorch_lora_weights.safetensors"

CASES = {
    "made from a configuration": SETUP,
    "made, then frozen": SETUP + "model.requires_grad_(False)",
    "add_adapter": ONE,
    "add_adapter, made for inference": SETUP
    + "lora.inference_mode = True\nmodel.add_adapter(lora)",
    "add_adapter in eval": SETUP + "model.eval()\nmodel.add_adapter(lora)",
    "add_adapter on a frozen model": SETUP + "model.requires_grad_(False)\nmodel.add_adapter(lora)",
    "add_adapter, then frozen": ONE + "model.requires_grad_(False)",
    "a second add_adapter": TWO,
    "set_adapter": TWO + "model.set_adapter('a')",
    "set_adapters, one": TWO + "model.set_adapters('a')",
    "set_adapters, both with weights": TWO + "model.set_adapters(['a', 'b'], [1.0, 0.5])",
    "disable_adapters": ONE + "model.disable_adapters()",
    "enable_adapters": ONE + "model.disable_adapters()\nmodel.enable_adapters()",
    "disable_lora": ONE + "model.disable_lora()",
    "enable_lora": ONE + "model.disable_lora()\nmodel.enable_lora()",
    "fuse_lora": ONE + "model.fuse_lora()",
    "unfuse_lora": ONE + "model.fuse_lora()\nmodel.unfuse_lora()",
    "delete_adapters": TWO + "model.set_adapter('a')\nmodel.delete_adapters('b')",
    "load_lora_adapter": ONE
    + "model.save_lora_adapter('out')\nmodel.delete_adapters('default')\n"
    + f"model.load_lora_adapter('out', prefix=None, adapter_name='a', weight_name='{SAVED}')",
    "load_lora_adapter in eval": SETUP
    + "model.eval()\nmodel.add_adapter(lora)\nmodel.save_lora_adapter('out')\n"
    + "model.delete_adapters('default')\n"
    + f"model.load_lora_adapter('out', prefix=None, adapter_name='a', weight_name='{SAVED}')",
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    os.makedirs("out")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def run(code: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(code, "case", "exec"), names)
    return names


@pytest.mark.parametrize("case", CASES)
def test_claims(case: str) -> None:
    claim = claimed(CASES[case]).status("model")
    assert not claim.contradicts(real(run(CASES[case])["model"]))
    assert claim.mode is not None
    assert claim.base is not None
