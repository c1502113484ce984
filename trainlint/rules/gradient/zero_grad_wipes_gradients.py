"""TL206."""

from __future__ import annotations

from collections.abc import Iterator

from trainlint.core.diagnostic import Severity
from trainlint.core.events import GradientsCleared, OptimizerStep
from trainlint.core.facts import Gradients
from trainlint.core.rule import Finding, Rule


class ZeroGradWipesGradients(
    Rule[OptimizerStep | GradientsCleared],
    code="TL206",
    name="zero-grad-wipes-gradients",
    severity=Severity.ERROR,
):
    """The gradients are cleared between the backward and the step.

    ## Why is this bad?
    The step then finds no gradients and changes nothing, silently: the loss is computed, the bar
    moves, the model stays. Where gradients are accumulated over several batches, clearing in
    every batch leaves only the last one's.

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
        optimizer.zero_grad()  # error: [zero-grad-wipes-gradients]
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
    The `zero_grad()` of another optimizer, as in adversarial training, a clearing that throws
    away a bad batch's gradients under a condition, gradients that are written again by hand.

    ## Fix safety
    Moving `zero_grad()` before the backward makes the model train, which it did not.
    """

    message = "the gradients that `{optimizer}` should step on are cleared first{when}"
    on = (OptimizerStep, GradientsCleared)
    triggers = (b"zero_grad", b".grad", b"train", b"step")
    live = True

    def check(self, event: OptimizerStep | GradientsCleared) -> Iterator[Finding]:
        if isinstance(event, GradientsCleared):
            yield from self._between_micro_batches(event)
            return
        optimizer = event.optimizer
        cleared = optimizer.cleared
        if optimizer.gradients is not Gradients.WIPED or cleared is None:
            return
        if optimizer.uses_closure or optimizer.cleared_at_times:
            return
        if not optimizer.backward_this_round:
            return  # the step stands before the backward: TL207
        finding = self.finding(cleared.site, optimizer=optimizer.name, when=event.when)
        yield finding.because(optimizer.backward).mend(
            f"call `{optimizer.name}.zero_grad()` before the backward or after the step"
        )

    def _between_micro_batches(self, event: GradientsCleared) -> Iterator[Finding]:
        optimizer = event.optimizer
        if not event.between_micro_batches or optimizer.gradients is not Gradients.FRESH:
            return
        finding = self.finding(event.site, optimizer=optimizer.name, when=event.when)
        yield finding.because(optimizer.backward).mend(
            f"call `{optimizer.name}.zero_grad()` only where `{optimizer.name}` steps"
        )
