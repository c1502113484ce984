"""TL501."""

from __future__ import annotations

from collections.abc import Iterator

from trainlint.core.diagnostic import Severity
from trainlint.core.events import FunctionalDropout
from trainlint.core.facts import Certainty
from trainlint.core.rule import Finding, Rule

_ATTENTION = "scaled_dot_product_attention"
_ON_BY_DEFAULT = frozenset(
    {
        "dropout",
        "dropout1d",
        "dropout2d",
        "dropout3d",
        "feature_dropout",
        "multi_head_attention_forward",
        _ATTENTION,
    }
)


class FunctionalDropoutAlwaysOn(
    Rule[FunctionalDropout],
    code="TL501",
    name="functional-dropout-always-on",
    severity=Severity.ERROR,
):
    """A functional dropout that `model.eval()` cannot switch off.

    ## Why is this bad?
    `F.dropout(x, p)` does not know the module that it stands in: its `training` argument is True
    unless you say otherwise. `F.scaled_dot_product_attention` has no such argument at all and
    applies any `dropout_p` that it is given. Evaluation then runs with dropout on: predictions
    are worse than they need be, and different at each call.

    ## Example
    ```python
    import torch.nn.functional as F
    from torch import nn


    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden = nn.Linear(16, 32)
            self.out = nn.Linear(32, 4)

        def forward(self, x):
            x = F.relu(self.hidden(x))
            x = F.dropout(x, 0.5)  # error: [functional-dropout-always-on]
            return self.out(x)
    ```

    ## Use instead
    ```python
    import torch.nn.functional as F
    from torch import nn


    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden = nn.Linear(16, 32)
            self.out = nn.Linear(32, 4)

        def forward(self, x):
            x = F.relu(self.hidden(x))
            x = F.dropout(x, 0.5, training=self.training)
            return self.out(x)
    ```

    ## When it is silent
    If `training` is given, if the call stands under `if self.training`, if the probability is
    zero, and outside of modules. A literal `training=True` is taken for an intention: Monte-Carlo
    dropout, a prenet that needs it. `F.alpha_dropout`, `F.feature_alpha_dropout` and `F.rrelu`
    are off by default and not meant here.

    ## Fix safety
    Safe: in train mode nothing changes, in eval mode the dropout is off.
    """

    message = "`{callee}` drops in eval mode too: {reason}"
    on = (FunctionalDropout,)
    triggers = (b"dropout", b"multi_head_attention_forward")
    live = True

    def check(self, event: FunctionalDropout) -> Iterator[Finding]:
        function = event.callee.rsplit(".", 1)[-1]
        if function not in _ON_BY_DEFAULT or not event.in_module or event.guarded:
            return
        if event.training != "missing" or event.probability_zero is Certainty.YES:
            return
        if function == _ATTENTION:
            reason = "its `dropout_p` always applies"
            advice = "write `dropout_p=p if self.training else 0.0`"
        else:
            reason = "its `training` is True unless it is given"
            advice = "add `training=self.training`"
        yield self.finding(event.site, callee=function, reason=reason).mend(advice)
