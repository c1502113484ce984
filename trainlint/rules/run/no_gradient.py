"""TL701, which only a live run can show."""

from __future__ import annotations

from trainlint.core.diagnostic import Severity
from trainlint.core.events import Event
from trainlint.core.rule import Rule


class NoGradient(Rule[Event], code="TL701", name="no-gradient", severity=Severity.ERROR):
    """A parameter that is meant to train got no gradient.

    ## Why is this bad?
    The optimizer skips it: it keeps its initial value while the loss falls on the strength of the
    rest. It is info where the module took no part in the forward, and an error where it ran and the
    loss does not reach it.

    ## Example
    ```python
    import torch
    from torch import nn


    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Linear(4, 4)
            self.head = nn.Linear(4, 2)

        def forward(self, x):
            hidden = self.encoder(x).detach()  # the encoder gets no gradient
            return self.head(hidden)
    ```

    ## Use instead
    ```python
    import torch
    from torch import nn


    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Linear(4, 4)
            self.head = nn.Linear(4, 2)

        def forward(self, x):
            return self.head(self.encoder(x))
    ```

    ## What it leaves alone
    A parameter that gets its gradient in the next step, modules that a batch does not use (experts,
    poolers: info), closures, and optimizers that wait for their turn.

    ## How it is found
    By `trainlint.runtime` (`inspect`, `verify`, `watch`) on the running model; the text of a
    program does not show it.
    """

    message = "a parameter that is meant to train got no gradient"
    static = False
    live = True
