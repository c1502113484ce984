"""TL214."""

from __future__ import annotations

from collections.abc import Iterator

from trainlint.core.diagnostic import Severity
from trainlint.core.events import AccumulationStep
from trainlint.core.facts import Certainty
from trainlint.core.rule import Finding, Rule


class AccumulationNotScaled(
    Rule[AccumulationStep],
    code="TL214",
    name="accumulation-not-scaled",
    severity=Severity.WARNING,
    default=False,
):
    """Gradients are summed over several batches and not divided by their number.

    ## Why is this bad?
    Each backward adds the gradient of a mean. After n of them the step is n times as large as
    one on a batch n times as big would be, so the learning rate silently depends on how often
    gradients are accumulated.

    Off by default: a sum is a choice that a learning rate can make up for, and losses that are
    normalised by hand (by tokens, by the whole batch) look the same.

    ## Example
    ```python
    import torch
    from torch import nn

    batches = [(torch.randn(8, 4), torch.randint(2, (8,))) for _ in range(4)]
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for i, (x, y) in enumerate(batches):
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        if (i + 1) % 4 == 0:
            optimizer.step()  # warning: [accumulation-not-scaled]
            optimizer.zero_grad()
    ```

    ## Use instead
    ```python
    import torch
    from torch import nn

    batches = [(torch.randn(8, 4), torch.randint(2, (8,))) for _ in range(4)]
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for i, (x, y) in enumerate(batches):
        loss = nn.functional.cross_entropy(model(x), y) / 4
        loss.backward()
        if (i + 1) % 4 == 0:
            optimizer.step()
            optimizer.zero_grad()
    ```

    ## What it leaves alone
    A loss divided by any number, a loss summed over samples (`reduction="sum"`), accelerate's
    `accumulate()`, gradients divided before the step.

    ## Fix safety
    Dividing the loss changes the size of every step.
    """

    message = "`{optimizer}` steps on gradients summed over several batches{when}, not their mean"
    on = (AccumulationStep,)
    triggers = (b"step", b"train", b"%")

    def check(self, event: AccumulationStep) -> Iterator[Finding]:
        if event.divided is not Certainty.NO or event.optimizer.uses_closure:
            return
        finding = self.finding(event.site, optimizer=event.optimizer.name, when=event.when)
        yield finding.because(event.optimizer.backward).mend(
            "divide each loss by the number of batches per step"
        )
