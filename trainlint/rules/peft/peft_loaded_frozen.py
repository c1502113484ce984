"""TL401."""

from __future__ import annotations

from collections.abc import Iterator

from trainlint.core.diagnostic import Severity
from trainlint.core.events import TrainStep
from trainlint.core.facts import Cause
from trainlint.core.rule import Finding, Rule


class PeftLoadedFrozen(
    Rule[TrainStep], code="TL401", name="peft-loaded-frozen", severity=Severity.ERROR
):
    """An adapter is loaded for inference and then trained.

    ## Why is this bad?
    `PeftModel.from_pretrained` and `load_adapter` load for inference unless you say
    `is_trainable=True`: every adapter weight is frozen and the whole model is put in eval mode.
    `model.train()` switches dropout on again and unfreezes nothing. With gradient checkpointing,
    which TRL turns on by default, the loss still requires a gradient, so that training runs to
    its end without a word and the adapter is saved as it was loaded.

    ## Example
    ```python
    from peft import PeftModel
    from torch.optim import AdamW
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained("gpt2")
    base = AutoModelForCausalLM.from_pretrained("gpt2")
    base.gradient_checkpointing_enable()
    base.enable_input_require_grads()
    model = PeftModel.from_pretrained(base, "out/adapter")  # error: [peft-loaded-frozen]
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
    from peft import PeftModel
    from torch.optim import AdamW
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained("gpt2")
    base = AutoModelForCausalLM.from_pretrained("gpt2")
    base.gradient_checkpointing_enable()
    base.enable_input_require_grads()
    model = PeftModel.from_pretrained(base, "out/adapter", is_trainable=True)
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
    For inference, merging and reference models; if `is_trainable` is a variable; if `set_adapter`
    follows, which unfreezes the adapter; and if something else of the step trains, such as a head
    on top of frozen adapters.

    ## Fix safety
    Safe: nothing trained, and the argument makes the adapters train.
    """

    message = "the adapters of `{model}` are loaded frozen and then trained{when}: nothing moves"
    on = (TrainStep,)
    triggers = (b"from_pretrained", b"load_adapter", b"backward", b"train", b"fit", b"optim")
    live = True

    def check(self, event: TrainStep) -> Iterator[Finding]:
        for model in event.frozen_by(Cause.PEFT_LOADED_FROZEN):
            loaded = model.frozen.origin
            site = loaded.site if loaded else event.site
            yield (
                self.finding(site, model=model.name, when=event.when)
                .because(loaded)
                .mend("load them with `is_trainable=True`")
            )
