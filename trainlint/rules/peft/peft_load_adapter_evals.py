"""TL408."""

from __future__ import annotations

from collections.abc import Iterator

from trainlint.core.diagnostic import Severity
from trainlint.core.events import TrainStep
from trainlint.core.facts import Cause, Certainty, Mode
from trainlint.core.rule import Finding, Rule


class PeftLoadAdapterEvals(
    Rule[TrainStep], code="TL408", name="peft-load-adapter-evals", severity=Severity.WARNING
):
    """`load_adapter` puts the whole model in eval mode amid training.

    ## Why is this bad?
    Without `is_trainable=True`, `load_adapter` loads for inference: the new adapter is frozen, and
    the *whole* model is put in eval mode, the adapter included that you are training. Its dropout
    is off from then on, and nothing says so.

    ## Example
    ```python
    from peft import LoraConfig, get_peft_model
    from torch.optim import AdamW
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained("gpt2")
    base = AutoModelForCausalLM.from_pretrained("gpt2")
    model = get_peft_model(base, LoraConfig(r=8, lora_dropout=0.1, task_type="CAUSAL_LM"))
    optimizer = AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    model.train()
    model.load_adapter("out/reference", adapter_name="reference")
    for text in ["the quick brown fox", "jumps over the lazy dog"]:
        batch = tokenizer(text, return_tensors="pt")
        loss = model(**batch, labels=batch["input_ids"]).loss
        optimizer.zero_grad()
        loss.backward()  # warning: [peft-load-adapter-evals]
        optimizer.step()
    ```

    ## Use instead
    ```python
    from peft import LoraConfig, get_peft_model
    from torch.optim import AdamW
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained("gpt2")
    base = AutoModelForCausalLM.from_pretrained("gpt2")
    model = get_peft_model(base, LoraConfig(r=8, lora_dropout=0.1, task_type="CAUSAL_LM"))
    optimizer = AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    model.load_adapter("out/reference", adapter_name="reference")
    model.train()
    for text in ["the quick brown fox", "jumps over the lazy dog"]:
        batch = tokenizer(text, return_tensors="pt")
        loss = model(**batch, labels=batch["input_ids"]).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    ```

    ## When it is silent
    If `model.train()` follows before the next step, or a trainer sets the mode at each step.

    ## Fix safety
    Unsafe: dropout is on again, so the results change.
    """

    message = "`{model}` is trained in eval mode{when}: `load_adapter` put all of it there"
    on = (TrainStep,)
    triggers = (b"load_adapter", b"backward", b"train", b"fit", b"optim")
    live = True

    def check(self, event: TrainStep) -> Iterator[Finding]:
        for model in event.models:
            mode = model.mode
            if model.managed or mode.cause is not Cause.PEFT_LOAD_ADAPTER:
                continue
            if mode.mode not in (Mode.EVAL, Mode.MIXED):
                continue
            finding = (
                self.finding(event.site, model=model.name, when=event.when)
                .because(mode.origin)
                .mend(f"call `{model.name}.train()` after it")
            )
            yield finding.at(Severity.INFO) if model.sensitive is Certainty.NO else finding
