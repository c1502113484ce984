"""TL302."""

from __future__ import annotations

from collections.abc import Iterator

from trainlint.core.diagnostic import Severity
from trainlint.core.events import TrainStep
from trainlint.core.facts import OptimizerFacts, Share, Site
from trainlint.core.rule import Finding, Rule

_COSTLY = {
    "LBFGS": "LBFGS keeps its history over all of them, the frozen ones too",
}


class OptimizerIncludesFrozenParams(
    Rule[TrainStep],
    code="TL302",
    name="optimizer-includes-frozen-params",
    severity=Severity.INFO,
):
    """Some of what the optimizer was given is frozen.

    ## Why does it matter?
    Mostly it does not, and so this is information and no alarm. torch's own optimizers skip a
    parameter whose `.grad` is None: no update, no weight decay, no state. That AdamW "decays
    frozen weights" is folklore. PEFT's own guides pass `model.parameters()` with the base frozen.

    What it does cost: the list of parameters says something else than what trains, and whoever
    unfreezes a layer later, or freezes one after its first backward (see TL305), meets a
    surprise. `LBFGS` flattens all it is given, so there frozen parameters cost memory in every
    entry of its history: then it is a warning.

    ## Example
    ```python
    from torch import nn, optim, randn, randint

    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
    for parameter in model[0].parameters():
        parameter.requires_grad = False

    optimizer = optim.AdamW(model.parameters(), lr=1e-3)  # info: [optimizer-includes-frozen-params]
    for step in range(100):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(randn(8, 16)), randint(4, (8,)))
        loss.backward()
        optimizer.step()
    ```

    ## Use instead
    ```python
    from torch import nn, optim, randn, randint

    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
    for parameter in model[0].parameters():
        parameter.requires_grad = False

    optimizer = optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    for step in range(100):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(randn(8, 16)), randint(4, (8,)))
        loss.backward()
        optimizer.step()
    ```

    ## Fix safety
    Unsafe: a schedule that unfreezes layers later relies on the optimizer holding them already.
    """

    message = "{holder} holds frozen parameters{when}: {consequence}"
    on = (TrainStep,)
    triggers = (b"requires_grad", b"optim", b"peft", b"freeze", b"train")
    live = True

    def check(self, event: TrainStep) -> Iterator[Finding]:
        optimizer = event.optimizer
        if optimizer is None or optimizer.frozen is not Share.SOME:
            return
        if (
            optimizer.given_frozen is Share.NONE
            or optimizer.missing
            or optimizer.stale
            or optimizer.moves_frozen
        ):
            return
        site = optimizer.created.site if optimizer.created else event.site
        yield self._about(optimizer, site, event.when)

    def _about(self, optimizer: OptimizerFacts, site: Site, when: str) -> Finding:
        costly = _COSTLY.get(optimizer.kind)
        harmless = f"harmless with {optimizer.kind} while their gradients are None"
        holder = f"`{optimizer.name}`" if optimizer.name else optimizer.kind
        finding = (
            self.finding(site, holder=holder, when=when, consequence=costly or harmless)
            .because(optimizer.frozen_origin)
            .mend("pass `[p for p in model.parameters() if p.requires_grad]`")
        )
        return finding.at(Severity.WARNING) if costly else finding
