"""How far the training is: what all parts of a watch share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from trainlint.runtime.judge.modes import Switch
from trainlint.runtime.judge.verdict import Verdict
from trainlint.runtime.watching.findings import Findings
from trainlint.runtime.watching.model_view import ModelView
from trainlint.runtime.watching.settings import Settings

_MANY_SWITCHES = 20_000


class Switches:
    """The last outermost `train()` or `eval()` of each module, in the order of those calls.

    A Trainer calls `train()` before every step, others freeze a part after it each time: neither
    makes this record grow, nor changes `order`, so that flags once judged need not be again.
    """

    def __init__(self) -> None:
        self._by_module: dict[int, Switch] = {}
        self._order: tuple[tuple[int, bool], ...] | None = ()

    @property
    def last(self) -> Iterable[Switch]:
        """The last call on each module, the oldest first."""
        return self._by_module.values()

    @property
    def order(self) -> tuple[tuple[int, bool], ...]:
        """Which module went to which mode, in order."""
        if self._order is None:
            self._order = tuple((s.module, s.mode) for s in self._by_module.values())
        return self._order

    def note(self, switch: Switch) -> bool:
        """Remember a call; whether it put its module in another mode than the call before."""
        before = self._by_module.pop(switch.module, None)
        self._by_module[switch.module] = switch
        self._order = None
        if len(self._by_module) > _MANY_SWITCHES:
            del self._by_module[next(iter(self._by_module))]
        return before is None or before.mode is not switch.mode


@dataclass(slots=True)
class Run:
    """The shared record of one open watch; holds no tensor."""

    settings: Settings
    view: ModelView
    findings: Findings
    only_training: bool = False
    """Say nothing about a model that never trains (`pytest --trainlint`)."""
    switches: Switches = field(default_factory=Switches)
    optimized: bool = False
    """Some optimizer holds parameters of the model."""
    trained: bool = False
    """A backward has used a forward of ours."""
    begun: int = 0
    """Outermost forwards so far."""
    backwards: int = 0
    since_step: int = 0
    """Backwards of ours since the last step."""
    forwards: int = 0
    """Forwards with gradients on since the last backward."""
    cut: str | None = None
    """The line of a reentrant checkpoint of which no input requires grad, since the last step."""
    for_inputs: bool = False
    """The last backward reached inputs that require grad: an attack, a saliency map, a style."""
    withheld: list[Verdict] = field(default_factory=list)
    """On backwards that may have trained nothing: true once a step uses their gradients."""
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
        self.view.switched()
        if self.switches.note(switch):
            self.changed = True
