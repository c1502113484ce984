"""TL104."""

from __future__ import annotations

from collections.abc import Iterator

from trainlint.core.diagnostic import Severity
from trainlint.core.events import AttributeAssigned, Evaluation, Receiver, TrainStep
from trainlint.core.facts import Certainty, ModelFacts, Origin
from trainlint.core.rule import Finding, Rule

_MODULES = (Receiver.MODULE, Receiver.PEFT_MODEL)


class TrainingFlagAssigned(
    Rule[AttributeAssigned | TrainStep | Evaluation],
    code="TL104",
    name="training-flag-assigned",
    severity=Severity.WARNING,
):
    """A model's `training` flag is assigned from outside and does not reach its sub-modules.

    ## Why is this bad?
    `train()` and `eval()` walk through all sub-modules. An assignment to `.training` changes the
    flag of that one module, and the dropout and batch normalisation layers below keep theirs:
    the model says that it is in eval mode and behaves as in training.

    ## Example
    ```python
    import torch
    from torch import nn

    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 2))
    model.load_state_dict(torch.load("model.pt"))
    model.training = False  # warning: [training-flag-assigned]
    torch.save(model, "model-with-code.pt")
    ```

    ## Use instead
    ```python
    import torch
    from torch import nn

    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 2))
    model.load_state_dict(torch.load("model.pt"))
    model.eval()
    torch.save(model, "model-with-code.pt")
    ```

    ## What it leaves alone
    `self.training = mode` inside an overridden `train()`, a loop over `model.modules()` that
    assigns every flag, layers without sub-modules, objects that are no modules.

    ## Fix safety
    `model.eval()` or `model.train()` changes what the layers below do, which the assignment
    never did.
    """

    message = "`{model}.training` is assigned: its sub-modules keep their own mode"
    on = (AttributeAssigned, TrainStep, Evaluation)
    triggers = (b".training", b"'training'", b'"training"')
    live = True

    def check(self, event: AttributeAssigned | TrainStep | Evaluation) -> Iterator[Finding]:
        if isinstance(event, AttributeAssigned):
            yield from self._assigned(event)
            return
        models = event.models if isinstance(event, TrainStep) else (event.model,)
        for model in models:
            if model.flag_assigned is not None:
                yield self._observed(model, model.flag_assigned)

    def _assigned(self, event: AttributeAssigned) -> Iterator[Finding]:
        if event.attribute != "training" or event.receiver not in _MODULES:
            return
        if event.inside_own_method or event.over_all_modules:
            return
        if event.has_submodules is not Certainty.YES:
            return
        switch = {"False": "eval()", "True": "train()"}.get(event.value, "train(...)")
        finding = self.finding(event.site, model=event.name)
        yield finding.mend(f"call `{event.name}.{switch}`")

    def _observed(self, model: ModelFacts, origin: Origin) -> Finding:
        finding = self.finding(origin.site, model=model.name)
        return finding.mend(f"call `{model.name}.train()` or `{model.name}.eval()`")
