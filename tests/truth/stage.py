"""Runs the examples of a rule's page on real torch and peft, with tiny models and no network."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import nn

from trainlint.core.rule import Rule

VOCABULARY = 64


@dataclass
class Performance:
    """What an example left behind, and which of its model's parameters its last loop moved."""

    names: dict[str, Any]
    moved: set[str]
    failure: Exception | None = None

    @property
    def model(self) -> Any:
        """The example's model."""
        return self.names["model"]

    def moved_below(self, part: str) -> set[str]:
        """The moved parameters with this text in their name."""
        return {name for name in self.moved if part in name}


def examples(rule: type[Rule[Any]]) -> tuple[str, str]:
    """The bad and the good example of a rule's page."""
    bad, good = re.findall(r"```python\n(.*?)```", rule.page(), re.DOTALL)
    return bad, good


def perform(code: str, subject: str = "model", rounds: int = 4) -> Performance:
    """Run an example; what its last loop at top level moves in `subject` is noted."""
    torch.manual_seed(0)
    code = re.sub(r"range\((100|10)\)", f"range({rounds})", code)
    setup, loop = _split(code)
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(setup, "setup", "exec"), names)
    before = _parameters(names.get(subject))
    failure = None
    try:
        exec(compile(loop, "loop", "exec"), names)
    except Exception as error:
        failure = error
    after = _parameters(names.get(subject))
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    return Performance(names, moved, failure)


def _split(code: str) -> tuple[str, str]:
    starts = [match.start() for match in re.finditer(r"^for ", code, re.MULTILINE)]
    cut = starts[-1] if starts else len(code)
    return code[:cut], code[cut:]


def _parameters(module: object) -> dict[str, torch.Tensor]:
    if not isinstance(module, nn.Module):
        return {}
    return {name: value.detach().clone() for name, value in module.named_parameters()}


class Tokenizer:
    """Turns characters into numbers."""

    def __call__(self, text: str, return_tensors: str = "pt") -> Any:
        from transformers import BatchEncoding

        ids = torch.tensor([[ord(character) % VOCABULARY for character in text]])
        return BatchEncoding({"input_ids": ids, "attention_mask": torch.ones_like(ids)})

    @classmethod
    def from_pretrained(cls, name: str) -> Tokenizer:
        """The same for every name."""
        return cls()


def gpt2(name: str = "", quantization_config: object = None, **more: object) -> Any:
    """A tiny GPT-2 as `from_pretrained` gives it: in eval mode; "quantised" only by its flag."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=VOCABULARY, n_positions=64, n_embd=16, n_layer=2, n_head=2)
    model = GPT2LMHeadModel(config).eval()
    model.is_loaded_in_4bit = quantization_config is not None
    return model


def roberta(name: str = "", num_labels: int = 2) -> Any:
    """A tiny RoBERTa with a fresh classification head."""
    from transformers import RobertaConfig, RobertaForSequenceClassification

    config = RobertaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
        num_labels=num_labels,
    )
    return RobertaForSequenceClassification(config).eval()


def vit(name: str = "") -> Any:
    """A tiny ViT."""
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        patch_size=56,
        num_labels=2,
    )
    return ViTForImageClassification(config).eval()


@contextmanager
def tiny_hub(folder: Path, monkeypatch: Any) -> Iterator[None]:
    """Every `from_pretrained` gives a tiny model; `folder` holds adapters to be loaded."""
    from peft import LoraConfig, get_peft_model

    monkeypatch.chdir(folder)
    config = LoraConfig(r=4, task_type="CAUSAL_LM", lora_dropout=0.1)
    get_peft_model(gpt2(), config).save_pretrained("out/adapter")
    get_peft_model(gpt2(), config).save_pretrained("out/reference")
    with (
        patch("transformers.AutoTokenizer.from_pretrained", Tokenizer.from_pretrained),
        patch("transformers.AutoModelForCausalLM.from_pretrained", gpt2),
        patch("transformers.AutoModelForSequenceClassification.from_pretrained", roberta),
        patch("transformers.ViTForImageClassification.from_pretrained", vit),
        patch("transformers.BitsAndBytesConfig", dict),
    ):
        yield
