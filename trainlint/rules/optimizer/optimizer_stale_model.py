"""TL304."""

from __future__ import annotations

from collections.abc import Iterator

from trainlint.core.diagnostic import Severity
from trainlint.core.events import TrainStep
from trainlint.core.facts import Cause
from trainlint.core.rule import Finding, Rule

_DEEDS = {
    Cause.COPIED: "a copy has taken its place",
    Cause.REBUILT: "a new one has taken its place",
}


class OptimizerStaleModel(
    Rule[TrainStep], code="TL304", name="optimizer-stale-model", severity=Severity.ERROR
):
    """The optimizer holds the parameters of a model that was replaced.

    ## Why is this bad?
    Binding the name to another model does not tell the optimizer. It goes on stepping the
    parameters of the model that nobody runs any more, while the new one gets gradients that
    nothing uses. Nothing fails, and nothing is learnt.

    ## Example
    ```python
    import copy

    from torch import nn, optim, randn, randint

    template = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
    optimizer = optim.Adam(template.parameters(), lr=1e-3)
    model = copy.deepcopy(template)  # error: [optimizer-stale-model]
    for step in range(100):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(randn(8, 16)), randint(4, (8,)))
        loss.backward()
        optimizer.step()
    ```

    ## Use instead
    ```python
    import copy

    from torch import nn, optim, randn, randint

    template = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
    model = copy.deepcopy(template)
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    for step in range(100):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(randn(8, 16)), randint(4, (8,)))
        loss.backward()
        optimizer.step()
    ```

    ## When it is silent
    `.to()`, `.cuda()`, `.half()`, `torch.compile`, DDP and `accelerator.prepare` keep the
    parameters' identity, and `load_state_dict` copies into them: none of these makes an optimizer
    stale.

    ## Fix safety
    Unsafe: the optimizer's state belongs to the old model.
    """

    message = "`{optimizer}` steps a model that is no longer trained: {deed} in `{model}`{when}"
    on = (TrainStep,)
    triggers = (b"optim", b"backward", b"train", b"fit")
    live = True

    def check(self, event: TrainStep) -> Iterator[Finding]:
        optimizer = event.optimizer
        if optimizer is None:
            return
        for gap in optimizer.stale:
            site = gap.origin.site if gap.origin else event.site
            deed = _DEEDS.get(gap.cause, _DEEDS[Cause.REBUILT])
            yield (
                self.finding(
                    site,
                    optimizer=optimizer.name,
                    deed=deed,
                    model=gap.model,
                    when=event.when,
                )
                .because(optimizer.created, gap.origin)
                .mend("build the optimizer from the model that is trained")
            )
