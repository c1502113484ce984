"""TL204."""

from __future__ import annotations

from collections.abc import Iterator

from trainlint.core.diagnostic import Severity
from trainlint.core.events import Backward
from trainlint.core.rule import Finding, Rule
from trainlint.rules.wording import called


class GradModeLeaked(
    Rule[Backward], code="TL204", name="grad-mode-leaked", severity=Severity.WARNING
):
    """Gradients were turned off by a statement and are still off when training goes on.

    ## Why is this bad?
    `torch.set_grad_enabled(False)` on a line of its own holds for the whole thread until somebody
    turns gradients on again, also after the function that called it has returned. The next
    training step has no graph to run backward through.

    ## Example
    ```python
    import torch
    from torch import nn


    def evaluate(model, batches):
        model.eval()
        torch.set_grad_enabled(False)
        return sum(nn.functional.cross_entropy(model(x), y).item() for x, y in batches)


    batches = [(torch.randn(8, 4), torch.randint(2, (8,))) for _ in range(4)]
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for epoch in range(3):
        model.train()
        for x, y in batches:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()  # warning: [grad-mode-leaked]
            optimizer.step()
        print(evaluate(model, batches))
    ```

    ## Use instead
    ```python
    import torch
    from torch import nn


    def evaluate(model, batches):
        model.eval()
        with torch.no_grad():
            return sum(nn.functional.cross_entropy(model(x), y).item() for x, y in batches)


    batches = [(torch.randn(8, 4), torch.randint(2, (8,))) for _ in range(4)]
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for epoch in range(3):
        model.train()
        for x, y in batches:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
        print(evaluate(model, batches))
    ```

    ## What it leaves alone
    `with torch.set_grad_enabled(...)`, a switch that is turned back before the next training
    step, a script that only infers.

    ## Fix safety
    The block that should run without gradients has to be drawn by hand.
    """

    message = "gradients are still off when {loss} is computed{when}: backward has no graph"
    on = (Backward,)
    triggers = (b"grad", b"train", b".fit(", b"inference_mode")
    live = True

    def check(self, event: Backward) -> Iterator[Finding]:
        loss = event.loss
        if loss.grad_off is None or not loss.grad_leaked:
            return
        finding = self.finding(event.site, loss=called(loss.name, "the loss"), when=event.when)
        yield finding.because(loss.grad_off).mend(
            "turn gradients off with a `with` block, which ends by itself"
        )
