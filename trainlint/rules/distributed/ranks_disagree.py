"""TL603, which only a live run can show."""

from __future__ import annotations

from trainlint.core.diagnostic import Severity
from trainlint.core.events import Event
from trainlint.core.rule import Rule


class RanksDisagree(Rule[Event], code="TL603", name="ranks-disagree", severity=Severity.ERROR):
    """Training flags, trainable parameters or adapter status differ between ranks.

    ## Why is this bad?
    One rank that evaluates, or has a frozen adapter, makes the others wait for gradients that never
    come, or averages its different results into theirs without an error.

    ## Example
    ```python
    import torch.distributed as dist


    def prepare(model):
        if dist.get_rank() == 0:
            model.eval()  # the other ranks stay in train mode
        return model
    ```

    ## Use instead
    ```python
    def prepare(model):
        model.eval()
        return model
    ```

    ## What it leaves alone
    Programs with one process, and what differs between ranks by design: data, and the parameters
    of sharded or tensor-parallel models.

    ## How it is found
    By `trainlint.runtime` (`inspect`, `verify`, `watch`) on the running model; the text of a
    program does not show it.
    """

    message = "training flags, trainable parameters or adapter status differ between ranks"
    static = False
    live = True
