"""TL102."""

from __future__ import annotations

from collections.abc import Iterator

from trainlint.core.diagnostic import Severity
from trainlint.core.events import Evaluation
from trainlint.core.facts import Cause, Certainty, Mode
from trainlint.core.rule import Finding, Rule
from trainlint.rules.mode.evaluation import is_relied_on
from trainlint.rules.mode.sensitivity import harm_in_train_mode, weighed


class EvalInTrainMode(
    Rule[Evaluation], code="TL102", name="eval-in-train-mode", severity=Severity.WARNING
):
    """An evaluation, sampling or inference runs on a model that is in train mode.

    ## Why is this bad?
    Dropout drops, so scores are too low and differ from run to run. Batch normalisation uses the
    statistics of the batch at hand, so a sample's score depends on its neighbours, and it folds
    the evaluation data into the statistics that the model keeps. `torch.no_grad()` changes
    nothing about that: gradients and modes are independent switches.

    ## Example
    ```python
    import torch
    from torch import nn


    def evaluate(model, batches):
        correct = 0
        with torch.no_grad():
            for x, y in batches:
                logits = model(x)  # warning: [eval-in-train-mode]
                correct += (logits.argmax(1) == y).sum().item()
        return correct


    batches = [(torch.randn(8, 4), torch.randint(2, (8,))) for _ in range(4)]
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for epoch in range(3):
        model.train()
        for x, y in batches:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
        print(evaluate(model, batches))
    ```

    ## Use instead
    ```python
    import torch
    from torch import nn


    def evaluate(model, batches):
        correct = 0
        model.eval()
        with torch.no_grad():
            for x, y in batches:
                logits = model(x)
                correct += (logits.argmax(1) == y).sum().item()
        return correct


    batches = [(torch.randn(8, 4), torch.randint(2, (8,))) for _ in range(4)]
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for epoch in range(3):
        model.train()
        for x, y in batches:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
        print(evaluate(model, batches))
    ```

    ## What it leaves alone
    Monte-Carlo dropout and passes that refresh batch statistics (`train()` is called for them),
    torchvision's detectors asked for a validation loss, smoke tests of a fresh model, models
    whose mode only the caller knows. A model without a layer that depends on the mode is
    information only.

    ## Fix safety
    `model.eval()` before the evaluation needs a `model.train()` before training goes on.
    """

    message = "`{model}` is evaluated in train mode{when}: {harm}"
    on = (Evaluation,)
    triggers = (
        b"no_grad",
        b"inference_mode",
        b"set_grad_enabled",
        b"val",
        b"test",
        b"predict",
        b"infer",
        b"sample",
        b"generate",
        b"train",
    )
    live = True

    def check(self, event: Evaluation) -> Iterator[Finding]:
        model = event.model
        if model.mode.mode is not Mode.TRAIN or not is_relied_on(event) or _is_meant(event):
            return
        finding = self.finding(
            event.site, model=model.name, when=event.when, harm=harm_in_train_mode(model)
        )
        finding = finding.because(model.mode.origin, event.trained_elsewhere)
        yield weighed(
            finding.mend(
                f"call `{model.name}.eval()` before it, and `{model.name}.train()` before "
                "training goes on"
            ),
            model.sensitive,
        )


def _is_meant(event: Evaluation) -> bool:
    """The same function called `train()` for just this pass: Monte-Carlo dropout and the like."""
    mode = event.model.mode
    here = mode.by.removesuffix("()") == event.function
    return mode.cause is Cause.EXPLICIT_CALL and event.model.trained is Certainty.NO and here
