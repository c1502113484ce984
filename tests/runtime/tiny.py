"""Tiny models and plain loops that the runtime tests share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

VOCABULARY = 64


def llama(**config: Any) -> nn.Module:
    """A two-layer Llama whose attention drops out, in train mode."""
    from transformers import LlamaConfig, LlamaForCausalLM

    values: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 64,
        "attention_dropout": 0.1,
        "use_cache": False,
    }
    values.update(config)
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**values)).train()


def lora(base: nn.Module | None = None, **config: Any) -> Any:
    """LoRA with dropout on q and v."""
    from peft import LoraConfig, get_peft_model

    values: dict[str, Any] = {
        "task_type": "CAUSAL_LM",
        "r": 4,
        "lora_dropout": 0.1,
        "target_modules": ["q_proj", "v_proj"],
    }
    values.update(config)
    return get_peft_model(llama() if base is None else base, LoraConfig(**values))


def tokens(seed: int = 0) -> torch.Tensor:
    """A batch for a language model, of its own random state."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, VOCABULARY, (2, 8), generator=generator)


def adamw(model: nn.Module, **options: Any) -> torch.optim.AdamW:
    """AdamW over what trains."""
    values: dict[str, Any] = {"lr": 1e-2}
    values.update(options)
    return torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], **values)


def loss_of(model: Any, seed: int = 0) -> torch.Tensor:
    """The language model's own loss."""
    batch = tokens(seed)
    loss: torch.Tensor = model(input_ids=batch, labels=batch).loss
    return loss


def one_step(model: Any, optimizer: Any, seed: int = 0) -> None:
    """Clear, forward, backward, step."""
    optimizer.zero_grad()
    loss_of(model, seed).backward()
    optimizer.step()


def evaluate(model: Any, seed: int = 99) -> None:
    """As it should be done: eval mode, no gradients, train mode again."""
    model.eval()
    with torch.no_grad():
        loss_of(model, seed)
    model.train()


def loop(
    model: Any, optimizer: Any, steps: int = 4, each: Callable[[int], None] | None = None
) -> None:
    """A plain loop."""
    for step in range(steps):
        one_step(model, optimizer, step)
        if each is not None:
            each(step)


class ConvNet(nn.Module):
    """A backbone with BatchNorm and dropout, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Linear(8, 16),
            nn.BatchNorm1d(16),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Linear(16, 16),
            nn.BatchNorm1d(16),
        )
        self.head = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        out: torch.Tensor = self.head(self.backbone(x))
        return out


def convnet() -> ConvNet:
    """Seeded."""
    torch.manual_seed(0)
    return ConvNet()


def images(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Eight points in three classes."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(8, 8, generator=generator), torch.randint(0, 3, (8,), generator=generator)


def image_step(model: nn.Module, optimizer: Any, seed: int = 0) -> None:
    """Clear, forward, backward, step."""
    x, y = images(seed)
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(x), y).backward()
    optimizer.step()
