"""TL414, which only a live run can show."""

from __future__ import annotations

from trainlint.core.diagnostic import Severity
from trainlint.core.events import Event
from trainlint.core.rule import Rule


class PeftIrregularRequiresGrad(
    Rule[Event], code="TL414", name="peft-irregular-requires-grad", severity=Severity.INFO
):
    """An adapter's parameters are partly trainable and partly frozen.

    ## Why is this bad?
    Half an adapter trains, the other half keeps its initial values. In LoRA a frozen `lora_B` is
    zero for ever, so that the layer learns nothing. It is info where whole layers are frozen
    (layer-wise training), and an error where nothing explains which weights are.

    ## Example
    ```python
    from peft import LoraConfig, get_peft_model

    def build(base):
        return get_peft_model(base, LoraConfig(target_modules=["q_proj", "v_proj"]))

    def freeze_some(model):
        for name, parameter in model.named_parameters():
            if "layers.0" in name and "lora_A" in name:
                parameter.requires_grad = False
    ```

    ## Use instead
    ```python
    from peft import LoraConfig, get_peft_model

    def build(base):
        return get_peft_model(base, LoraConfig(target_modules=["q_proj", "v_proj"]))

    def freeze_every_a(model):  # LoRA-FA: one kind of weight, in every layer
        for name, parameter in model.named_parameters():
            if "lora_A" in name:
                parameter.requires_grad = False
    ```

    ## What it leaves alone
    One kind of weight frozen in every layer (LoRA-FA), weights that the variant itself declares
    frozen (MiCA's `frozen_peft_weight_names`), and adapters that are not active.

    ## How it is found
    By `trainlint.runtime` (`inspect`, `verify`, `watch`) on the running model; the text of a
    program does not show it.
    """

    message = "an adapter's parameters are partly trainable and partly frozen"
    static = False
    live = True
