"""TL203."""

from __future__ import annotations

from collections.abc import Iterator

from trainlint.core.diagnostic import Severity
from trainlint.core.events import Backward
from trainlint.core.facts import Cut
from trainlint.core.rule import Finding, Rule
from trainlint.rules.wording import called


class BackwardUnderNoGrad(
    Rule[Backward], code="TL203", name="backward-under-no-grad", severity=Severity.ERROR
):
    """The loss that is to be trained was computed with gradients off.

    ## Why is this bad?
    Under `torch.no_grad()` or `torch.inference_mode()` nothing is recorded, so the loss has no
    graph: `backward()` raises "element 0 of tensors does not require grad", or, where
    `requires_grad` was forced on the loss, reaches no parameter at all. `model.train()` does not
    turn gradients on.

    ## Example
    ```python
    import torch
    from torch import nn

    batches = [(torch.randn(8, 4), torch.randint(2, (8,))) for _ in range(4)]
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, y in batches:
        optimizer.zero_grad()
        with torch.no_grad():
            loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()  # error: [backward-under-no-grad]
        optimizer.step()
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
        optimizer.step()
    ```

    ## What it leaves alone
    `backward()` called inside such a block on a loss that was computed outside, a frozen backbone
    or a teacher under `no_grad` in an otherwise differentiable loss, `enable_grad()` inside
    `no_grad()`, updates of averaged weights.

    ## Fix safety
    None is offered: where the block should end is for its author to say.
    """

    message = "{loss} is computed with gradients off{when}: backward reaches no parameter"
    on = (Backward,)
    triggers = (
        b"Trainer",
        b"no_grad",
        b"inference_mode",
        b"grad_enabled",
        b"backward",
        b"train",
        b".fit(",
    )
    live = True

    def check(self, event: Backward) -> Iterator[Finding]:
        loss = event.loss
        if loss.cut is not Cut.NO_GRAD or loss.grad_off is None or loss.grad_leaked:
            return
        finding = self.finding(event.site, loss=called(loss.name, "the loss"), when=event.when)
        yield finding.because(loss.grad_off).mend(
            "compute the loss outside the block that turns gradients off"
        )
