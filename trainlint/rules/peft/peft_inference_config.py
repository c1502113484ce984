"""TL402."""

from __future__ import annotations

from collections.abc import Iterator

from trainlint.core.diagnostic import Severity
from trainlint.core.events import AdaptersFrozenBeside, TrainStep
from trainlint.core.facts import Cause
from trainlint.core.rule import Finding, Rule


class PeftInferenceConfig(
    Rule[TrainStep | AdaptersFrozenBeside],
    code="TL402",
    name="peft-inference-config",
    severity=Severity.ERROR,
):
    """Adapters are made from a config for inference and then trained.

    ## Why is this bad?
    `inference_mode=True` makes `get_peft_model` freeze the adapters that it puts in. It is not only
    written by hand: `save_pretrained` writes it into every `adapter_config.json`, so a config that
    is read back with `LoraConfig.from_pretrained` freezes too. Then nothing trains; with gradient
    checkpointing nothing fails either.

    ## Example
    ```python
    from peft import LoraConfig, get_peft_model
    from torch.optim import AdamW
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained("gpt2")
    base = AutoModelForCausalLM.from_pretrained("gpt2")
    base.gradient_checkpointing_enable()
    base.enable_input_require_grads()
    config = LoraConfig(r=8, inference_mode=True)  # error: [peft-inference-config]
    model = get_peft_model(base, config)
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
    config = LoraConfig(r=8)
    model = get_peft_model(base, config)
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
    If nothing is trained, if `inference_mode` is a variable or set to False before the adapters go
    in, if `set_adapter` unfreezes them, as `add_adapter` of transformers does itself, and if the
    folder that a config is read from is a variable: a config that was saved by itself, as PEFT's
    own benchmarks have them, is not for inference.

    ## Fix safety
    Safe: nothing trained, and False makes the adapters train.
    """

    message = (
        "the adapters of `{model}` are made for inference and then trained{when}: nothing moves"
    )
    on = (TrainStep, AdaptersFrozenBeside)
    triggers = (b"inference_mode", b"Config", b"backward", b"train", b"fit", b"optim")
    live = True

    def check(self, event: TrainStep | AdaptersFrozenBeside) -> Iterator[Finding]:
        for model in event.frozen_by(Cause.PEFT_INFERENCE_CONFIG):
            config = model.frozen.origin
            site = config.site if config else event.site
            yield (
                self.finding(site, model=model.name, when=event.when)
                .because(config)
                .mend("set `inference_mode=False` before the adapters are put in")
            )
