"""TL003."""

from __future__ import annotations

from trainlint.core.diagnostic import Severity
from trainlint.core.events import Event
from trainlint.core.rule import Rule


class UnusedSuppression(
    Rule[Event],
    code="TL003",
    name="unused-suppression",
    severity=Severity.WARNING,
    default=False,
):
    """A suppression of our codes that suppresses nothing.

    ## Why is this bad?
    A suppression that outlived its finding hides the next one at the same place. One that names
    an unknown rule, or has no brackets, never had an effect: its author believes that something
    is suppressed that is not. Suppressions of rules that are not selected in this run are left
    alone.

    ## Example
    ```python
    optimizer = make_optimizer()  # trainlint: ignore[TL101]
    ```

    ## Use instead
    ```python
    optimizer = make_optimizer()
    ```

    ## How to configure
    Off by default; turn it on with `extend-select = ["TL003"]`.
    """

    message = "{problem}"
    triggers = (b"trainlint:", b"noqa")
