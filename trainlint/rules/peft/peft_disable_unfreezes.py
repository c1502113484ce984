"""TL415, which only a live run can show."""

from __future__ import annotations

from trainlint.core.diagnostic import Severity
from trainlint.core.events import Event
from trainlint.core.rule import Rule


class PeftDisableUnfreezes(
    Rule[Event], code="TL415", name="peft-disable-unfreezes", severity=Severity.WARNING
):
    """Leaving `with disable_adapter()` unfroze an adapter that was frozen on purpose.

    ## Why is this bad?
    On leaving the block PEFT sets the active adapters again, which makes all their weights
    trainable, also those that were frozen before it (peft#3447). A frozen adapter then trains, or
    gets gradients that no optimizer clears.

    ## Example
    ```python
    from peft import LoraConfig, get_peft_model

    def build(base):
        return get_peft_model(base, LoraConfig(target_modules=["q_proj", "v_proj"]))

    def reference(model, batch):
        model.requires_grad_(False)  # frozen on purpose
        with model.disable_adapter():
            return model(**batch).logits  # afterwards the adapter requires grad again
    ```

    ## Use instead
    ```python
    from peft import LoraConfig, get_peft_model

    def build(base):
        return get_peft_model(base, LoraConfig(target_modules=["q_proj", "v_proj"]))

    def reference(model, batch):
        with model.disable_adapter():
            logits = model(**batch).logits
        model.requires_grad_(False)  # frozen again
        return logits
    ```

    ## What it leaves alone
    Adapters that were trainable before the block, and variants whose frozen weights PEFT itself
    knows.

    ## How it is found
    By `trainlint.runtime` (`inspect`, `verify`, `watch`) on the running model; the text of a
    program does not show it.
    """

    message = "leaving `with disable_adapter()` unfroze an adapter that was frozen on purpose"
    static = False
    live = True
