"""TL004."""

from __future__ import annotations

from trainlint.core.diagnostic import Severity
from trainlint.core.events import Event
from trainlint.core.rule import Rule


class UnusedPerFileIgnore(
    Rule[Event],
    code="TL004",
    name="unused-per-file-ignore",
    severity=Severity.WARNING,
    default=False,
):
    """A `per-file-ignores` entry that matches nothing.

    ## Why is this bad?
    An entry whose files were moved or whose findings were mended stays behind and hides the next
    finding of that rule there, or never worked because its pattern has a typing error. It is
    reported at the configuration file when a run checked files below that file's folder and the
    entry suppressed nothing in any of them. Codes that are not selected in this run are left
    alone.

    ## Example
    ```toml
    [tool.trainlint]
    per-file-ignores = {"test/*" = ["TL201"]}   # the folder is called `tests`
    ```

    ## Use instead
    ```toml
    [tool.trainlint]
    per-file-ignores = {"tests/*" = ["TL201"]}
    ```

    ## How to configure
    Off by default; turn it on with `extend-select = ["TL004"]`. Meant for runs over the whole
    project: a run over some of its files cannot tell.
    """

    message = "{problem}"
