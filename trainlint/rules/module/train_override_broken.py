"""TL504."""

from __future__ import annotations

from collections.abc import Iterator

from trainlint.core.diagnostic import Severity
from trainlint.core.events import ModeOverride, ModuleClassDefined
from trainlint.core.rule import Finding, Rule


class TrainOverrideBroken(
    Rule[ModuleClassDefined],
    code="TL504",
    name="train-override-broken",
    severity=Severity.ERROR,
):
    """`train()` or `eval()` is overridden so that switching modes breaks.

    ## Why is this bad?
    `Module.eval()` calls `self.train(False)`, and each parent calls `train(mode)` on its
    children. A `train` that takes no mode makes `eval()` raise; one that does not call
    `super().train(mode)` leaves the children as they are; one that runs the training loop is
    executed by every `eval()` of a parent; one that returns nothing turns
    `model = model.eval()` into None. An overridden `eval` is never called for a child: parents
    use `train(False)`.

    ## Example
    ```python
    from torch import nn


    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 16, 3)
            self.norm = nn.BatchNorm2d(16)

        def train(self, mode=True):  # error: [train-override-broken]
            self.training = mode
            self.norm.eval()
            return self

        def forward(self, x):
            return self.norm(self.conv(x))
    ```

    ## Use instead
    ```python
    from torch import nn


    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 16, 3)
            self.norm = nn.BatchNorm2d(16)

        def train(self, mode=True):
            super().train(mode)
            self.norm.eval()
            return self

        def forward(self, x):
            return self.norm(self.conv(x))
    ```

    ## When it is silent
    For the idioms that fix a mode on purpose: `def train(self, mode=True): return self` and
    `return super().train(False)`. Where only `return self` is missing it is information: as a
    statement `model.eval()` still works.

    ## Fix safety
    Safe where only `mode=True` or `return self` is missing; unsafe where a method has to be
    renamed, since others call it.
    """

    message = "`{model}.{method}` {fault}"
    on = (ModuleClassDefined,)
    triggers = (b"def train", b"def eval", b".train =", b".eval =", b".train=", b".eval=")
    live = True

    def check(self, event: ModuleClassDefined) -> Iterator[Finding]:
        methods = {override.method for override in event.overrides}
        for override in event.overrides:
            fault = _fault(override, methods)
            if fault is not None:
                yield self.finding(
                    override.site, model=event.name, method=override.method, fault=fault
                ).mend(_advice(override))
            elif override.method == "train" and not override.returns_self:
                yield (
                    self.finding(
                        override.site,
                        model=event.name,
                        method="train",
                        fault="returns nothing: `model = model.eval()` gives None",
                    )
                    .mend("end it with `return self`")
                    .at(Severity.INFO)
                )


def _fault(override: ModeOverride, methods: set[str]) -> str | None:
    if override.is_attribute:
        return "is an attribute: calling it raises TypeError"
    if override.inert or override.forces_eval:
        return None
    if override.method == "eval":
        return _fault_of_eval(override, methods)
    if override.runs_training:
        return "runs the training: `eval()` of this module and of every parent calls it"
    if not override.takes_mode:
        return "takes no mode: `eval()` calls `train(False)` and raises TypeError"
    if not override.calls_super:
        return "does not call `super().train(mode)`: the sub-modules keep their mode"
    if not override.uses_mode:
        return "ignores its mode: `eval()` leaves the module in train mode"
    return None


def _fault_of_eval(override: ModeOverride, methods: set[str]) -> str | None:
    if not override.calls_super:
        return "does not switch to eval mode: nobody calls `super().eval()`"
    if "train" not in methods:
        return "is not called when a parent switches: parents call `train(False)`"
    return None


def _advice(override: ModeOverride) -> str:
    if override.is_attribute:
        return f"give the attribute another name than `{override.method}`"
    if override.runs_training or (override.method == "eval" and not override.calls_super):
        return f"rename the method: `{override.method}` is how torch switches modes"
    if override.method == "eval":
        return "override `train(self, mode=True)` instead, and look at `mode` there"
    return "write `def train(self, mode=True): super().train(mode); ...; return self`"
