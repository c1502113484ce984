"""TL106."""

from __future__ import annotations

from collections.abc import Iterator

from trainlint.core.diagnostic import Severity
from trainlint.core.events import ReferenceForward
from trainlint.core.facts import Cause, Certainty, Mode, Origin
from trainlint.core.rule import Finding, Rule
from trainlint.rules.mode.sensitivity import harm_in_train_mode, only_statistics, weighed


class ReferenceModelInTrainMode(
    Rule[ReferenceForward],
    code="TL106",
    name="reference-model-in-train-mode",
    severity=Severity.WARNING,
):
    """A teacher, reference or averaged model gives targets while it is in train mode.

    ## Why is this bad?
    The student is trained towards what the other model says. With dropout on, the teacher says
    something else each time; with batch statistics on, its answer depends on the batch and its
    statistics drift with every forward, also under `no_grad`. Freezing its parameters does not
    help: modes and gradients are independent.

    ## Example
    ```python
    import torch
    from torch import nn

    batches = [torch.randn(8, 4) for _ in range(4)]
    teacher = nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.5), nn.Linear(16, 2))
    teacher.load_state_dict(torch.load("teacher.pt"))
    student = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    for x in batches:
        with torch.no_grad():
            target = teacher(x)  # warning: [reference-model-in-train-mode]
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(student(x), target)
        loss.backward()
        optimizer.step()
    ```

    ## Use instead
    ```python
    import torch
    from torch import nn

    batches = [torch.randn(8, 4) for _ in range(4)]
    teacher = nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.5), nn.Linear(16, 2))
    teacher.load_state_dict(torch.load("teacher.pt"))
    teacher.eval()
    student = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    for x in batches:
        with torch.no_grad():
            target = teacher(x)
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(student(x), target)
        loss.backward()
        optimizer.step()
    ```

    ## What it leaves alone
    A teacher that `train()` was called on by name, as Mean Teacher does; a student that is its
    own teacher. A momentum encoder whose only such layers are batch normalisation (MoCo, BYOL)
    and a model without a layer that depends on the mode are information only.

    ## Fix safety
    `eval()` on a teacher that shares modules with the student also switches these.
    """

    message = "`{model}` gives targets to `{student}` in train mode{when}: {harm}"
    on = (ReferenceForward,)
    triggers = (b"Trainer", b"backward", b"train", b".fit(", b".step(", b"optim")
    live = True

    def check(self, event: ReferenceForward) -> Iterator[Finding]:
        model = event.model
        if model.mode.mode is not Mode.TRAIN or model.managed or _is_meant(event):
            return
        finding = self.finding(
            event.site,
            model=model.name,
            student=event.student,
            when=event.when,
            harm=harm_in_train_mode(model),
        )
        finding = finding.because(
            model.mode.origin, Origin(event.backward, f"`{event.student}` learns from it here")
        )
        finding = weighed(
            finding.mend(f"call `{model.name}.eval()` before it gives targets"), model.sensitive
        )
        averaged = event.follows is Certainty.YES and only_statistics(model)
        yield finding.at(Severity.INFO) if averaged else finding


def _is_meant(event: ReferenceForward) -> bool:
    """`train()` was called on it, and not for a training of its own that is over."""
    explicit = event.model.mode.cause is Cause.EXPLICIT_CALL
    return explicit and event.graduated is not Certainty.YES
