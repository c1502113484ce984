"""TL211."""

from __future__ import annotations

from collections.abc import Iterator

from trainlint.core.diagnostic import Severity
from trainlint.core.events import GradientsClipped
from trainlint.core.facts import Certainty, Gradients
from trainlint.core.rule import Finding, Rule


class ClipBeforeUnscale(
    Rule[GradientsClipped], code="TL211", name="clip-before-unscale", severity=Severity.ERROR
):
    """Gradients are clipped while a GradScaler's factor is still in them.

    ## Why is this bad?
    The scale starts at 65536. A norm of 40 looks like 2.6 million, is cut down to the limit, and
    is then divided by the scale: what is left of the update is next to nothing, and training
    nearly stops.

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
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # error: [clip-before-unscale]
        scaler.step(optimizer)
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
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
    ```

    ## What it leaves alone
    A limit that was multiplied by the scale by hand, clipping by accelerate or Fabric, autocast
    to bfloat16 without a scaler, `GradScaler(enabled=False)`.

    ## Fix safety
    `scaler.unscale_(optimizer)` before the clip changes the size of every update.
    """

    message = "the gradients of `{optimizer}` are clipped while still scaled{when}"
    on = (GradientsClipped,)
    triggers = (b"clip", b"scale", b"train")
    live = True

    def check(self, event: GradientsClipped) -> Iterator[Finding]:
        optimizer = event.optimizer
        if optimizer.scaled is not Certainty.YES or event.limit_scaled or event.measures:
            return
        if optimizer.gradients not in (Gradients.FRESH, Gradients.MIXED_IN):
            return
        finding = self.finding(event.site, optimizer=optimizer.name, when=event.when)
        yield finding.because(optimizer.scaled_origin).mend(
            f"call `scaler.unscale_({optimizer.name})` before clipping"
        )
