"""TL212."""

from __future__ import annotations

from collections.abc import Iterator

from trainlint.core.diagnostic import Severity
from trainlint.core.events import Backward
from trainlint.core.facts import Cut
from trainlint.core.rule import Finding, Rule
from trainlint.rules.wording import called


class LossDetached(Rule[Backward], code="TL212", name="loss-detached", severity=Severity.ERROR):
    """Backward runs on a loss that was cut from its graph.

    ## Why is this bad?
    `.item()`, `.data`, `.detach()` and `torch.tensor(loss)` give the value and drop the history.
    Backward then raises "element 0 of tensors does not require grad", and the cure that is often
    passed on, `requires_grad=True` on the new tensor, silences the error and nothing else: the
    gradients of all parameters stay None.

    ## Example
    ```python
    import torch
    from torch import nn

    batches = [(torch.randn(8, 4), torch.randint(2, (8,))) for _ in range(4)]
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, y in batches:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss = torch.tensor(loss.item(), requires_grad=True)
        loss.backward()  # error: [loss-detached]
        optimizer.step()
    ```

    ## Use instead
    ```python
    import torch
    from torch import nn

    batches = [(torch.randn(8, 4), torch.randint(2, (8,))) for _ in range(4)]
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, y in batches:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
    ```

    ## What it leaves alone
    Leaves that are optimised themselves (style transfer, adversarial examples), weights such as
    advantages that are detached within a loss that keeps its graph, copies for the log.

    ## Fix safety
    None is offered: what the loss should be computed from is for its author to say.
    """

    message = "{loss} is cut from its graph by `{cut}`{when}: backward reaches no parameter"
    on = (Backward,)
    triggers = (b"Trainer", b"backward", b"train", b".fit(")
    live = True

    def check(self, event: Backward) -> Iterator[Finding]:
        loss = event.loss
        if loss.cut is None or loss.cut is Cut.NO_GRAD or loss.grad_leaked:
            return
        finding = self.finding(
            event.site, loss=called(loss.name, "the loss"), cut=loss.cut.value, when=event.when
        )
        yield finding.because(loss.cut_origin).mend(
            "run backward on the loss as the model's output gave it"
        )
