"""TL403."""

from __future__ import annotations

from collections.abc import Iterator

from trainlint.core.diagnostic import Severity
from trainlint.core.events import AdaptersFrozenBeside, TrainStep
from trainlint.core.facts import Cause
from trainlint.core.rule import Finding, Rule


class PeftKbitOrder(
    Rule[TrainStep | AdaptersFrozenBeside],
    code="TL403",
    name="peft-kbit-order",
    severity=Severity.ERROR,
):
    """`prepare_model_for_kbit_training` runs after the adapters were put in, and freezes them.

    ## Why is this bad?
    It freezes every parameter that the model has at that moment. Called on the base, before
    `get_peft_model`, that is the base. Called afterwards it freezes the adapters as well, and since
    it also turns gradient checkpointing on, the loss still requires a gradient: training runs and
    changes nothing.

    ## Example
    ```python
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
    from torch.optim import AdamW
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    tokenizer = AutoTokenizer.from_pretrained("gpt2")
    quantization = BitsAndBytesConfig(load_in_4bit=True)
    base = AutoModelForCausalLM.from_pretrained("gpt2", quantization_config=quantization)
    model = get_peft_model(base, LoraConfig(r=8, task_type="CAUSAL_LM"))
    model = prepare_model_for_kbit_training(model)  # error: [peft-kbit-order]
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
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
    from torch.optim import AdamW
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    tokenizer = AutoTokenizer.from_pretrained("gpt2")
    quantization = BitsAndBytesConfig(load_in_4bit=True)
    base = AutoModelForCausalLM.from_pretrained("gpt2", quantization_config=quantization)
    base = prepare_model_for_kbit_training(base)
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
    If `set_adapter` follows, which unfreezes the adapter, or if nothing is trained.

    ## Fix safety
    Unsafe: the preparation also casts weights, which the adapters would not be part of.
    """

    message = (
        "`prepare_model_for_kbit_training` freezes the adapters of `{model}`, then trained{when}"
    )
    on = (TrainStep, AdaptersFrozenBeside)
    triggers = (b"prepare_model_for", b"backward", b"train", b"fit", b"optim")
    live = True

    def check(self, event: TrainStep | AdaptersFrozenBeside) -> Iterator[Finding]:
        for model in event.frozen_by(Cause.PEFT_KBIT_AFTER):
            prepared = model.frozen.origin
            injected = model.adapters.injected if model.adapters else None
            site = prepared.site if prepared else event.site
            yield (
                self.finding(site, model=model.name, when=event.when)
                .because(injected, prepared)
                .mend("prepare the base model first, then put the adapters in")
            )
