"""Layers that are younger than every optimizer, in a network that one of these trains."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from trainlint.core.facts import Cause, Origin, ParameterGap, Share, Site
from trainlint.flow.state import State
from trainlint.flow.values import Forward, ObjectId, ParameterSource
from trainlint.libraries import LIBRARY

if TYPE_CHECKING:
    from trainlint.flow.interpret import Interpreter


class Latecomers:
    """What there was when the optimizers took their parameters."""

    def __init__(self, interpreter: Interpreter) -> None:
        self.run = interpreter
        self.existed: set[ObjectId] = set()

    def taken(self, state: State) -> None:
        """An optimizer takes its parameters: what it leaves out now, it leaves out knowingly."""
        self.existed.update(oid for oid, _ in state.modules())

    def gaps(
        self, made: Forward, sources: list[ParameterSource], state: State
    ) -> Iterator[ParameterGap]:
        """A new head on an old encoder: the encoder's optimizer holds nothing of it."""
        held = {part for s in sources for part in self.run.models.reach(s.oid, state)}
        parts = self.run.models.reach(made.oid, state)
        for part in parts if not held.isdisjoint(parts) else ():
            if part in held or part in self.existed or not self._learns(part, state):
                continue
            if isinstance(part, tuple) and part[0] == "new" and len(part) == 4:
                name = self.run.names.name_of(part, state)
                origin = Origin(Site(str(part[1]), part[2]), f"`{name}` is made here")
                yield ParameterGap(made.facts.name, f"`{name}`", Cause.HEAD_REPLACED, origin)

    def _learns(self, oid: ObjectId, state: State) -> bool:
        """Whether it is a layer with weights of its own, none of them frozen."""
        module = state.module(oid)
        if module is None or module.cls is not None or not (module.fresh and module.parametric):
            return False
        plain = bool(module.library) and not LIBRARY.is_container(module.library)
        return plain and self.run.models.share(oid, state).share is Share.ALL
