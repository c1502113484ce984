"""TL412."""

from __future__ import annotations

from collections.abc import Iterator

from trainlint.core.diagnostic import Severity
from trainlint.core.events import TrainStep
from trainlint.core.rule import Finding, Rule


class PeftCheckpointNoInputGrad(
    Rule[TrainStep], code="TL412", name="peft-checkpoint-no-input-grad", severity=Severity.WARNING
):
    """Reentrant gradient checkpointing over a frozen base whose inputs need no gradient.

    ## Why is this bad?
    Reentrant checkpointing only records a gradient for a block if one of the block's *inputs*
    requires one. Over a frozen base the first input never does, so the adapters inside get none.
    torch warns "None of the inputs have requires_grad=True" once; if nothing else trains,
    `backward()` fails; if a head trains, the adapters silently stay as they are. transformers turns
    on input gradients for text models by itself; for images, and for `torch.utils.checkpoint` in
    code of one's own, nobody does.

    ## Example
    ```python
    import torch
    from peft import LoraConfig, get_peft_model
    from torch.optim import AdamW
    from transformers import ViTForImageClassification

    base = ViTForImageClassification.from_pretrained("google/vit-base-patch16-224-in21k")
    config = LoraConfig(r=8, target_modules=["q_proj", "v_proj"], modules_to_save=["classifier"])
    model = get_peft_model(base, config)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": True})
    optimizer = AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    model.train()
    for step in range(100):
        pixels, labels = torch.randn(4, 3, 224, 224), torch.randint(2, (4,))
        loss = model(pixel_values=pixels, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()  # warning: [peft-checkpoint-no-input-grad]
        optimizer.step()
    ```

    ## Use instead
    ```python
    import torch
    from peft import LoraConfig, get_peft_model
    from torch.optim import AdamW
    from transformers import ViTForImageClassification

    base = ViTForImageClassification.from_pretrained("google/vit-base-patch16-224-in21k")
    config = LoraConfig(r=8, target_modules=["q_proj", "v_proj"], modules_to_save=["classifier"])
    model = get_peft_model(base, config)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    optimizer = AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    model.train()
    for step in range(100):
        pixels, labels = torch.randn(4, 3, 224, 224), torch.randint(2, (4,))
        loss = model(pixel_values=pixels, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    ```

    ## When it is silent
    With `use_reentrant=False`, which is transformers' default; after
    `enable_input_require_grads()`; for text models under transformers 5, which does that itself;
    and where the embeddings train.

    ## Fix safety
    Unsafe: the two kinds of checkpointing differ in what they recompute.
    """

    message = (
        "the adapters of `{model}` get no gradient{when}: "
        "checkpointing is reentrant, and no input needs one"
    )
    on = (TrainStep,)
    triggers = (b"checkpoint", b"backward", b"train", b"fit", b"optim")
    live = True

    def check(self, event: TrainStep) -> Iterator[Finding]:
        for model in event.models:
            switched = model.adapters.input_grad_missing if model.adapters else None
            if switched is not None:
                yield (
                    self.finding(event.site, model=model.name, when=event.when)
                    .because(switched)
                    .mend("set `use_reentrant=False`, or call `enable_input_require_grads()`")
                )
