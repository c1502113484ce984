"""TL413, which only a live run can show."""

from __future__ import annotations

from trainlint.core.diagnostic import Severity
from trainlint.core.events import Event
from trainlint.core.rule import Rule


class PeftIrregularStatus(
    Rule[Event], code="TL413", name="peft-irregular-status", severity=Severity.ERROR
):
    """Layers of one model disagree on which adapters are enabled, active or merged.

    ## Why is this bad?
    A layer that is disabled, merged, or uses another adapter than the rest computes something else
    than the model as a whole claims. Nothing raises: the loss falls all the same, and the
    checkpoint that is saved is not the model that was trained.

    ## Example
    ```python
    from peft import LoraConfig, get_peft_model

    def build(base):
        return get_peft_model(base, LoraConfig(target_modules=["q_proj", "v_proj"]))

    def half_disabled(model):
        for name, module in model.named_modules():
            if name.endswith("layers.0.self_attn.q_proj"):
                module.enable_adapters(False)  # one layer only
    ```

    ## Use instead
    ```python
    from peft import LoraConfig, get_peft_model

    def build(base):
        return get_peft_model(base, LoraConfig(target_modules=["q_proj", "v_proj"]))

    def reference_loss(model, batch):
        with model.disable_adapter():  # the whole model, and only for this block
            return model(**batch).loss
    ```

    ## What it leaves alone
    `modules_to_save` that only one of several adapters has (its wrapper has no active adapter while
    another is in use), and `merge_adapter()` beside `modules_to_save`, both of which PEFT's own
    status calls irregular. Adapters with different target modules.

    ## How it is found
    By `trainlint.runtime` (`inspect`, `verify`, `watch`) on the running model; the text of a
    program does not show it.
    """

    message = "layers of one model disagree on which adapters are enabled, active or merged"
    static = False
    live = True
