"""TL301."""

from __future__ import annotations

from collections.abc import Iterator

from trainlint.core.diagnostic import Severity
from trainlint.core.events import TrainStep
from trainlint.core.facts import Cause, Share
from trainlint.core.rule import Finding, Rule

_TOLD_BY_PEFT_RULES = frozenset(
    {
        Cause.PEFT_LOADED_FROZEN,
        Cause.PEFT_INFERENCE_CONFIG,
        Cause.PEFT_KBIT_AFTER,
        Cause.PEFT_FROZEN_BY_HAND,
    }
)


class OptimizerOverFrozenParams(
    Rule[TrainStep], code="TL301", name="optimizer-over-frozen-params", severity=Severity.ERROR
):
    """Everything that the optimizer was given is frozen.

    ## Why is this bad?
    An optimizer takes any parameter, trainable or not. If all of them have
    `requires_grad=False`, no gradient ever reaches it: the loop runs, the learning rate decays,
    checkpoints are written, and no weight moves. Where nothing else in the loss needs a gradient,
    `backward()` raises "element 0 of tensors does not require grad"; gradient checkpointing, or
    a second network that does train, hides even that.

    ## Example
    ```python
    from torch import nn, optim, randn, randint

    backbone = nn.Sequential(nn.Linear(16, 32), nn.ReLU())
    head = nn.Linear(32, 4)
    for parameter in backbone.parameters():
        parameter.requires_grad = False

    optimizer = optim.SGD(backbone.parameters(), lr=0.1)  # error: [optimizer-over-frozen-params]
    for step in range(100):
        optimizer.zero_grad()
        head.zero_grad()
        loss = nn.functional.cross_entropy(head(backbone(randn(8, 16))), randint(4, (8,)))
        loss.backward()
        optimizer.step()
    ```

    ## Use instead
    ```python
    from torch import nn, optim, randn, randint

    backbone = nn.Sequential(nn.Linear(16, 32), nn.ReLU())
    head = nn.Linear(32, 4)
    for parameter in backbone.parameters():
        parameter.requires_grad = False

    optimizer = optim.SGD(head.parameters(), lr=0.1)
    for step in range(100):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(head(backbone(randn(8, 16))), randint(4, (8,)))
        loss.backward()
        optimizer.step()
    ```

    ## When it is silent
    While anything among the optimizer's parameters may train: prompts, latents or inputs that are
    optimised through a frozen network, layers that are unfrozen before the step. Frozen adapters
    have rules of their own (TL401 to TL404).

    ## Fix safety
    There is no fix: only you know whether the freezing or the optimizer is wrong.
    """

    message = "nothing trains{when}: {holder} is frozen"
    on = (TrainStep,)
    triggers = (b"requires_grad", b"optim", b"freeze", b"train")
    live = True

    def check(self, event: TrainStep) -> Iterator[Finding]:
        if any(model.frozen.cause in _TOLD_BY_PEFT_RULES for model in event.models):
            return
        if event.optimizer is not None:
            yield from self._of_optimizer(event)
        elif event.framework and event.nothing_trains:
            yield from self._of_framework(event)

    def _of_optimizer(self, event: TrainStep) -> Iterator[Finding]:
        optimizer = event.optimizer
        if optimizer is None or optimizer.frozen is not Share.ALL:
            return
        if optimizer.missing or optimizer.stale:
            return
        site = optimizer.created.site if optimizer.created else event.site
        holder = f"everything that `{optimizer.name}` ({optimizer.kind}) holds"
        yield (
            self.finding(site, holder=holder, when=event.when)
            .because(optimizer.frozen_origin)
            .mend("give the optimizer what shall train, or unfreeze it before")
        )

    def _of_framework(self, event: TrainStep) -> Iterator[Finding]:
        model = event.models[0]
        yield (
            self.finding(event.site, holder=f"every parameter of `{model.name}`", when=event.when)
            .because(model.trainable.origin)
            .mend("unfreeze what shall train before the trainer starts")
        )
