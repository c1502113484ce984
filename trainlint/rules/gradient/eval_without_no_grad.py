"""TL201."""

from __future__ import annotations

from collections.abc import Iterator

from trainlint.core.diagnostic import Severity
from trainlint.core.events import Evaluation, Evidence
from trainlint.core.facts import Certainty, Share, TrainableFact
from trainlint.core.rule import Finding, Rule


class EvalWithoutNoGrad(
    Rule[Evaluation], code="TL201", name="eval-without-no-grad", severity=Severity.WARNING
):
    """An evaluation records a graph that nothing uses.

    ## Why is this bad?
    `model.eval()` chooses how layers behave and says nothing about gradients. Without
    `torch.no_grad()` or `torch.inference_mode()` each forward keeps its activations for a
    backward that never comes: evaluation needs several times the memory, is slower, and runs out
    of memory where results are collected over a whole data set.

    ## Example
    ```python
    import torch
    from torch import nn

    batches = [(torch.randn(8, 4), torch.randint(2, (8,))) for _ in range(4)]
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.load_state_dict(torch.load("model.pt"))
    model.eval()
    correct = 0
    for x, y in batches:
        logits = model(x)  # warning: [eval-without-no-grad]
        correct += (logits.argmax(1) == y).sum().item()
    print(correct)
    ```

    ## Use instead
    ```python
    import torch
    from torch import nn

    batches = [(torch.randn(8, 4), torch.randint(2, (8,))) for _ in range(4)]
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.load_state_dict(torch.load("model.pt"))
    model.eval()
    correct = 0
    with torch.no_grad():
        for x, y in batches:
            logits = model(x)
            correct += (logits.argmax(1) == y).sum().item()
    print(correct)
    ```

    ## What it leaves alone
    A forward that something differentiates (adversarial examples, saliency, gradient penalties,
    guidance), a caller or a framework that has turned gradients off, `generate()`, a model whose
    parameters are all frozen, a single forward outside any loop.

    ## Fix safety
    `@torch.no_grad()` on the function keeps the values and cuts what it returns from the graph.
    """

    message = "`{model}` is evaluated with gradients on{when}: each forward keeps a graph unused"
    on = (Evaluation,)
    triggers = (b"eval", b"val", b"test", b"predict", b"infer", b"train")
    live = True

    def check(self, event: Evaluation) -> Iterator[Finding]:
        model = event.model
        if event.grad is not Certainty.YES or not event.in_loop or not _is_evaluation(event):
            return
        if model.managed or event.needs_train or _perhaps_frozen(model.trainable):
            return
        finding = self.finding(event.site, model=model.name, when=event.when)
        finding = finding.because(model.mode.origin if _asked(event) else None)
        where = f"`{event.function}`" if event.function else "the loop"
        yield finding.mend(f"run {where} under `torch.no_grad()` or `torch.inference_mode()`")


def _asked(event: Evaluation) -> bool:
    return Evidence.EVAL_ASKED in event.evidence


def _is_evaluation(event: Evaluation) -> bool:
    return _asked(event) or event.evidence >= {Evidence.NAME, Evidence.METRICS}


def _perhaps_frozen(fact: TrainableFact) -> bool:
    """All is frozen, or somebody set the flags to what is not seen here."""
    return fact.share is Share.NONE or (fact.share is Share.UNKNOWN and fact.origin is not None)
