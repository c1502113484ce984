"""TL209."""

from __future__ import annotations

from collections.abc import Iterator

from trainlint.core.diagnostic import Severity
from trainlint.core.events import OptimizerStep
from trainlint.core.facts import Certainty, Gradients
from trainlint.core.rule import Finding, Rule


class ScalerBypassed(
    Rule[OptimizerStep], code="TL209", name="scaler-bypassed", severity=Severity.ERROR
):
    """`optimizer.step()` runs on gradients that a GradScaler has scaled.

    ## Why is this bad?
    `scaler.scale(loss).backward()` multiplies every gradient by the scale, 65536 at the start.
    `scaler.step(optimizer)` divides them again and skips steps with infinities in them; a plain
    `optimizer.step()` does neither, so the update is tens of thousands of times too large.

    ## Example
    ```python
    import torch
    from torch import nn

    batches = [(torch.randn(8, 4), torch.randint(2, (8,))) for _ in range(4)]
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cuda")
    for x, y in batches:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        scaler.scale(loss).backward()
        optimizer.step()  # error: [scaler-bypassed]
        scaler.update()
    ```

    ## Use instead
    ```python
    import torch
    from torch import nn

    batches = [(torch.randn(8, 4), torch.randint(2, (8,))) for _ in range(4)]
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cuda")
    for x, y in batches:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    ```

    ## What it leaves alone
    A plain step after `scaler.unscale_(optimizer)`, a step in the branch without a scaler,
    another optimizer whose loss was not scaled, `GradScaler(enabled=False)`.

    ## Fix safety
    `scaler.step(optimizer)` changes the size of every update.
    """

    message = "`{optimizer}` steps past the GradScaler on gradients that are still scaled{when}"
    on = (OptimizerStep,)
    triggers = (b"scale", b"step", b"train")
    live = True

    def check(self, event: OptimizerStep) -> Iterator[Finding]:
        optimizer = event.optimizer
        if event.through_scaler or optimizer.scaled is not Certainty.YES:
            return
        if optimizer.gradients in (Gradients.WIPED, Gradients.CLEARED, Gradients.ABSENT):
            return
        finding = self.finding(event.site, optimizer=optimizer.name, when=event.when)
        yield finding.because(optimizer.scaled_origin).mend(
            f"call `scaler.step({optimizer.name})` and then `scaler.update()`"
        )
