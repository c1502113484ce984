"""TL411."""

from __future__ import annotations

from collections.abc import Iterator

from trainlint.core.diagnostic import Severity
from trainlint.core.events import TrainStep
from trainlint.core.rule import Finding, Rule


class PeftHeadNotTrained(
    Rule[TrainStep], code="TL411", name="peft-head-not-trained", severity=Severity.ERROR
):
    """A fresh task head is frozen by PEFT, and not saved with the adapters.

    ## Why is this bad?
    A classification head on a pretrained model starts from random weights. `get_peft_model` freezes
    everything but the adapters, unless `task_type="SEQ_CLS"` or `"TOKEN_CLS"`, or
    `modules_to_save`, says otherwise. Without it the head stays random: the adapters train against
    noise, and since the head is not saved either, the next load draws another one.

    ## Example
    ```python
    import torch
    from peft import LoraConfig, get_peft_model
    from torch.optim import AdamW
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained("roberta-base")
    base = AutoModelForSequenceClassification.from_pretrained("roberta-base", num_labels=2)
    model = get_peft_model(base, LoraConfig(r=8, target_modules=["query", "value"]))
    optimizer = AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    model.train()
    for text, label in [("good", 1), ("bad", 0)]:
        batch = tokenizer(text, return_tensors="pt")
        loss = model(**batch, labels=torch.tensor([label])).loss
        optimizer.zero_grad()
        loss.backward()  # error: [peft-head-not-trained]
        optimizer.step()
    ```

    ## Use instead
    ```python
    import torch
    from peft import LoraConfig, get_peft_model
    from torch.optim import AdamW
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained("roberta-base")
    base = AutoModelForSequenceClassification.from_pretrained("roberta-base", num_labels=2)
    config = LoraConfig(r=8, target_modules=["query", "value"], task_type="SEQ_CLS")
    model = get_peft_model(base, config)
    optimizer = AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    model.train()
    for text, label in [("good", 1), ("bad", 0)]:
        batch = tokenizer(text, return_tensors="pt")
        loss = model(**batch, labels=torch.tensor([label])).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    ```

    ## When it is silent
    If the head is among `modules_to_save` or the target modules, if it is unfrozen by hand, and if
    the checkpoint may hold a head that was trained already.

    ## Fix safety
    Unsafe: `task_type` also chooses the wrapper class and with it the forward's signature.
    """

    message = "the fresh head of `{model}` is frozen and not saved: it stays random{when}"
    on = (TrainStep,)
    triggers = (b"Classification", b"nn.", b"backward", b"train", b"fit", b"optim")
    live = True

    def check(self, event: TrainStep) -> Iterator[Finding]:
        for model in event.models:
            head = model.adapters.head_fresh_untrained if model.adapters else None
            if head is None or model.adapters is None:
                continue
            yield (
                self.finding(event.site, model=model.name, when=event.when)
                .because(head, model.adapters.injected)
                .mend(
                    'give the config `task_type="SEQ_CLS"`, or name the head in `modules_to_save`'
                )
            )
