"""TL213."""

from __future__ import annotations

from collections.abc import Iterator

from trainlint.core.diagnostic import Severity
from trainlint.core.events import GraphKept
from trainlint.core.rule import Finding, Rule
from trainlint.rules.wording import called


class GraphRetained(
    Rule[GraphKept],
    code="TL213",
    name="graph-retained",
    severity=Severity.WARNING,
    default=False,
):
    """Results are kept over iterations together with the graph that made them.

    ## Why is this bad?
    A tensor that no backward ran on holds all activations it was computed from. A list of such
    tensors grows by a whole forward's memory in each round.

    Off by default: after a backward only a chain of tiny nodes is left, and of twenty hand-read
    places where losses are summed or listed one was a real leak.

    ## Example
    ```python
    import torch
    from torch import nn

    batches = [(torch.randn(8, 4), torch.randint(2, (8,))) for _ in range(4)]
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    drift = []
    for x, y in batches:
        optimizer.zero_grad()
        logits = model(x)
        loss = nn.functional.cross_entropy(logits, y)
        loss.backward()
        optimizer.step()
        drift.append(model(x) - logits.detach())  # warning: [graph-retained]
    print(len(drift))
    ```

    ## Use instead
    ```python
    import torch
    from torch import nn

    batches = [(torch.randn(8, 4), torch.randint(2, (8,))) for _ in range(4)]
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    drift = []
    for x, y in batches:
        optimizer.zero_grad()
        logits = model(x)
        loss = nn.functional.cross_entropy(logits, y)
        loss.backward()
        optimizer.step()
        drift.append((model(x) - logits).detach())
    print(len(drift))
    ```

    ## What it leaves alone
    Losses that are summed and run backward on, loops under `no_grad`, numbers and detached
    copies, results that do not outlive their round.

    ## Fix safety
    `.item()` or `.detach()` keeps the value; it is safe where only the value is used.
    """

    message = "{name} is kept in `{keeper}` with its whole graph{when}"
    on = (GraphKept,)
    triggers = (b"loss", b"out", b"pred", b"append", b"train", b"+=")
    live = True

    def check(self, event: GraphKept) -> Iterator[Finding]:
        if not event.in_loop:
            return
        finding = self.finding(
            event.site, name=called(event.name, "a result"), keeper=event.keeper, when=event.when
        )
        yield finding.mend("keep `.item()` or `.detach()` of it")
