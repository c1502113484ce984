"""How far the training is: what all parts of a watch share."""

from __future__ import annotations

from dataclasses import dataclass, field

from trainlint.runtime.judge.modes import Switch
from trainlint.runtime.watching.findings import Findings
from trainlint.runtime.watching.model_view import ModelView
from trainlint.runtime.watching.settings import Settings

_MANY_SWITCHES = 2000


@dataclass(slots=True)
class Run:
    """The shared record of one open watch; holds no tensor."""

    settings: Settings
    view: ModelView
    findings: Findings
    only_training: bool = False
    """Say nothing about a model that never trains (`pytest --trainlint`)."""
    switches: list[Switch] = field(default_factory=list)
    """Every outermost `train()` and `eval()` since the start, on any module."""
    switch_count: int = 0
    optimized: bool = False
    """Some optimizer holds parameters of the model."""
    trained: bool = False
    """A backward has used a forward of ours."""
    backwards: int = 0
    since_step: int = 0
    """Backwards of ours since the last step."""
    forwards: int = 0
    """Forwards with gradients on since the last backward."""
    cut: str | None = None
    """The line of a reentrant checkpoint of which no input requires grad, since the last step."""
    fused: bool = False
    """Optimizers step inside backward, each for one parameter."""
    look_again: bool = True
    """The state is to be judged at the next backward, whatever the step."""
    changed: bool = True
    """Something was called since the last look that may have changed more than flags."""

    @property
    def steps(self) -> int:
        """Optimizer steps so far."""
        return self.findings.report.steps

    @property
    def meant_to_train(self) -> bool:
        """Something trained it, or holds its parameters to do so."""
        return self.trained or self.optimized

    def note(self, switch: Switch) -> None:
        """Remember a `train()` or `eval()`."""
        self.switches.append(switch)
        self.switch_count += 1
        if len(self.switches) > _MANY_SWITCHES:
            del self.switches[: _MANY_SWITCHES // 2]
        self.view.switched()
        self.changed = True
