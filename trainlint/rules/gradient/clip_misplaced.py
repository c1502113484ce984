"""TL210."""

from __future__ import annotations

from collections.abc import Iterator

from trainlint.core.diagnostic import Severity
from trainlint.core.events import GradientsClipped
from trainlint.core.facts import Gradients
from trainlint.core.rule import Finding, Rule


class ClipMisplaced(
    Rule[GradientsClipped], code="TL210", name="clip-misplaced", severity=Severity.ERROR
):
    """Gradients are clipped after the step or before the backward.

    ## Why is this bad?
    Clipping changes the gradients that are there when it is called. After the step they have
    been used, before the backward there are none: either way every step runs unclipped, and no
    message says so.

    ## Example
    ```python
    import torch
    from torch import nn

    batches = [(torch.randn(8, 4), torch.randint(2, (8,))) for _ in range(4)]
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, y in batches:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # error: [clip-misplaced]
    ```

    ## Use instead
    ```python
    import torch
    from torch import nn

    batches = [(torch.randn(8, 4), torch.randint(2, (8,))) for _ in range(4)]
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, y in batches:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    ```

    ## What it leaves alone
    Clipping in a closure, in each micro-batch of an accumulation, at the head of a loop that
    steps on the last round's gradients, a call with an infinite limit that only measures.

    ## Fix safety
    Moving the call between backward and step makes it take effect, which it did not.
    """

    message = "the gradients of `{optimizer}` are clipped {place}{when}: no step is clipped"
    on = (GradientsClipped,)
    triggers = (b"clip_grad", b"clip", b"train")
    live = True

    def check(self, event: GradientsClipped) -> Iterator[Finding]:
        optimizer = event.optimizer
        gone = optimizer.gradients in (Gradients.CONSUMED, Gradients.CLEARED, Gradients.WIPED)
        if event.measures or optimizer.uses_closure or not (event.never_before_step or gone):
            return
        used = optimizer.gradients is Gradients.CONSUMED
        place = "after the step" if used else "while there are none"
        finding = self.finding(event.site, optimizer=optimizer.name, place=place, when=event.when)
        last = optimizer.stepped if used else optimizer.cleared
        yield finding.because(last).mend("clip between the backward and the step")
