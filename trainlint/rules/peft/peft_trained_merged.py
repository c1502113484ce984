"""TL406."""

from __future__ import annotations

from collections.abc import Iterator

from trainlint.core.diagnostic import Severity
from trainlint.core.events import TrainStep
from trainlint.core.facts import Certainty
from trainlint.core.rule import Finding, Rule


class PeftTrainedMerged(
    Rule[TrainStep], code="TL406", name="peft-trained-merged", severity=Severity.ERROR
):
    """A training step runs while adapters are merged into the base.

    ## Why is this bad?
    `merge_adapter()` adds the adapters into the frozen base weights, and the forward then goes past
    the adapters. They get no gradient. Without gradient checkpointing `backward()` fails; with it,
    training runs and changes nothing.

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
    model.merge_adapter()
    optimizer = AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    model.train()
    for text in ["the quick brown fox", "jumps over the lazy dog"]:
        batch = tokenizer(text, return_tensors="pt")
        loss = model(**batch, labels=batch["input_ids"]).loss
        optimizer.zero_grad()
        loss.backward()  # error: [peft-trained-merged]
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
    model.merge_adapter()
    ```

    ## When it is silent
    If `unmerge_adapter()` (or `set_adapter`, which unmerges with a warning) runs before the next
    step, and for merging after the training.

    ## Fix safety
    Unsafe: only you know where the merge belongs.
    """

    message = "`{model}` is trained while its adapters are merged{when}: they get no gradient"
    on = (TrainStep,)
    triggers = (b"merge_adapter", b"backward", b"train", b"fit", b"optim")
    live = True

    def check(self, event: TrainStep) -> Iterator[Finding]:
        for model in event.models:
            adapters = model.adapters
            if adapters is not None and adapters.merged is Certainty.YES:
                yield (
                    self.finding(event.site, model=model.name, when=event.when)
                    .because(adapters.merged_origin)
                    .mend(f"call `{model.name}.unmerge_adapter()` before the step")
                )
