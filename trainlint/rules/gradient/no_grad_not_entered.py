"""TL202."""

from __future__ import annotations

from collections.abc import Iterator

from trainlint.core.diagnostic import Severity
from trainlint.core.events import ContextNotCalled, DiscardedCall
from trainlint.core.rule import Finding, Rule

_SWITCHES = frozenset({"no_grad", "inference_mode", "enable_grad"})


class NoGradNotEntered(
    Rule[DiscardedCall | ContextNotCalled],
    code="TL202",
    name="no-grad-not-entered",
    severity=Severity.ERROR,
):
    """A gradient context is made and never entered.

    ## Why is this bad?
    `torch.no_grad()` on a line of its own builds a context manager and throws it away: gradients
    stay on, and so does their cost. `with torch.no_grad:` lacks the call and raises a TypeError.

    ## Example
    ```python
    import torch
    from torch import nn

    batches = [(torch.randn(8, 4), torch.randint(2, (8,))) for _ in range(4)]
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.load_state_dict(torch.load("model.pt"))
    model.eval()
    torch.no_grad()  # error: [no-grad-not-entered]
    print(model(torch.randn(1, 4)))
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
    with torch.no_grad():
        print(model(torch.randn(1, 4)))
    ```

    ## What it leaves alone
    The decorator with or without parentheses (`@torch.no_grad` works since torch 2.1), a context
    that is kept for later or given to an `ExitStack`, `torch.set_grad_enabled(False)`, which does
    take effect as a statement.

    ## Fix safety
    Before a function, an `@` is what was meant; elsewhere the `with` block has to be drawn by
    hand.
    """

    message = "`{callee}` {fault}"
    on = (DiscardedCall, ContextNotCalled)
    triggers = (b"no_grad", b"inference_mode", b"enable_grad")

    def check(self, event: DiscardedCall | ContextNotCalled) -> Iterator[Finding]:
        package, _, name = event.callee.rpartition(".")
        if name not in _SWITCHES or not package.startswith("torch"):
            return
        if isinstance(event, ContextNotCalled):
            yield self.finding(
                event.site, callee=event.callee, fault="is entered without being called"
            ).mend(f"write `with {event.callee}():`")
            return
        finding = self.finding(
            event.site, callee=f"{event.callee}()", fault="is never entered: gradients stay as is"
        )
        yield finding.mend(
            f"write `@{event.callee}()`"
            if event.followed_by_def
            else f"use `with {event.callee}():`"
        )
