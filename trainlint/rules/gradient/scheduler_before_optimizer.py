"""TL208."""

from __future__ import annotations

from collections.abc import Iterator

from trainlint.core.diagnostic import Severity
from trainlint.core.events import SchedulerStep
from trainlint.core.facts import Certainty
from trainlint.core.rule import Finding, Rule


class SchedulerBeforeOptimizer(
    Rule[SchedulerStep],
    code="TL208",
    name="scheduler-before-optimizer",
    severity=Severity.WARNING,
):
    """The learning rate scheduler steps before the optimizer's first step.

    ## Why is this bad?
    Since torch 1.1 a scheduler is stepped after the optimizer. Stepped before, it skips the first
    learning rate, and every later one comes a step too early; torch warns once.

    ## Example
    ```python
    import torch
    from torch import nn

    batches = [(torch.randn(8, 4), torch.randint(2, (8,))) for _ in range(4)]
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    for epoch in range(3):
        scheduler.step()  # warning: [scheduler-before-optimizer]
        for x, y in batches:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
    ```

    ## Use instead
    ```python
    import torch
    from torch import nn

    batches = [(torch.randn(8, 4), torch.randint(2, (8,))) for _ in range(4)]
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    for epoch in range(3):
        for x, y in batches:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
        scheduler.step()
    ```

    ## What it leaves alone
    A scheduler that is wound forward to the epoch where training resumes, one that is told the
    epoch (`scheduler.step(epoch)`), one that is stepped before the loop on purpose, a step that
    a GradScaler skipped, schedulers that are not torch's.

    ## Fix safety
    Moving the line to the end of the epoch shifts the learning rates by one step.
    """

    message = "`{scheduler}` steps before `{optimizer}` has stepped{when}: it skips a learning rate"
    on = (SchedulerStep,)
    triggers = (b"step", b"train", b".fit(", b"sched")
    live = True

    def check(self, event: SchedulerStep) -> Iterator[Finding]:
        if event.before_optimizer is not Certainty.YES or event.epoch_given:
            return
        if event.same_loop is Certainty.NO:
            return
        finding = self.finding(
            event.site, scheduler=event.name, optimizer=event.optimizer.name, when=event.when
        )
        yield finding.because(event.optimizer.created).mend(
            f"call `{event.name}.step()` after `{event.optimizer.name}.step()`"
        )
