"""TL604, which only a live run can show."""

from __future__ import annotations

from trainlint.core.diagnostic import Severity
from trainlint.core.events import Event
from trainlint.core.rule import Rule


class RanksDiverged(Rule[Event], code="TL604", name="ranks-diverged", severity=Severity.ERROR):
    """Parameters that should be equal on all ranks are not.

    ## Why is this bad?
    Replicas that drift apart train as many models as there are ranks; the one that is saved has
    seen a part of the data only. A bypassed wrapper, a converted DistributedDataParallel model,
    clipping on one rank, or a broken link all end here.

    ## Example
    ```python
    import torch.distributed as dist


    def clip(parameters):
        from torch.nn.utils import clip_grad_norm_

        if dist.get_rank() == 0:  # one rank only: the replicas drift apart
            clip_grad_norm_(parameters, 1.0)
    ```

    ## Use instead
    ```python
    def clip(parameters):
        from torch.nn.utils import clip_grad_norm_

        clip_grad_norm_(parameters, 1.0)
    ```

    ## What it leaves alone
    Sharded parameters (FSDP, tensor parallelism), and models that were never equal: one model per
    rank by design.

    ## How it is found
    By `trainlint.runtime` (`inspect`, `verify`, `watch`) on the running model; the text of a
    program does not show it.
    """

    message = "parameters that should be equal on all ranks are not"
    static = False
    live = True
