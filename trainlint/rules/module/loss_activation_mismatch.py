"""TL505."""

from __future__ import annotations

from collections.abc import Iterator

from trainlint.core.diagnostic import Severity
from trainlint.core.events import LossApplied
from trainlint.core.rule import Finding, Rule

_CROSS_ENTROPY = {
    "softmax": "it applies log-softmax itself, so softmax is applied twice",
    "sigmoid": "it wants logits, and sigmoid squeezes them into 0..1",
    "relu": "it wants logits, and ReLU cuts off the negative ones",
}
_WITH_LOGITS = {
    "sigmoid": "it applies sigmoid itself, so sigmoid is applied twice",
    "softmax": "it wants logits, and softmax turns them into probabilities",
    "relu": "it wants logits, and ReLU allows no probability below one half",
}
_BINARY = {
    "none": "it wants probabilities, and these are raw logits",
    "relu": "it wants probabilities, and ReLU's output may exceed 1",
    "log_softmax": "it wants probabilities, and these are their logarithms",
}
_NEGATIVE_LIKELIHOOD = {
    "none": "it wants log-probabilities, and these are raw logits",
    "softmax": "it wants log-probabilities, and these are probabilities",
    "sigmoid": "it wants log-probabilities, and these are probabilities",
    "relu": "it wants log-probabilities, and ReLU's output is not negative",
}
_MISMATCHES = {
    "CrossEntropyLoss": _CROSS_ENTROPY,
    "cross_entropy": _CROSS_ENTROPY,
    "BCEWithLogitsLoss": _WITH_LOGITS,
    "binary_cross_entropy_with_logits": _WITH_LOGITS,
    "BCELoss": _BINARY,
    "binary_cross_entropy": _BINARY,
    "NLLLoss": _NEGATIVE_LIKELIHOOD,
    "NLLLoss2d": _NEGATIVE_LIKELIHOOD,
    "nll_loss": _NEGATIVE_LIKELIHOOD,
}
_CURES = {
    "CrossEntropyLoss": "give it the output of the last linear layer",
    "BCEWithLogitsLoss": "give it the output of the last linear layer",
    "BCELoss": "use BCEWithLogitsLoss on the logits, or apply sigmoid before",
    "NLLLoss": "use CrossEntropyLoss on the logits, or apply log_softmax before",
}


class LossActivationMismatch(
    Rule[LossApplied], code="TL505", name="loss-activation-mismatch", severity=Severity.WARNING
):
    """The loss applies an activation that the output already has, or needs one that it lacks.

    ## Why is this bad?
    `CrossEntropyLoss` and `BCEWithLogitsLoss` apply their activation themselves, in a form that
    is numerically safe. After a softmax, cross entropy can no longer get near zero (with ten
    classes it ends at 1.46), and its gradients are small just where the model is wrong: training
    works a little and stops early. `BCELoss` on raw logits raises or gives NaN; `NLLLoss` on
    anything but log-probabilities minimises a number that is not a likelihood.

    ## Example
    ```python
    from torch import nn, optim, randn, randint

    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4), nn.Softmax(dim=1))
    criterion = nn.CrossEntropyLoss()
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    for step in range(100):
        optimizer.zero_grad()
        output = model(randn(8, 16))
        loss = criterion(output, randint(4, (8,)))  # warning: [loss-activation-mismatch]
        loss.backward()
        optimizer.step()
    ```

    ## Use instead
    ```python
    from torch import nn, optim, randn, randint

    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
    criterion = nn.CrossEntropyLoss()
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    for step in range(100):
        optimizer.zero_grad()
        loss = criterion(model(randn(8, 16)), randint(4, (8,)))
        loss.backward()
        optimizer.step()
    ```

    ## When it is silent
    For a softmax that only metrics or sampling see, a ReLU before the last linear layer,
    `log_softmax` with `NLLLoss` or `KLDivLoss`, and `log_softmax` before `CrossEntropyLoss`
    (applying it twice changes nothing).

    ## Fix safety
    Unsafe: an activation that the model loses is missing wherever its output is read.
    """

    message = "`{loss}` gets {output}{of}: {reason}"
    on = (LossApplied,)
    triggers = (b"cross_entropy", b"CrossEntropy", b"BCE", b"NLLLoss", b"nll_loss")

    def check(self, event: LossApplied) -> Iterator[Finding]:
        loss = event.loss.rsplit(".", 1)[-1]
        mismatches = _MISMATCHES.get(loss)
        if mismatches is None or event.activation not in mismatches:
            return
        output = "raw logits" if event.activation == "none" else f"a {event.activation} output"
        yield (
            self.finding(
                event.site,
                loss=loss,
                output=output,
                of=f" of `{event.model}`" if event.model else "",
                reason=mismatches[event.activation],
            )
            .because(event.activation_origin)
            .mend(_cure(mismatches))
        )


def _cure(mismatches: dict[str, str]) -> str:
    return next(cure for loss, cure in _CURES.items() if _MISMATCHES[loss] is mismatches)
