"""PEFT in the abstract state: what its calls do to mode, trainability, activity and identity."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from trainlint.core.facts import AdapterFacts, Cause, Origin, Share, TrainableFact
from trainlint.flow import ir
from trainlint.flow.arguments import Arguments
from trainlint.flow.state import ContextObject, LibraryObject, State
from trainlint.flow.values import ObjectId

if TYPE_CHECKING:
    from trainlint.flow.interpret import Evaluated, Frame, Interpreter


class Adapters:
    """Operations of PEFT's surface."""

    def __init__(self, interpreter: Interpreter) -> None:
        self.run = interpreter

    def trainability(
        self, adapters: AdapterFacts, on: bool | None, whole: bool, origin: Origin
    ) -> tuple[Cause, AdapterFacts]:
        """requires_grad was switched by hand on a model with adapters."""
        if not whole or on is None:
            unknown = replace(adapters, trainable=TrainableFact())
            return Cause.EXPLICIT_CALL, unknown
        if on:
            fact = TrainableFact(Share.ALL, Cause.PEFT_BASE_UNFROZEN, origin)
            return Cause.PEFT_BASE_UNFROZEN, replace(
                adapters, trainable=TrainableFact(Share.ALL, None, origin), base_trainable=fact
            )
        fact = TrainableFact(Share.NONE, Cause.PEFT_FROZEN_BY_HAND, origin)
        return Cause.PEFT_FROZEN_BY_HAND, replace(
            adapters, trainable=fact, base_trainable=TrainableFact(Share.NONE)
        )

    def call(
        self,
        operation: str,
        arguments: Arguments,
        state: State,
        frame: Frame,
        node: ir.Call,
        name: str,
    ) -> Evaluated | None:
        """A library function named in the tables; None if it is not PEFT's."""
        return None

    def method(
        self,
        oid: ObjectId,
        method: str,
        arguments: Arguments,
        state: State,
        frame: Frame,
        node: ir.Call,
        name: str,
    ) -> Evaluated | None:
        """A method of a model with adapters; None if it is not PEFT's."""
        return None

    def role_method(
        self,
        oid: ObjectId,
        thing: LibraryObject,
        method: str,
        arguments: Arguments,
        state: State,
        frame: Frame,
        node: ir.Call,
    ) -> Evaluated | None:
        """A method of a library object with a role: a trainer."""
        return None

    def leave(self, context: ContextObject, state: State) -> None:
        """Leave `with model.disable_adapter()`."""

    def discarded(
        self, s: ir.Expression, call: ir.Call, context: ContextObject, state: State, frame: Frame
    ) -> None:
        """`model.disable_adapter()` as a statement."""
