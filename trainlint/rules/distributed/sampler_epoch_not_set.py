"""TL602."""

from __future__ import annotations

from collections.abc import Iterator

from trainlint.core.diagnostic import Severity
from trainlint.core.events import EpochLoop
from trainlint.core.facts import Certainty
from trainlint.core.rule import Finding, Rule


class SamplerEpochNotSet(
    Rule[EpochLoop], code="TL602", name="sampler-epoch-not-set", severity=Severity.WARNING
):
    """A shuffling DistributedSampler draws the same order in every epoch.

    ## Why is this bad?
    DistributedSampler shuffles with a generator seeded by its own `seed` plus the epoch, and it
    only knows the epoch if `set_epoch` tells it. Without that every epoch sees the same batches
    in the same order, and each process sees the same shard for ever.

    ## Example
    ```python
    from torch import nn, optim, randn
    from torch.utils.data import DataLoader, TensorDataset
    from torch.utils.data.distributed import DistributedSampler

    dataset = TensorDataset(randn(64, 16), randn(64, 1))
    sampler = DistributedSampler(dataset, num_replicas=2, rank=0)
    loader = DataLoader(dataset, batch_size=8, sampler=sampler)
    model = nn.Linear(16, 1)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    for epoch in range(10):  # warning: [sampler-epoch-not-set]
        for inputs, targets in loader:
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(inputs), targets)
            loss.backward()
            optimizer.step()
    ```

    ## Use instead
    ```python
    from torch import nn, optim, randn
    from torch.utils.data import DataLoader, TensorDataset
    from torch.utils.data.distributed import DistributedSampler

    dataset = TensorDataset(randn(64, 16), randn(64, 1))
    sampler = DistributedSampler(dataset, num_replicas=2, rank=0)
    loader = DataLoader(dataset, batch_size=8, sampler=sampler)
    model = nn.Linear(16, 1)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    for epoch in range(10):
        sampler.set_epoch(epoch)
        for inputs, targets in loader:
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(inputs), targets)
            loss.backward()
            optimizer.step()
    ```

    ## When it is silent
    With `shuffle=False`, for a single pass, where the sampler is made anew in each epoch, and
    where accelerate, Lightning or HF's Trainer own the loop and set the epoch themselves.

    ## Fix safety
    Unsafe: the order of the data changes, as it should.
    """

    message = "`{sampler}` draws the same order in every epoch: nothing calls `set_epoch`"
    on = (EpochLoop,)
    triggers = (b"DistributedSampler", b"loader", b"epoch")

    def check(self, event: EpochLoop) -> Iterator[Finding]:
        if event.managed or event.epoch_set is not Certainty.NO:
            return
        if event.shuffles is not Certainty.YES:
            return
        yield self.finding(event.site, sampler=event.sampler).mend(
            f"call `{event.sampler}.set_epoch(epoch)` at the head of each epoch"
        )
