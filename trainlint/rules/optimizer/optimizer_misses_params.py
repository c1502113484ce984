"""TL303."""

from __future__ import annotations

from collections.abc import Iterator

from trainlint.core.diagnostic import Severity
from trainlint.core.events import TrainStep
from trainlint.core.facts import Cause, OptimizerFacts, ParameterGap, Site
from trainlint.core.rule import Finding, Rule

_DEEDS = {
    Cause.PEFT_INJECTION: "put in",
    Cause.PEFT_ACTIVATION: "made trainable",
    Cause.HEAD_REPLACED: "made",
    Cause.UNFROZEN: "unfrozen",
}


class OptimizerMissesParams(
    Rule[TrainStep], code="TL303", name="optimizer-misses-params", severity=Severity.ERROR
):
    """Parameters that train came after the optimizer had taken its own.

    ## Why is this bad?
    An optimizer keeps the very tensors that it was given. A head that is assigned afterwards,
    adapters that `get_peft_model` puts in afterwards, or layers that are unfrozen after a
    filtered optimizer was built, get gradients in every backward, and nothing ever moves them.
    No error, no warning: the loss falls a little where other parameters can make up for it, or
    stays where it is.

    ## Example
    ```python
    from torch import nn, optim, randn, randint
    from torchvision.models import resnet18

    model = resnet18()
    optimizer = optim.SGD(model.parameters(), lr=0.01)
    model.fc = nn.Linear(512, 4)  # error: [optimizer-misses-params]
    for step in range(100):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(randn(8, 3, 64, 64)), randint(4, (8,)))
        loss.backward()
        optimizer.step()
    ```

    ## Use instead
    ```python
    from torch import nn, optim, randn, randint
    from torchvision.models import resnet18

    model = resnet18()
    model.fc = nn.Linear(512, 4)
    optimizer = optim.SGD(model.parameters(), lr=0.01)
    for step in range(100):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(randn(8, 3, 64, 64)), randint(4, (8,)))
        loss.backward()
        optimizer.step()
    ```

    ## When it is silent
    If the optimizer is rebuilt, or gets the new parameters through `add_param_group`, or if
    another optimizer holds them.

    ## Fix safety
    Unsafe: moving the optimizer below the change moves its scheduler and its checkpoint with it.
    """

    message = "the optimizer never gets {what}: {deed} after `{optimizer}` took its parameters"
    on = (TrainStep,)
    triggers = (b"optim", b"backward", b"train", b"fit")
    live = True

    def check(self, event: TrainStep) -> Iterator[Finding]:
        if event.optimizer is None:
            return
        for gap in event.optimizer.missing:
            if gap.cause in _DEEDS:
                site = gap.origin.site if gap.origin else event.site
                yield self._about(gap, site, event.optimizer)

    def _about(self, gap: ParameterGap, site: Site, optimizer: OptimizerFacts) -> Finding:
        return (
            self.finding(site, what=gap.what, deed=_DEEDS[gap.cause], optimizer=optimizer.name)
            .because(optimizer.created, gap.origin)
            .mend("build the optimizer afterwards, or give it the new ones by `add_param_group`")
        )
