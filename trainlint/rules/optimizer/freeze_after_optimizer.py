"""TL305."""

from __future__ import annotations

from collections.abc import Iterator

from trainlint.core.diagnostic import Severity
from trainlint.core.events import TrainStep
from trainlint.core.rule import Finding, Rule


class FreezeAfterOptimizer(
    Rule[TrainStep], code="TL305", name="freeze-after-optimizer", severity=Severity.WARNING
):
    """Parameters are frozen while their gradient is still there, and go on moving.

    ## Why is this bad?
    `requires_grad = False` stops new gradients. It does not remove the one that lies in `.grad`
    from the last backward. An optimizer that holds the parameter goes on applying that gradient,
    its momentum and its weight decay, at every step, unless `.grad` becomes None. The default
    `zero_grad()` sets it to None; `zero_grad(set_to_none=False)`, or no clearing at all, does not.

    ## Example
    ```python
    from torch import nn, optim, randn, randint

    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
    optimizer = optim.AdamW(model.parameters(), lr=1e-3)
    for epoch in range(10):
        if epoch == 5:
            model[0].requires_grad_(False)  # warning: [freeze-after-optimizer]
        for step in range(100):
            optimizer.zero_grad(set_to_none=False)
            loss = nn.functional.cross_entropy(model(randn(8, 16)), randint(4, (8,)))
            loss.backward()
            optimizer.step()
    ```

    ## Use instead
    ```python
    from torch import nn, optim, randn, randint

    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
    optimizer = optim.AdamW(model.parameters(), lr=1e-3)
    for epoch in range(10):
        if epoch == 5:
            model[0].requires_grad_(False)
        for step in range(100):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(randn(8, 16)), randint(4, (8,)))
            loss.backward()
            optimizer.step()
    ```

    ## When it is silent
    If the gradients become None before the next step (the default `zero_grad()`), if nothing had
    run backward before the freezing, or if the optimizer is rebuilt after it.

    ## Fix safety
    Unsafe: the results change, since the parameters stop moving.
    """

    message = (
        "the parameters frozen here go on moving{when}: `{optimizer}` still holds their gradients"
    )
    on = (TrainStep,)
    triggers = (b"requires_grad", b"freeze", b"train")
    live = True

    def check(self, event: TrainStep) -> Iterator[Finding]:
        optimizer = event.optimizer
        if optimizer is None or optimizer.moves_frozen is None:
            return
        yield (
            self.finding(optimizer.moves_frozen.site, optimizer=optimizer.name, when=event.when)
            .because(optimizer.created, optimizer.backward, optimizer.moves_frozen)
            .mend("set their `.grad` to None: `optimizer.zero_grad(set_to_none=True)`")
        )
