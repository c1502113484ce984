"""TL416."""

from __future__ import annotations

from collections.abc import Iterator

from trainlint.core.diagnostic import Severity
from trainlint.core.events import AdapterSaved, TrainStep
from trainlint.core.facts import Cause, ModelFacts, Origin, Share
from trainlint.core.rule import Finding, Rule


class PeftBaseTrains(
    Rule[AdapterSaved | TrainStep], code="TL416", name="peft-base-trains", severity=Severity.WARNING
):
    """Base weights train that the adapter checkpoint will not hold.

    ## Why is this bad?
    Unfreezing the base after the adapters went in, by `requires_grad_(True)` on the whole model or
    on a layer of it, trains weights that belong to the base. `PeftModel.save_pretrained` writes the
    adapters and nothing else, so what the base learnt is lost, and the adapters are loaded onto a
    base that they were not trained with.

    ## Example
    ```python
    from peft import LoraConfig, get_peft_model
    from torch.optim import AdamW
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained("gpt2")
    base = AutoModelForCausalLM.from_pretrained("gpt2")
    model = get_peft_model(base, LoraConfig(r=8, task_type="CAUSAL_LM"))
    model.requires_grad_(True)
    optimizer = AdamW(model.parameters(), lr=1e-4)
    model.train()
    for text in ["the quick brown fox", "jumps over the lazy dog"]:
        batch = tokenizer(text, return_tensors="pt")
        loss = model(**batch, labels=batch["input_ids"]).loss
        optimizer.zero_grad()
        loss.backward()  # warning: [peft-base-trains]
        optimizer.step()
    model.save_pretrained("out/adapter")
    ```

    ## Use instead
    ```python
    from peft import LoraConfig, get_peft_model
    from torch.optim import AdamW
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained("gpt2")
    base = AutoModelForCausalLM.from_pretrained("gpt2")
    config = LoraConfig(r=8, task_type="CAUSAL_LM", modules_to_save=["lm_head"])
    model = get_peft_model(base, config)
    optimizer = AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    model.train()
    for text in ["the quick brown fox", "jumps over the lazy dog"]:
        batch = tokenizer(text, return_tensors="pt")
        loss = model(**batch, labels=batch["input_ids"]).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.save_pretrained("out/adapter")
    ```

    ## When it is silent
    If the weights are among `modules_to_save`, biases that the config trains or trainable tokens;
    if the whole state is saved (`torch.save(model.state_dict(), ...)`) or the adapters are merged
    first; and as long as nothing is saved.

    ## Fix safety
    Unsafe: `modules_to_save` trains a copy of the module, with keys of its own.
    """

    message = (
        "base weights of `{model}` train here{when}, and the adapter checkpoint does not hold them"
    )
    on = (AdapterSaved, TrainStep)
    triggers = (b"save", b"backward", b"train", b"fit", b"optim")
    live = True

    def check(self, event: AdapterSaved | TrainStep) -> Iterator[Finding]:
        if isinstance(event, TrainStep):
            if event.framework is not None:
                for model in event.models:
                    yield from self._about(model, Origin(event.site, ""), event.when)
        elif event.model.adapters is not None:
            trained = event.model.adapters.base_trained
            saved = Origin(event.site, "only the adapters are saved here")
            for finding in self._about(event.model, trained, event.when):
                yield finding.because(saved)

    def _about(self, model: ModelFacts, trained: Origin | None, when: str) -> Iterator[Finding]:
        base = model.adapters.base_trainable if model.adapters else None
        if base is None or base.cause is not Cause.PEFT_BASE_UNFROZEN or trained is None:
            return
        if base.share in (Share.ALL, Share.SOME):
            yield (
                self.finding(trained.site, model=model.name, when=when)
                .because(base.origin)
                .mend("name them in the config's `modules_to_save`, or save the whole model")
            )
