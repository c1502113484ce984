"""TL205."""

from __future__ import annotations

from collections.abc import Iterator

from trainlint.core.diagnostic import Severity
from trainlint.core.events import OptimizerStep
from trainlint.core.facts import Gradients
from trainlint.core.rule import Finding, Rule


class MissingZeroGrad(
    Rule[OptimizerStep], code="TL205", name="missing-zero-grad", severity=Severity.ERROR
):
    """A loop steps and never clears the gradients.

    ## Why is this bad?
    `backward()` adds to what `.grad` holds. If nothing clears it after a step, each step follows
    the sum of all gradients so far: old batches count again and again, the steps grow, and
    training diverges or stalls with no error.

    ## Example
    ```python
    import torch
    from torch import nn

    batches = [(torch.randn(8, 4), torch.randint(2, (8,))) for _ in range(4)]
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, y in batches:
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()  # error: [missing-zero-grad]
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
    Gradients cleared anywhere in the cycle, by the optimizer, the model or by hand
    (`p.grad = None`), closures as LBFGS takes them, accumulation that steps every n-th batch and
    clears then, engines that clear by themselves (DeepSpeed, Lightning), a single step outside
    any loop.

    ## Fix safety
    `zero_grad()` before `backward()` changes every step from the second on.
    """

    message = "`{optimizer}` steps on gradients that were never cleared since its last step{when}"
    on = (OptimizerStep,)
    triggers = (b"step", b"train", b".fit(", b"optim")
    live = True

    def check(self, event: OptimizerStep) -> Iterator[Finding]:
        optimizer = event.optimizer
        if optimizer.gradients is not Gradients.MIXED_IN or not event.in_loop:
            return
        if optimizer.uses_closure:
            return
        finding = self.finding(event.site, optimizer=optimizer.name, when=event.when)
        yield finding.because(optimizer.stepped, optimizer.backward).mend(
            f"call `{optimizer.name}.zero_grad()` before each backward"
        )
