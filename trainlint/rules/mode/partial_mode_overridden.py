"""TL105."""

from __future__ import annotations

from collections.abc import Iterator

from trainlint.core.diagnostic import Severity
from trainlint.core.events import TrainStep
from trainlint.core.facts import Certainty, ModelFacts, Origin
from trainlint.core.rule import Finding, Rule
from trainlint.rules.mode.sensitivity import weighed
from trainlint.rules.wording import listed


class PartialModeOverridden(
    Rule[TrainStep], code="TL105", name="partial-mode-overridden", severity=Severity.WARNING
):
    """A part of the model is put in eval mode, and `train()` of the whole undoes it.

    ## Why is this bad?
    Whoever puts a backbone or its batch normalisation in eval mode wants its statistics to stay
    as they are. `model.train()` reaches every sub-module, so one call later, as every epoch
    makes it, the statistics move again, also where `requires_grad` is off.

    ## Example
    ```python
    import torch
    from torch import nn


    class Detector(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU())
            self.head = nn.Linear(8, 2)

        def forward(self, x):
            return self.head(self.backbone(x))


    batches = [(torch.randn(8, 4), torch.randint(2, (8,))) for _ in range(4)]
    model = Detector()
    model.backbone.eval()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for epoch in range(3):
        model.train()
        for x, y in batches:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()  # warning: [partial-mode-overridden]
            optimizer.step()
    ```

    ## Use instead
    ```python
    import torch
    from torch import nn


    class Detector(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU())
            self.head = nn.Linear(8, 2)

        def forward(self, x):
            return self.head(self.backbone(x))


    batches = [(torch.randn(8, 4), torch.randint(2, (8,))) for _ in range(4)]
    model = Detector()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for epoch in range(3):
        model.train()
        model.backbone.eval()
        for x, y in batches:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
    ```

    ## What it leaves alone
    A part that is put back in eval mode after each `train()`, a model whose own `train()` does
    so, a part whose `train` was replaced, a part that was in eval mode only to be evaluated.

    ## Fix safety
    Repeating `eval()` on the part after `train()` changes how it trains from then on.
    """

    message = (
        "{parts} of `{model}` {verb} put in eval mode, and `train()` of the whole model undoes "
        "it{when}"
    )
    on = (TrainStep,)
    triggers = (b"eval(", b"train(", b"Train", b"train_", b"freeze")
    live = True

    def check(self, event: TrainStep) -> Iterator[Finding]:
        for model in event.models:
            if model.overridden:
                yield self._undone(event, model)

    def _undone(self, event: TrainStep, model: ModelFacts) -> Finding:
        names = tuple(name for name, _, _ in model.overridden)
        finding = self.finding(
            event.site,
            parts=listed(names),
            model=model.name,
            verb="is" if len(names) == 1 else "are",
            when=event.when,
        )
        finding = finding.because(*_story(model)).mend(
            f"call `eval()` on {listed(names)} again after each `train()`, "
            "or override `train()` in the model"
        )
        return weighed(finding, _sensitivity(model, names))


def _story(model: ModelFacts) -> tuple[Origin, ...]:
    _, put_in_eval, undone = model.overridden[0]
    return put_in_eval, undone


def _sensitivity(model: ModelFacts, names: tuple[str, ...]) -> Certainty:
    """NO if it is known of every undone part that no layer in it depends on the mode."""
    if model.sensitive is Certainty.NO:
        return Certainty.NO
    indifferent = {part.name for part in model.parts if part.sensitive is Certainty.NO}
    return Certainty.NO if set(names) <= indifferent else Certainty.UNKNOWN
