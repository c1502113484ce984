"""TL407."""

from __future__ import annotations

from collections.abc import Iterator

from trainlint.core.diagnostic import Severity
from trainlint.core.events import AdapterNeverActivated, Event, TrainStep
from trainlint.core.facts import ModelFacts, Origin
from trainlint.core.rule import Finding, Rule


class PeftNotActivated(
    Rule[AdapterNeverActivated | TrainStep],
    code="TL407",
    name="peft-not-activated",
    severity=Severity.WARNING,
):
    """An adapter is added or loaded to be trained, and never activated.

    ## Why is this bad?
    `PeftModel.add_adapter` puts a new adapter in frozen and inactive, and `load_adapter` leaves the
    adapter active that was active before. Without `set_adapter(name)` the forward uses the old
    adapter, and the training goes into that one: the new adapter is saved as it was made.

    ## Example
    ```python
    from peft import LoraConfig, get_peft_model
    from torch.optim import AdamW
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained("gpt2")
    base = AutoModelForCausalLM.from_pretrained("gpt2")
    model = get_peft_model(base, LoraConfig(r=8, task_type="CAUSAL_LM"))
    model.add_adapter("poems", LoraConfig(r=4, task_type="CAUSAL_LM"))
    optimizer = AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    model.train()
    for text in ["the quick brown fox", "jumps over the lazy dog"]:
        batch = tokenizer(text, return_tensors="pt")
        loss = model(**batch, labels=batch["input_ids"]).loss
        optimizer.zero_grad()
        loss.backward()  # warning: [peft-not-activated]
        optimizer.step()
    ```

    ## Use instead
    ```python
    from peft import LoraConfig, get_peft_model
    from torch.optim import AdamW
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained("gpt2")
    base = AutoModelForCausalLM.from_pretrained("gpt2")
    model = get_peft_model(base, LoraConfig(r=8, task_type="CAUSAL_LM"))
    model.add_adapter("poems", LoraConfig(r=4, task_type="CAUSAL_LM"))
    model.set_adapter("poems")
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
    For transformers' own `add_adapter`, which activates what it adds; for adapters that are chosen
    by `adapter_names` in the forward or loaded as a frozen reference; and once `set_adapter` has
    named the adapter.

    ## Fix safety
    Unsafe: `set_adapter` freezes the adapter that was active before.
    """

    message = (
        "adapter `{adapter}` of `{model}` is never activated: the training{when} goes into {active}"
    )
    on = (AdapterNeverActivated, TrainStep)
    triggers = (b"add_adapter", b"load_adapter", b"backward", b"train", b"fit", b"optim")
    live = True

    def check(self, event: AdapterNeverActivated | TrainStep) -> Iterator[Finding]:
        if isinstance(event, AdapterNeverActivated):
            yield self._about(event, event.model, event.adapter, event.added)
            return
        for model in event.models:
            adapters = model.adapters
            for name in adapters.not_activated if adapters else ():
                added = adapters.added_origin if adapters else None
                yield self._about(event, model, name, added)

    def _about(
        self, event: Event, model: ModelFacts, adapter: str, added: Origin | None
    ) -> Finding:
        active = model.adapters.active if model.adapters else ()
        names = ", ".join(f"`{name}`" for name in active) or "another adapter"
        return (
            self.finding(
                event.site, adapter=adapter, model=model.name, when=event.when, active=names
            )
            .because(added)
            .mend(f'call `{model.name}.set_adapter("{adapter}")` before the optimizer is built')
        )
