"""TL405."""

from __future__ import annotations

from collections.abc import Iterator

from trainlint.core.diagnostic import Severity
from trainlint.core.events import DiscardedCall, Receiver
from trainlint.core.rule import Finding, Rule

_METHODS = ("merge_and_unload", "unload")


class PeftMergeDiscarded(
    Rule[DiscardedCall], code="TL405", name="peft-merge-discarded", severity=Severity.WARNING
):
    """The result of `merge_and_unload()` or `unload()` is dropped, and the wrapper is used on.

    ## Why is this bad?
    Both return the inner model, and both take the adapters out of it in place. The PEFT wrapper is
    left with no adapters: its forward is still right, but `save_pretrained` writes an adapter file
    with no tensors in it, `get_peft_model` on it nests a wrapper in a wrapper, and nothing in it
    is trainable.

    ## Example
    ```python
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained("gpt2")
    model = PeftModel.from_pretrained(base, "out/adapter")
    model.merge_and_unload()  # warning: [peft-merge-discarded]
    model.save_pretrained("out/merged")
    ```

    ## Use instead
    ```python
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained("gpt2")
    model = PeftModel.from_pretrained(base, "out/adapter")
    model = model.merge_and_unload()
    model.save_pretrained("out/merged")
    ```

    ## When it is silent
    If the wrapper is only run forward afterwards, or if the base model is used on by its own name:
    both hold the merged weights.

    ## Fix safety
    Unsafe: the name then means the inner model, which has other methods than the wrapper.
    """

    message = (
        "`{name}.{method}()` returns the plain model, and the emptied wrapper `{name}` is used on"
    )
    on = (DiscardedCall,)
    triggers = (b"merge_and_unload", b".unload(")

    def check(self, event: DiscardedCall) -> Iterator[Finding]:
        method = event.callee.rsplit(".", 1)[-1]
        if event.receiver is not Receiver.PEFT_MODEL or method not in _METHODS:
            return
        if event.used_after is None:
            return
        yield (
            self.finding(event.site, name=event.name, method=method)
            .because(event.used_after)
            .mend(f"write `{event.name} = {event.name}.{method}()`")
        )
