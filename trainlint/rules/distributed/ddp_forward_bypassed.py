"""TL601."""

from __future__ import annotations

from collections.abc import Iterator

from trainlint.core.diagnostic import Severity
from trainlint.core.events import WrapperBypassed
from trainlint.core.rule import Finding, Rule


class DdpForwardBypassed(
    Rule[WrapperBypassed], code="TL601", name="ddp-forward-bypassed", severity=Severity.ERROR
):
    """The trained forward goes through `.module` and past DistributedDataParallel.

    ## Why is this bad?
    DDP averages the gradients of all processes, and it prepares for that in its own `forward`.
    `ddp.module(x)` runs the bare model: backward works, every process steps on the gradients of
    its own shard, and the copies drift apart from the first step on. Nothing fails, and the
    checkpoint of rank 0 is a model that saw only its share of the data.

    ## Example
    ```python
    import torch.distributed as dist
    from torch import nn, optim, randn, randint
    from torch.nn.parallel import DistributedDataParallel

    dist.init_process_group("gloo")
    model = DistributedDataParallel(nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4)))
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    for step in range(100):
        optimizer.zero_grad()
        logits = model.module(randn(8, 16))  # error: [ddp-forward-bypassed]
        loss = nn.functional.cross_entropy(logits, randint(4, (8,)))
        loss.backward()
        optimizer.step()
    ```

    ## Use instead
    ```python
    import torch.distributed as dist
    from torch import nn, optim, randn, randint
    from torch.nn.parallel import DistributedDataParallel

    dist.init_process_group("gloo")
    model = DistributedDataParallel(nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4)))
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    for step in range(100):
        optimizer.zero_grad()
        logits = model(randn(8, 16))
        loss = nn.functional.cross_entropy(logits, randint(4, (8,)))
        loss.backward()
        optimizer.step()
    ```

    ## When it is silent
    `.module` for evaluation, generation, saving or an average of the weights is right. So is
    reading an attribute of the inner model.

    ## Fix safety
    Unsafe: a method other than `forward` has to be reached through `forward` first.
    """

    message = "the trained forward goes past `{wrapper}`: gradients are not averaged over processes"
    on = (WrapperBypassed,)
    triggers = (b".module", b"unwrap", b"DistributedDataParallel", b"DDP", b"train")
    live = True

    def check(self, event: WrapperBypassed) -> Iterator[Finding]:
        yield self.finding(event.site, wrapper=event.wrapper).mend(
            f"call `{event.wrapper}(...)` itself"
        )
