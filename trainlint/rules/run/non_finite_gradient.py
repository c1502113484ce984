"""TL702, which only a live run can show."""

from __future__ import annotations

from trainlint.core.diagnostic import Severity
from trainlint.core.events import Event
from trainlint.core.rule import Rule


class NonFiniteGradient(
    Rule[Event], code="TL702", name="non-finite-gradient", severity=Severity.ERROR
):
    """NaN or infinity in a gradient that reaches the step.

    ## Why is this bad?
    One such step makes every parameter it touches NaN, and momentum keeps it so. Everything
    after it is lost.

    ## Example
    ```python
    import torch


    def step(model, optimizer, x):
        optimizer.zero_grad()
        torch.sqrt(model(x) * 0.0).sum().backward()  # the derivative at 0 is infinite
        optimizer.step()
    ```

    ## Use instead
    ```python
    import torch


    def step(model, optimizer, x):
        optimizer.zero_grad()
        torch.sqrt(model(x).abs() + 1e-8).sum().backward()
        optimizer.step()
    ```

    ## What it leaves alone
    Steps that a GradScaler skips. Off the CPU nothing is tested, since reading a value would
    synchronise the device.

    ## How it is found
    By `trainlint.runtime` (`inspect`, `verify`, `watch`) on the running model; the text of a
    program does not show it.
    """

    message = "naN or infinity in a gradient that reaches the step"
    static = False
    live = True
