"""TL207."""

from __future__ import annotations

from collections.abc import Iterator

from trainlint.core.diagnostic import Severity
from trainlint.core.events import BackwardWithoutStep, OptimizerStep, StepWithoutBackward
from trainlint.core.facts import Gradients
from trainlint.core.rule import Finding, Rule


class StepBeforeBackward(
    Rule[OptimizerStep | BackwardWithoutStep | StepWithoutBackward],
    code="TL207",
    name="step-before-backward",
    severity=Severity.ERROR,
):
    """The optimizer steps before the backward it needs, or one of the two is missing.

    ## Why is this bad?
    A step uses the gradients that are there when it runs. If the backward comes after it and the
    gradients are cleared in between, no step ever finds any; if the loop has no step, or no
    backward, the model never changes. Nothing raises.

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
        optimizer.step()  # error: [step-before-backward]
        loss.backward()
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
    A loop that steps first on what the last round's backward left, closures, a step outside any
    loop that only keeps a scheduler quiet, gradients that are computed to be looked at, engines
    that step by themselves.

    ## Fix safety
    Exchanging the two lines makes the model train, which it did not.
    """

    message = "{fault}{when}: the model does not train"
    on = (OptimizerStep, BackwardWithoutStep, StepWithoutBackward)
    triggers = (b"step", b"backward", b"train", b".fit(", b"optim")
    live = True

    def check(
        self, event: OptimizerStep | BackwardWithoutStep | StepWithoutBackward
    ) -> Iterator[Finding]:
        name = event.optimizer.name
        if event.optimizer.uses_closure:
            return
        if isinstance(event, StepWithoutBackward):
            fault = f"`{name}` steps and no backward gives it gradients"
            advice = "run `backward()` on the loss before the step"
        elif isinstance(event, BackwardWithoutStep):
            fault = f"backward gives gradients to `{name}`, which never steps"
            advice = f"call `{name}.step()` after the backward"
        elif _steps_too_early(event):
            fault = f"`{name}` steps before the backward, whose gradients are then cleared"
            advice = f"call `{name}.step()` after the backward and before the gradients are cleared"
        else:
            return
        finding = self.finding(event.site, fault=fault, when=event.when)
        if isinstance(event, OptimizerStep):
            finding = finding.because(event.optimizer.backward, event.optimizer.cleared)
        yield finding.because(event.optimizer.created).mend(advice)


def _steps_too_early(event: OptimizerStep) -> bool:
    """The last round's backward was cleared before this round's step could use it."""
    optimizer = event.optimizer
    return (
        event.in_loop
        and optimizer.gradients is Gradients.WIPED
        and not optimizer.backward_this_round
        and not optimizer.cleared_at_times
    )
