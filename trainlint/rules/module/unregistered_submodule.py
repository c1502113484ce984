"""TL503."""

from __future__ import annotations

from collections.abc import Iterator

from trainlint.core.diagnostic import Severity
from trainlint.core.events import ModuleClassDefined
from trainlint.core.rule import Finding, Rule

_REGISTERED = {"list": "nn.ModuleList", "tuple": "nn.ModuleList", "dict": "nn.ModuleDict"}


class UnregisteredSubmodule(
    Rule[ModuleClassDefined],
    code="TL503",
    name="unregistered-submodule",
    severity=Severity.ERROR,
):
    """Layers or parameters are kept in a plain list, dict or tuple.

    ## Why is this bad?
    A module finds its sub-modules and parameters as attributes of its own. Inside a plain
    container it does not see them: `parameters()` leaves them out, so no optimizer trains them;
    `to(device)` leaves them where they are; `eval()` does not reach them; `state_dict()` does not
    save them.

    ## Example
    ```python
    from torch import nn


    class Deep(nn.Module):
        def __init__(self, depth=4):
            super().__init__()
            self.layers = []  # error: [unregistered-submodule]
            for _ in range(depth):
                self.layers.append(nn.Linear(16, 16))
            self.out = nn.Linear(16, 4)

        def forward(self, x):
            for layer in self.layers:
                x = layer(x).relu()
            return self.out(x)
    ```

    ## Use instead
    ```python
    from torch import nn


    class Deep(nn.Module):
        def __init__(self, depth=4):
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(16, 16) for _ in range(depth)])
            self.out = nn.Linear(16, 4)

        def forward(self, x):
            for layer in self.layers:
                x = layer(x).relu()
            return self.out(x)
    ```

    ## When it is silent
    If the container is handed on to `nn.Sequential`, `nn.ModuleList` or `add_module`, if the
    layers in it are attributes as well, and where a list of one hides an existing network on
    purpose (a frozen teacher that shall not be saved with the student).

    ## Fix safety
    Unsafe: registered layers add parameters and checkpoint keys to the model.
    """

    message = (
        "`self.{attribute}` keeps layers in a plain {container}: `parameters()`, `to()`, `eval()` "
        "and `state_dict()` do not see them"
    )
    on = (ModuleClassDefined,)
    triggers = (b"Module",)
    live = True

    def check(self, event: ModuleClassDefined) -> Iterator[Finding]:
        for attribute, container, site in event.unregistered:
            registered = _REGISTERED.get(container, "nn.ModuleList")
            name = attribute.removeprefix("self.")
            yield self.finding(site, attribute=name, container=container).mend(
                f"use `{registered}(...)`, or `nn.ParameterList` for bare parameters"
            )
