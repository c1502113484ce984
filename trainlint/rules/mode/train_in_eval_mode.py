"""TL101."""

from __future__ import annotations

from collections.abc import Iterator

from trainlint.core.diagnostic import Severity
from trainlint.core.events import TrainStep
from trainlint.core.facts import Cause, Certainty, ModeFact, ModelFacts, Share
from trainlint.core.rule import Finding, Rule
from trainlint.rules.mode.sensitivity import (
    as_versions_differ,
    eval_where_it_matters,
    only_statistics,
    weighed,
)


class TrainInEvalMode(
    Rule[TrainStep], code="TL101", name="train-in-eval-mode", severity=Severity.ERROR
):
    """A training step runs on a model that is in eval mode.

    ## Why is this bad?
    In eval mode dropout does nothing and batch normalisation uses its stored statistics and does
    not update them. Gradients flow and the optimizer steps, so nothing crashes: the model just
    trains without the regularisation that it was written with. The mode stays until somebody
    changes it, so one `evaluate()` in the middle of training switches it for all that follows,
    and `from_pretrained` of transformers and diffusers returns a model in eval mode.

    ## Example
    ```python
    import torch
    from torch import nn


    def evaluate(model, batches):
        model.eval()
        with torch.no_grad():
            return sum((model(x).argmax(1) == y).sum().item() for x, y in batches)


    batches = [(torch.randn(8, 4), torch.randint(2, (8,))) for _ in range(4)]
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.train()
    for epoch in range(3):
        for x, y in batches:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()  # error: [train-in-eval-mode]
            optimizer.step()
        print(evaluate(model, batches))
    ```

    ## Use instead
    ```python
    import torch
    from torch import nn


    def evaluate(model, batches):
        model.eval()
        with torch.no_grad():
            return sum((model(x).argmax(1) == y).sum().item() for x, y in batches)


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
    An evaluation that restores the mode, a copy that is evaluated, a framework that sets the mode
    around each step. A model without a layer that depends on the mode, and a model that is put in
    eval mode on purpose to keep its batch statistics and is never evaluated in between, are
    information only.

    Lightning keeps each module's mode since 2.2, so a model that comes to `fit` in eval mode, such
    as a backbone from `from_pretrained`, trains in it: a warning, and information where the
    module derives from `pytorch_lightning`, which may be an older version that calls `train()`.

    ## Fix safety
    Calling `model.train()` where each epoch begins changes how the model trains from then on, and
    with it the results, so it is for a person to decide.
    """

    message = "`{model}` is trained in eval mode{when}: {story}"
    on = (TrainStep,)
    triggers = (b"Trainer", b"backward", b"train", b".fit(", b".step(", b"optim")
    live = True

    def check(self, event: TrainStep) -> Iterator[Finding]:
        for model in event.models:
            mode = eval_where_it_matters(model)
            if mode is None or _is_another_matter(model, mode):
                continue
            finding = self.finding(
                event.site, model=model.name, when=event.when, story=_story(model, mode)
            )
            finding = finding.because(mode.origin).mend(
                f"call `{model.name}.train()` where each epoch of training begins"
            )
            finding = as_versions_differ(finding, event, mode)
            yield _as_meant(weighed(finding, model.sensitive), model, mode)


def _is_another_matter(model: ModelFacts, mode: ModeFact) -> bool:
    """A framework heals it, nothing of the model trains, or TL408 tells it better."""
    return (
        model.managed
        or model.trainable.share is Share.NONE
        or mode.cause is Cause.PEFT_LOAD_ADAPTER
    )


def _as_meant(finding: Finding, model: ModelFacts, mode: ModeFact) -> Finding:
    """Information where eval mode, asked for and never evaluated in, just freezes statistics."""
    deliberate = mode.cause is Cause.EXPLICIT_CALL and model.evaluated is Certainty.NO
    keeps_statistics = only_statistics(model) or model.trainable.share is Share.SOME
    return finding.at(Severity.INFO) if deliberate and keeps_statistics else finding


def _story(model: ModelFacts, mode: ModeFact) -> str:
    never = f"nothing calls `{model.name}.train()`"
    if mode.cause is Cause.FACTORY:
        return f"it comes from the library in eval mode and {never}"
    if mode.cause is Cause.PEFT_LOADED_FROZEN:
        return f"loading the adapter put it in eval mode and {never}"
    if mode.cause is Cause.FRAMEWORK:
        return f"the trainer leaves it in eval mode and {never}"
    if mode.by:
        return f"`{mode.by}` leaves it in eval mode and {never} before the next step"
    return f"`eval()` was called and {never} before the step"
