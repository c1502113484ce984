"""TL417, which only a live run can show."""

from __future__ import annotations

from trainlint.core.diagnostic import Severity
from trainlint.core.events import Event
from trainlint.core.rule import Rule


class PeftAdapterWithoutEffect(
    Rule[Event], code="TL417", name="peft-adapter-without-effect", severity=Severity.ERROR
):
    """The active adapter does nothing: absent, scaled by 0, or its layer was replaced.

    ## Why is this bad?
    The model runs as its base would. A loss still falls if anything else trains, gradients of an
    adapter with scaling 0 are exactly zero, and what is saved is an adapter that never took part.

    ## Example
    ```python
    from peft import LoraConfig, get_peft_model

    def build(base):
        return get_peft_model(base, LoraConfig(target_modules=["q_proj", "v_proj"]))

    def silence(model):
        for module in model.modules():
            if isinstance(getattr(module, "scaling", None), dict):
                module.scaling["default"] = 0.0
    ```

    ## Use instead
    ```python
    from peft import LoraConfig, get_peft_model

    def build(base):
        return get_peft_model(base, LoraConfig(target_modules=["q_proj", "v_proj"]))

    def soften(model, factor):
        for module in model.modules():
            if isinstance(getattr(module, "scaling", None), dict):
                module.scaling["default"] *= factor
    ```

    ## What it leaves alone
    Adapters disabled for a reference pass, layers that no adapter targets, adapters that are not
    active.

    ## How it is found
    By `trainlint.runtime` (`inspect`, `verify`, `watch`) on the running model; the text of a
    program does not show it.
    """

    message = "the active adapter does nothing: absent, scaled by 0, or its layer was replaced"
    static = False
    live = True
