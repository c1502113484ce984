"""TL704, which only a live run can show."""

from __future__ import annotations

from trainlint.core.diagnostic import Severity
from trainlint.core.events import Event
from trainlint.core.rule import Rule


class EvalChangedState(
    Rule[Event], code="TL704", name="eval-changed-state", severity=Severity.WARNING
):
    """An evaluation forward changed buffers or weights.

    ## Why is this bad?
    Evaluating must not change what is evaluated. Running statistics that move during it learn the
    validation data; a weight computed anew (`spectral_norm` before its first training forward)
    makes every evaluation a different model.

    ## Example
    ```python
    from torch import nn


    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 2)
            self.register_buffer("mean", self.layer.weight.new_zeros(2))

        def forward(self, x):
            out = self.layer(x)
            self.mean.mul_(0.9).add_(out.detach().mean(0), alpha=0.1)  # in eval mode too
            return out - self.mean
    ```

    ## Use instead
    ```python
    from torch import nn


    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 2)
            self.register_buffer("mean", self.layer.weight.new_zeros(2))

        def forward(self, x):
            out = self.layer(x)
            if self.training:
                self.mean.mul_(0.9).add_(out.detach().mean(0), alpha=0.1)
            return out - self.mean
    ```

    ## What it leaves alone
    Buffers that are not saved (caches), and evaluations in train mode, of which
    `eval-in-train-mode` speaks.

    ## How it is found
    By `trainlint.runtime` (`inspect`, `verify`, `watch`) on the running model; the text of a
    program does not show it.
    """

    message = "an evaluation forward changed buffers or weights"
    static = False
    live = True
