"""TL307."""

from __future__ import annotations

from collections.abc import Iterator

from trainlint.core.diagnostic import Severity
from trainlint.core.events import AttributeAssigned, BareReference, Receiver
from trainlint.core.rule import Finding, Rule

_FLAG = "requires_grad"
_METHOD = "requires_grad_"
MISSPELLINGS = frozenset(
    {
        "require_grad",
        "require_grads",
        "requires_grads",
        "required_grad",
        "requires_gradient",
        "requires_gradients",
        "requiers_grad",
        "requries_grad",
        "requireds_grad",
        "requires_gard",
        "require_gard",
        "reqires_grad",
        "requres_grad",
        "requires_gra",
        "requires_grade",
        "require_gradient",
        "require_grad_",
        "require_gradients",
        "required_grads",
    }
)
"""What people write for `requires_grad`."""
_PARAMETRIC = frozenset({Receiver.MODULE, Receiver.PEFT_MODEL, Receiver.PARAMETER})
_TENSORS = _PARAMETRIC | {Receiver.TENSOR}


class RequiresGradMisset(
    Rule[AttributeAssigned | BareReference],
    code="TL307",
    name="requires-grad-misset",
    severity=Severity.ERROR,
):
    """A statement that looks as if it froze or unfroze parameters, and does nothing.

    ## Why is this bad?
    Python lets you assign any attribute to any module and any parameter. `module.requires_grad =
    False` makes a new attribute that nothing reads; `p.require_grad = False` is a misspelling
    that nothing reports; `p.requires_grad_ = False` overwrites the method; and
    `p.requires_grad == False` compares and throws the answer away. In every case the parameters
    go on training.

    ## Example
    ```python
    from torch import nn

    backbone = nn.Sequential(nn.Linear(16, 32), nn.ReLU())
    backbone.requires_grad = False  # error: [requires-grad-misset]
    ```

    ## Use instead
    ```python
    from torch import nn

    backbone = nn.Sequential(nn.Linear(16, 32), nn.ReLU())
    backbone.requires_grad_(False)
    ```

    ## When it is silent
    `tensor.requires_grad = True` on a tensor or a parameter is right. So is an attribute of that
    name on a class that defines it, and a comparison that somebody uses.

    ## Fix safety
    Safe: the statement did nothing, and the fix makes it do what it says. Results change because
    of that: parameters that trained by mistake stop.
    """

    message = "{what}{consequence}"
    on = (AttributeAssigned, BareReference)
    triggers = (b"require", b"requiers", b"requries", b"reqires", b"requres")
    live = True

    def check(self, event: AttributeAssigned | BareReference) -> Iterator[Finding]:
        if isinstance(event, AttributeAssigned):
            yield from self._of_assignment(event)
        else:
            yield from self._of_reference(event)

    def _of_assignment(self, event: AttributeAssigned) -> Iterator[Finding]:
        place = f"{event.name}.{event.attribute}"
        value = event.value or "..."
        if event.receiver in _TENSORS and event.attribute == _METHOD:
            yield self._about(
                event,
                f"`{place} = {value}` overwrites the method",
                " and changes no gradient",
                f"`{event.name}.requires_grad_({value})`",
            )
        elif event.inside_own_method or event.receiver not in _PARAMETRIC:
            return
        elif event.attribute in MISSPELLINGS:
            yield self._about(
                event,
                f"`{place}` is a misspelling of `requires_grad`",
                ": nothing reads it",
                self._right_spelling(event, value),
            )
        elif event.attribute == _FLAG and event.receiver is not Receiver.PARAMETER:
            yield self._about(
                event,
                f"`{place}` on a module",
                " does not reach its parameters",
                f"`{event.name}.requires_grad_({value})`",
            )

    def _of_reference(self, event: BareReference) -> Iterator[Finding]:
        if event.last_in_cell or event.receiver not in _TENSORS:
            return
        place = f"{event.name}.{event.attribute}"
        if event.compared and event.attribute in (_FLAG, *MISSPELLINGS):
            yield self._about(
                event,
                f"`{place} == ...` compares and drops the answer",
                ": nothing is frozen or unfrozen",
                f"`{event.name}.requires_grad_(...)`",
            )
        elif event.attribute == _METHOD:
            yield self._about(
                event,
                f"`{place}` is not called",
                ": nothing is frozen or unfrozen",
                f"`{place}(...)`",
            )

    @staticmethod
    def _right_spelling(event: AttributeAssigned, value: str) -> str:
        if event.receiver is Receiver.PARAMETER:
            return f"`{event.name}.requires_grad = {value}`"
        return f"`{event.name}.requires_grad_({value})`"

    def _about(
        self, event: AttributeAssigned | BareReference, what: str, consequence: str, right: str
    ) -> Finding:
        return self.finding(event.site, what=what, consequence=consequence).mend(f"write {right}")
