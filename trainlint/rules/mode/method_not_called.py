"""TL103."""

from __future__ import annotations

from collections.abc import Iterator

from trainlint.core.diagnostic import Severity
from trainlint.core.events import BareReference, Receiver
from trainlint.core.rule import Finding, Rule

_METHODS = {
    Receiver.MODULE: frozenset({"train", "eval", "zero_grad", "requires_grad_"}),
    Receiver.PEFT_MODEL: frozenset({"train", "eval", "zero_grad", "requires_grad_"}),
    Receiver.OPTIMIZER: frozenset({"step", "zero_grad"}),
    Receiver.SCHEDULER: frozenset({"step"}),
    Receiver.SCALER: frozenset({"step", "update"}),
    Receiver.TENSOR: frozenset({"backward"}),
    Receiver.METHOD_OF_ITS_CLASS: frozenset(
        {"train", "eval", "step", "zero_grad", "backward", "update"}
    ),
}

_TELLING_NAMES = {
    "train": ("model", "net", "module", "encoder", "decoder", "generator", "discriminator"),
    "eval": ("model", "net", "module", "encoder", "decoder", "generator", "discriminator"),
    "step": ("optim", "opt", "sched", "scaler", "optimizer", "scheduler"),
    "zero_grad": ("",),
    "backward": ("loss",),
}
"""Where the receiver is not known, what its name must end with or, for `optim`, begin with."""


class MethodNotCalled(
    Rule[BareReference], code="TL103", name="method-not-called", severity=Severity.ERROR
):
    """A method that switches the mode or drives the step is named and not called.

    ## Why is this bad?
    `model.eval` without parentheses is an expression whose value is thrown away. The mode stays
    as it is, the optimizer does not step, the gradients are not cleared, and Python does not say
    a word.

    ## Example
    ```python
    import torch
    from torch import nn

    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 2))
    model.load_state_dict(torch.load("model.pt"))
    model.eval  # error: [method-not-called]
    torch.save(model, "model-with-code.pt")
    ```

    ## Use instead
    ```python
    import torch
    from torch import nn

    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 2))
    model.load_state_dict(torch.load("model.pt"))
    model.eval()
    torch.save(model, "model-with-code.pt")
    ```

    ## What it leaves alone
    An alias (`step = optimizer.step`), a method passed on, an attribute of an object that is no
    module, optimizer, scheduler, scaler or loss and whose class here has no such method, and the
    last line of a notebook's cell when it is not known what the object is.

    ## Fix safety
    Adding the parentheses does what the line says; whether the program then does what its author
    measured before is another question.
    """

    message = "`{name}.{attribute}` is named and not called: the line does nothing"
    on = (BareReference,)
    triggers = (
        b".eval",
        b".train",
        b".step",
        b".zero_grad",
        b".backward",
        b".update",
        b".requires_grad_",
    )
    live = False

    def check(self, event: BareReference) -> Iterator[Finding]:
        if event.compared or not _is_meant_as_call(event):
            return
        finding = self.finding(event.site, name=event.name, attribute=event.attribute)
        yield finding.mend(f"write `{event.name}.{event.attribute}()`")


def _is_meant_as_call(event: BareReference) -> bool:
    if event.receiver is not Receiver.UNKNOWN:
        return event.attribute in _METHODS.get(event.receiver, frozenset())
    own = event.name.rpartition(".")[2].lower()
    telling = _TELLING_NAMES.get(event.attribute, ())
    return not event.last_in_cell and any(
        own.startswith(word) or own.endswith(word) for word in telling
    )
