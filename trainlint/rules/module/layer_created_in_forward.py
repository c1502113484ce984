"""TL502."""

from __future__ import annotations

from collections.abc import Iterator

from trainlint.core import events
from trainlint.core.diagnostic import Severity
from trainlint.core.rule import Finding, Rule


class LayerCreatedInForward(
    Rule[events.LayerCreatedInForward],
    code="TL502",
    name="layer-created-in-forward",
    severity=Severity.ERROR,
):
    """A layer with weights or with modes is made anew in every `forward`.

    ## Why is this bad?
    A module that is made in `forward` is no part of the model. `eval()` does not reach it, so an
    `nn.Dropout` made there always drops and an `nn.BatchNorm1d` always normalises by the batch.
    Its weights are in no optimizer, in no checkpoint, and random again at the next call.

    ## Example
    ```python
    from torch import nn


    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden = nn.Linear(16, 32)
            self.out = nn.Linear(32, 4)

        def forward(self, x):
            x = self.hidden(x).relu()
            x = nn.Dropout(0.5)(x)  # error: [layer-created-in-forward]
            return self.out(x)
    ```

    ## Use instead
    ```python
    from torch import nn


    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden = nn.Linear(16, 32)
            self.dropout = nn.Dropout(0.5)
            self.out = nn.Linear(32, 4)

        def forward(self, x):
            x = self.dropout(self.hidden(x).relu())
            return self.out(x)
    ```

    ## When it is silent
    For layers that have neither weights nor modes (`nn.ReLU()(x)`, `nn.Softmax(dim=1)(x)`: a
    waste, no defect), and for a layer that is made once and kept on `self`.

    ## Fix safety
    Unsafe: a layer with weights that moves to `__init__` adds parameters to the model and keys
    to its checkpoints.
    """

    message = "`{layer}` is made anew in every forward: {consequence}"
    on = (events.LayerCreatedInForward,)
    triggers = (b"nn",)

    def check(self, event: events.LayerCreatedInForward) -> Iterator[Finding]:
        if event.parametric:
            consequence = "its weights are new at each call and nothing trains them"
        elif event.sensitive:
            consequence = "`eval()` does not reach it"
        else:
            return
        yield self.finding(event.site, layer=event.layer, consequence=consequence).mend(
            "make it in `__init__` and keep it on `self`"
        )
