"""TL410."""

from __future__ import annotations

from collections.abc import Iterator

from trainlint.core.diagnostic import Severity
from trainlint.core.events import AdaptersInjected
from trainlint.core.rule import Finding, Rule

_ADDING = ("add_adapter", "load_adapter", "inject_adapter_in_model", "add_weighted_adapter")


class PeftNested(Rule[AdaptersInjected], code="TL410", name="peft-nested", severity=Severity.ERROR):
    """Adapters are put into what is already a PEFT model.

    ## Why is this bad?
    `get_peft_model` changes the base in place, so a second call, on the wrapper or on the base,
    puts a second set of adapters beside or into the first. With the same adapter name it silently
    replaces or keeps the first; with another name both train, under nested prefixes that no
    `from_pretrained` finds again. `PeftModel.from_pretrained` on a PEFT model loads nothing and
    only warns of missing keys.

    ## Example
    ```python
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained("gpt2")
    model = get_peft_model(base, LoraConfig(r=8, target_modules=["c_attn"]))
    model = get_peft_model(model, LoraConfig(r=8, target_modules=["c_fc"]))  # error: [peft-nested]
    ```

    ## Use instead
    ```python
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained("gpt2")
    model = get_peft_model(base, LoraConfig(r=8, target_modules=["c_attn", "c_fc"]))
    ```

    ## When it is silent
    After `model = model.merge_and_unload()` or `model = model.unload()`, for `add_adapter` and
    `load_adapter`, which are the way to have several adapters, for a base that is loaded anew, and
    for `PeftModel.from_pretrained` on the base inside a PEFT model: that warns, but finds the
    modules that the checkpoint names and loads it (peft 0.21.2).

    ## Fix safety
    There is no fix: one config for all target modules, `add_adapter`, or a merge in between.
    """

    message = "`{model}` has adapters already: `{callee}` puts more into them"
    on = (AdaptersInjected,)
    triggers = (b"peft", b"Lora", b"adapter", b"train")
    live = True

    def check(self, event: AdaptersInjected) -> Iterator[Finding]:
        adapters = event.model.adapters
        function = event.callee.rsplit(".", 1)[-1]
        if adapters is None or not adapters.names or function in _ADDING:
            return
        if adapters.unloaded is not None:
            return
        if function == "from_pretrained" and not event.into_wrapper:
            return  # adapters of that name are there, and take the weights
        callee = (
            ".".join(event.callee.split(".")[-2:]) if function == "from_pretrained" else function
        )
        yield (
            self.finding(event.site, model=event.model.name, callee=callee)
            .because(adapters.nested or adapters.injected)
            .mend(
                "use one config, `add_adapter(...)`, or `model = model.merge_and_unload()` before"
            )
        )
