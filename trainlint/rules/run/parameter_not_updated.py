"""TL703, which only a live run can show."""

from __future__ import annotations

from trainlint.core.diagnostic import Severity
from trainlint.core.events import Event
from trainlint.core.rule import Rule


class ParameterNotUpdated(
    Rule[Event], code="TL703", name="parameter-not-updated", severity=Severity.WARNING
):
    """Gradients arrive, the step runs, and the parameters do not move.

    ## Why is this bad?
    The learning rate is 0, or updates are too small for the parameters' precision: time and energy
    go into a model that stays what it was.

    ## Example
    ```python
    import torch


    def build(model):
        return torch.optim.AdamW(model.parameters(), lr=0.0)
    ```

    ## Use instead
    ```python
    import torch


    def build(model):
        return torch.optim.AdamW(model.parameters(), lr=1e-4)
    ```

    ## What it leaves alone
    A learning rate of 0 in the first steps or under a scheduler, zero gradients (LoRA's first
    step), steps that a GradScaler skips.

    ## How it is found
    By `trainlint.runtime` (`inspect`, `verify`, `watch`) on the running model; the text of a
    program does not show it.
    """

    message = "gradients arrive, the step runs, and the parameters do not move"
    static = False
    live = True
