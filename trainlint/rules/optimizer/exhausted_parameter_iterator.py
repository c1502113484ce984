"""TL306."""

from __future__ import annotations

from collections.abc import Iterator

from trainlint.core.diagnostic import Severity
from trainlint.core.events import ParametersConsumed
from trainlint.core.rule import Finding, Rule


class ExhaustedParameterIterator(
    Rule[ParametersConsumed],
    code="TL306",
    name="exhausted-parameter-iterator",
    severity=Severity.ERROR,
):
    """A one-shot iterator of parameters is used a second time, when nothing is left in it.

    ## Why is this bad?
    `model.parameters()`, `filter(...)`, `map(...)` and generator expressions can be walked once.
    The optimizer's constructor walks them to the end; whoever comes next gets nothing.
    `clip_grad_norm_` on an exhausted `filter` clips no gradient and returns 0 without a word; an
    exponential moving average averages nothing; a loop that freezes freezes nothing.

    ## Example
    ```python
    from torch import nn, optim, randn, randint

    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
    params = filter(lambda p: p.requires_grad, model.parameters())
    optimizer = optim.Adam(params, lr=1e-3)
    for step in range(100):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(randn(8, 16)), randint(4, (8,)))
        loss.backward()
        nn.utils.clip_grad_norm_(params, 1.0)  # error: [exhausted-parameter-iterator]
        optimizer.step()
    ```

    ## Use instead
    ```python
    from torch import nn, optim, randn, randint

    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = optim.Adam(params, lr=1e-3)
    for step in range(100):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(randn(8, 16)), randint(4, (8,)))
        loss.backward()
        nn.utils.clip_grad_norm_(params, 1.0)
        optimizer.step()
    ```

    ## Fix safety
    Safe: `list(...)` around the iterator holds the same parameters in the same order.
    """

    message = "`{name}` is used up: {by} gets no parameters"
    on = (ParametersConsumed,)
    triggers = (b"parameters", b"requires_grad")

    def check(self, event: ParametersConsumed) -> Iterator[Finding]:
        if event.earlier is None:
            return
        by = f"`{event.by}`" if event.by else "what comes here"
        yield (
            self.finding(event.site, name=event.name, by=by)
            .because(event.earlier)
            .mend(f"make `{event.name}` a list where it is bound: `list(...)`")
        )
