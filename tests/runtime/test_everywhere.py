"""`pytest --trainlint`: every model that trains is watched, without being told which."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from tests.runtime.tiny import adamw, convnet, image_step, images, llama, loss_of, one_step
from trainlint.runtime.everywhere import WatchEverything


def _found(train: Callable[[], None]) -> list[str]:
    with WatchEverything(on_violation=lambda violation: None) as everything:
        train()
    return [v.code for v in everything.violations if v.acts]


def _generator() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 8))


@pytest.mark.parametrize("critic_steps", [1, 5])
def test_a_generator_makes_samples_for_its_critic(critic_steps: int) -> None:
    def train() -> None:
        maker, critic = _generator(), nn.Linear(8, 1)
        makers, critics = adamw(maker), adamw(critic)
        for _ in range(3):
            for _ in range(critic_steps):
                with torch.no_grad():
                    made = maker(torch.randn(6, 4))
                critics.zero_grad()
                (critic(made).mean() - critic(torch.randn(6, 8)).mean()).backward()
                critics.step()
            makers.zero_grad()
            critic(maker(torch.randn(6, 4))).mean().neg().backward()
            makers.step()

    assert _found(train) == []


def test_features_of_an_encoder_left_in_train_mode() -> None:
    def train() -> None:
        encoder, probe = convnet(), nn.Linear(3, 2)
        optimizer = adamw(encoder)
        image_step(encoder, optimizer)
        image_step(encoder, optimizer, 1)
        probes = adamw(probe)
        for step in range(4):
            with torch.no_grad():
                features = encoder(images(step)[0])
            probes.zero_grad()
            probe(features).square().mean().backward()
            probes.step()

    assert _found(train) == ["TL102"]


def test_a_critic_frozen_for_the_makers_turn_is_a_part_of_it() -> None:
    def train() -> None:
        maker, critic = _generator(), nn.Linear(8, 1)
        makers, critics = adamw(maker), adamw(critic)
        for _ in range(3):
            critic.requires_grad_(False)
            makers.zero_grad()
            critic(maker(torch.randn(6, 4))).mean().backward()
            makers.step()
            critic.requires_grad_(True)
            critics.zero_grad()
            critic(maker(torch.randn(6, 4)).detach()).mean().backward()
            critics.step()

    assert _found(train) == []


def test_an_image_is_an_input_at_the_first_call_too() -> None:
    def train() -> None:
        model = convnet().eval()
        image = torch.randn(4, 8, requires_grad=True)
        optimizer = torch.optim.Adam([image], lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            model.zero_grad()
            model(image).square().mean().backward()
            optimizer.step()

    assert _found(train) == []


class _Checkpointed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Linear(8, 8).requires_grad_(False)
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept: Any = checkpoint(self.frozen, x, use_reentrant=True)
        out: torch.Tensor = self.head(kept)
        return out


def test_what_a_checkpoint_recomputes_is_no_model_of_its_own() -> None:
    def train() -> None:
        model = _Checkpointed()
        optimizer = adamw(model)
        for step in range(3):
            x, y = images(step)
            optimizer.zero_grad()
            F.cross_entropy(model(x.requires_grad_()), y).backward()
            optimizer.step()

    assert _found(train) == []


@pytest.mark.filterwarnings("ignore")
def test_the_base_that_generates_is_a_part_of_the_model_with_prompts() -> None:
    from peft import PromptTuningConfig, get_peft_model

    def train() -> None:
        config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
        model: Any = get_peft_model(llama(use_cache=True), config)
        optimizer = adamw(model)
        for step in range(3):
            model.eval()
            with torch.no_grad():
                model.generate(input_ids=torch.ones(1, 4, dtype=torch.long), max_new_tokens=2)
            model.train()
            one_step(model, optimizer, step)

    assert _found(train) == []


def test_faults_are_found_as_by_a_watch_of_ones_own() -> None:
    def train() -> None:
        model = convnet()
        optimizer = adamw(model)
        for step in range(3):
            image_step(model.eval(), optimizer, step)

    assert _found(train) == ["TL101"]


def test_an_adapter_frozen_under_checkpointing_is_one_finding() -> None:
    from peft import LoraConfig, get_peft_model

    def train() -> None:
        model: Any = get_peft_model(llama(), LoraConfig(target_modules=["q_proj"]))
        model.requires_grad_(False)
        model.gradient_checkpointing_enable()
        model.enable_input_require_grads()
        optimizer = torch.optim.AdamW(model.parameters())
        for step in range(2):
            optimizer.zero_grad()
            loss_of(model, step).backward()
            optimizer.step()

    assert _found(train) == ["TL404"]
