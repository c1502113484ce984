"""TL409."""

from __future__ import annotations

from collections.abc import Iterator

from trainlint.core.diagnostic import Severity
from trainlint.core.events import DiscardedCall, Receiver
from trainlint.core.rule import Finding, Rule


class PeftDisableNotEntered(
    Rule[DiscardedCall], code="TL409", name="peft-disable-not-entered", severity=Severity.ERROR
):
    """`disable_adapter()` stands alone as a statement, where it does nothing.

    ## Why is this bad?
    `PeftModel.disable_adapter()` is a context manager. Called as a statement it makes one and drops
    it: the adapters stay on. A "reference" pass computed below it is the adapted model's own, so a
    KL term is zero, and a comparison with the base compares the model with itself.

    ## Example
    ```python
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained("gpt2")
    base = AutoModelForCausalLM.from_pretrained("gpt2")
    model = PeftModel.from_pretrained(base, "out/adapter")
    batch = tokenizer("hello", return_tensors="pt")
    with torch.no_grad():
        adapted = model(**batch).logits
        model.disable_adapter()  # error: [peft-disable-not-entered]
        plain = model(**batch).logits
    print((adapted - plain).abs().max())
    ```

    ## Use instead
    ```python
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained("gpt2")
    base = AutoModelForCausalLM.from_pretrained("gpt2")
    model = PeftModel.from_pretrained(base, "out/adapter")
    batch = tokenizer("hello", return_tensors="pt")
    with torch.no_grad():
        adapted = model(**batch).logits
        with model.disable_adapter():
            plain = model(**batch).logits
    print((adapted - plain).abs().max())
    ```

    ## When it is silent
    If the context is stored, returned or entered later, and for the plain methods that do take
    effect: `disable_adapter_layers()`, `disable_adapters()`, and other libraries' own.

    ## Fix safety
    Unsafe: which statements belong into the `with` is for you to say.
    """

    message = "`{name}.disable_adapter()` does nothing as a statement: it is a context manager"
    on = (DiscardedCall,)
    triggers = (b"disable_adapter",)
    live = True

    def check(self, event: DiscardedCall) -> Iterator[Finding]:
        if event.receiver is not Receiver.PEFT_MODEL:
            return
        if event.callee.rsplit(".", 1)[-1] == "disable_adapter":
            yield self.finding(event.site, name=event.name).mend(
                f"write `with {event.name}.disable_adapter():` around what shall run without"
            )
