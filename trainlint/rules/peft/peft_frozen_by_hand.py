"""TL404."""

from __future__ import annotations

from collections.abc import Iterator

from trainlint.core.diagnostic import Severity
from trainlint.core.events import AdaptersFrozenBeside, TrainStep
from trainlint.core.facts import Cause, ModelFacts
from trainlint.core.rule import Finding, Rule


class PeftFrozenByHand(
    Rule[TrainStep | AdaptersFrozenBeside],
    code="TL404",
    name="peft-frozen-by-hand",
    severity=Severity.ERROR,
):
    """Everything is frozen after the adapters were put in, the adapters too.

    ## Why is this bad?
    `get_peft_model` freezes the base by itself. A loop over `model.parameters()` that freezes
    "the base" afterwards meets the adapters as well, and leaves nothing to train. With gradient
    checkpointing the loss still requires a gradient, and nothing fails. In a larger model only what
    is beside the adapters trains, such as a head, and a fresh adapter that rests adds nothing.

    ## Example
    ```python
    from peft import LoraConfig, get_peft_model
    from torch.optim import AdamW
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained("gpt2")
    base = AutoModelForCausalLM.from_pretrained("gpt2")
    base.gradient_checkpointing_enable()
    base.enable_input_require_grads()
    model = get_peft_model(base, LoraConfig(r=8, task_type="CAUSAL_LM"))
    for parameter in model.parameters():
        parameter.requires_grad = False  # error: [peft-frozen-by-hand]
    optimizer = AdamW(model.parameters(), lr=1e-4)
    model.train()
    for text in ["the quick brown fox", "jumps over the lazy dog"]:
        batch = tokenizer(text, return_tensors="pt")
        loss = model(**batch, labels=batch["input_ids"]).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    ```

    ## Use instead
    ```python
    from peft import LoraConfig, get_peft_model
    from torch.optim import AdamW
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained("gpt2")
    base = AutoModelForCausalLM.from_pretrained("gpt2")
    base.gradient_checkpointing_enable()
    base.enable_input_require_grads()
    model = get_peft_model(base, LoraConfig(r=8, task_type="CAUSAL_LM"))
    optimizer = AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    model.train()
    for text in ["the quick brown fox", "jumps over the lazy dog"]:
        batch = tokenizer(text, return_tensors="pt")
        loss = model(**batch, labels=batch["input_ids"]).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    ```

    ## When it is silent
    For freezing by name (`if "lora_" not in name`, `lora_A` alone as in LoRA-FA), for freezing
    before the adapters go in, and if the adapters are unfrozen or set active again before the step.
    Beside a head that trains, for adapters that were loaded or that another step trains.

    ## Fix safety
    There is no fix: only you know what was to be frozen.
    """

    message = "{frozen}, and then trained{when}: {outcome}"
    on = (TrainStep, AdaptersFrozenBeside)
    triggers = (b"requires_grad", b"freeze", b"backward", b"train", b"fit", b"optim")
    live = True

    def check(self, event: TrainStep | AdaptersFrozenBeside) -> Iterator[Finding]:
        for model in event.frozen_by(Cause.PEFT_FROZEN_BY_HAND):
            frozen = model.frozen.origin
            injected = model.adapters.injected if model.adapters else None
            site = frozen.site if frozen else event.site
            yield (
                self.finding(site, when=event.when, **_story(event, model))
                .because(injected, frozen)
                .mend("leave the freezing to PEFT, or do it before the adapters are put in")
            )


def _story(event: TrainStep | AdaptersFrozenBeside, model: ModelFacts) -> dict[str, str]:
    if isinstance(event, TrainStep):
        whole = f"everything in `{model.name}` is frozen, its adapters too"
        return {"frozen": whole, "outcome": "nothing moves"}
    adapters = f"the adapters of `{model.name}` are frozen"
    return {"frozen": adapters, "outcome": "only what is beside them moves"}
