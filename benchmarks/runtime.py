"""What a watch and an inspection cost, as ratios in one run.

    python benchmarks/runtime.py [--quick]

1. A watch on a model of 10,000 modules with LoRA in 120 layers: CPU added to a step in its steady
   state, amortised over 100 unchanged steps (bar: under 1 ms).
2. A watch on a tiny GPT-2-sized LoRA run, as a share of its step (bar: under 2 %).
3. `inspect` against PEFT's own `get_model_status` on the model of 1. (bar: not slower).
"""

from __future__ import annotations

import argparse
import gc
import json
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from trainlint.runtime import Watch, inspect, watch


def cpu(function: Callable[[], object], repeat: int) -> float:
    """The least CPU time of a call, in milliseconds."""
    best = float("inf")
    for _ in range(repeat):
        start = time.process_time()
        function()
        best = min(best, time.process_time() - start)
    return 1000 * best


class Skeleton(nn.Module):
    """Runs one adapter of a huge model, so that what is measured is the watch and not the model."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([p.flatten() for p in self.chosen]).sum() + x.sum()

    def prepare(self) -> None:
        """Every adapter weight takes part, as it would in a real forward."""
        self.__dict__["chosen"] = [p for p in self.parameters() if p.requires_grad]


def big(layers: int) -> Any:
    """A Llama of `layers` thin layers with LoRA on all seven projections."""
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=layers,
        num_attention_heads=2, num_key_value_heads=2,
    )  # fmt: skip
    names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    return get_peft_model(
        LlamaForCausalLM(config).train(), LoraConfig(r=2, lora_dropout=0.1, target_modules=names)
    )


def gpt2() -> Any:
    """GPT-2's shape with LoRA, randomly initialised, thinner vocabulary."""
    from peft import LoraConfig, get_peft_model
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=512, n_embd=256, n_layer=12, n_head=8, n_positions=128)
    model = GPT2LMHeadModel(config).train()
    targets = LoraConfig(
        r=8, lora_dropout=0.1, target_modules=["c_attn", "c_proj"], fan_in_fan_out=True
    )
    return get_peft_model(model, targets)


CALLBACKS = (
    "on_forward", "on_forward_end", "before_backward", "after_backward", "on_step_before",
    "on_step_after", "on_zero_grad", "on_module_zero_grad", "on_clip", "on_train",
)  # fmt: skip


class Meter:
    """CPU time of this thread spent inside the watch's own callbacks.

    The difference of two whole steps drowns in the noise of a shared machine; what the watch
    itself does can be read off directly. The patches around it cost microseconds.
    """

    def __init__(self) -> None:
        self.spent = 0.0

    def __enter__(self) -> Meter:
        self._originals = {name: getattr(Watch, name) for name in CALLBACKS}
        for name, original in self._originals.items():
            setattr(Watch, name, self._timed(original))
        return self

    def _timed(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.thread_time()
            try:
                return original(*args, **kwargs)
            finally:
                self.spent += time.thread_time() - start

        return timed

    def __exit__(self, *error: object) -> None:
        for name, original in self._originals.items():
            setattr(Watch, name, original)


def measured(
    step: Callable[[], None], target: Any, optimizer: Any, steps: int, **options: Any
) -> Any:
    """CPU a step, in milliseconds: the step without its watch, and the watch."""
    with watch(target, optimizer, on_violation="log", **options) as run:
        for _ in range(4):  # everything is looked at in the first steps
            step()
        with Meter() as meter:
            start = time.process_time()
            for _ in range(steps):
                step()
            total = time.process_time() - start
    assert run.report.ok, run.report
    bare = 1000 * (total - meter.spent) / steps
    added = 1000 * meter.spent / steps
    return {"bare_ms": bare, "added_ms": added, "share": added / bare}


def steady(layers: int, steps: int) -> dict[str, float]:
    """A watch's CPU over `steps` unchanged steps of a model of 10,000 modules."""
    model = Skeleton(big(layers))
    model.prepare()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-6)
    x = torch.zeros(1)

    def step() -> None:
        optimizer.zero_grad()
        model(x).backward()
        optimizer.step()

    found = measured(step, model, optimizer, steps, ignore=["TL701", "TL703"])
    return {"modules": sum(1 for _ in model.modules()), **found}


def share(steps: int) -> dict[str, float]:
    """The watch's part of a GPT-2-sized LoRA step."""
    model = gpt2()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    batch = torch.randint(0, 512, (4, 64))

    def step() -> None:
        optimizer.zero_grad()
        model(input_ids=batch, labels=batch).loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    found: dict[str, float] = measured(step, model, optimizer, steps)
    return found


def looks(layers: int) -> dict[str, float]:
    """`inspect` against `get_model_status`, in turns."""
    model = big(layers)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-6)
    theirs, ours = [], []
    for _ in range(3):
        theirs.append(cpu(model.get_model_status, 1))
        ours.append(cpu(lambda: inspect(model, optimizer, "train"), 1))
    return {
        "get_model_status_ms": min(theirs),
        "inspect_ms": min(ours),
        "ratio": min(ours) / min(theirs),
    }


def main() -> None:
    """Measure and print JSON."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", choices=["steady", "gpt2", "inspect"])
    parser.add_argument("--quick", action="store_true", help="a tenth of the size")
    arguments = parser.parse_args()
    quick = arguments.quick
    torch.set_num_threads(1)
    gc.collect()
    parts: dict[str, Callable[[], dict[str, float]]] = {
        "steady": lambda: steady(12 if quick else 120, 20 if quick else 100),
        "gpt2": lambda: share(10 if quick else 60),
        "inspect": lambda: looks(12 if quick else 120),
    }
    for name, measure in parts.items():
        if arguments.only in (None, name):
            print(json.dumps({name: measure()}), flush=True)


if __name__ == "__main__":
    main()
