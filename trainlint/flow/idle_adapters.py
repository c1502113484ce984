"""Adapters that no step of the whole program trains.

One was added to be trained and nothing ever activates it. Or fresh ones were frozen, and what
trains is something beside them: a head, a projection. They add nothing, for a fresh adapter changes
no output. Whether another step trains them, after another part of the program has switched them
on, is known only at the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainlint.core.events import AdapterNeverActivated, AdaptersFrozenBeside, Event
from trainlint.core.facts import Cause, ModelFacts, Share, Site
from trainlint.core.late import dataclass
from trainlint.flow.state import Decision, State
from trainlint.flow.values import TRUE, ObjectId

if TYPE_CHECKING:
    from trainlint.flow.interpret import Interpreter

_SENSELESS = frozenset(
    (Cause.PEFT_FROZEN_BY_HAND, Cause.PEFT_INFERENCE_CONFIG, Cause.PEFT_KBIT_AFTER)
)
"""Why fresh adapters are frozen where nobody can have meant it."""

_LOADED = "$loaded"


def shown(name: str) -> str:
    """What to call an adapter; one under a name that is not known, as that is spelled."""
    return (name.rpartition("?")[2] or "adapter") if name.startswith("?") else name


@dataclass(frozen=True, slots=True)
class Waiting:
    """A step that trained a model without one of its adapters, or without all of them."""

    event: Event
    holder: ObjectId
    adapter: str
    rounds: int
    decisions: frozenset[Decision]


class IdleAdapters:
    """Gathers the steps, and what would excuse them."""

    def __init__(self, interpreter: Interpreter) -> None:
        self.run = interpreter
        self.activated: set[tuple[ObjectId, str | None]] = set()
        self._inactive: list[Waiting] = []
        self._frozen: list[Waiting] = []
        self._moved: set[ObjectId] = set()

    @staticmethod
    def loaded(holder: ObjectId, state: State) -> None:
        """Its adapters were trained before: frozen they are of use."""
        state.attrs[holder, _LOADED] = TRUE

    def stepped(
        self,
        holder: ObjectId,
        name: str,
        backward: Site,
        models: tuple[ModelFacts, ...],
        state: State,
    ) -> None:
        """A step trained the model that has the adapters."""
        facts = next((m for m in models if m.name == name), None)
        if facts is None:
            return
        decisions = self.run.branches.not_around(state.decisions)
        self._beside(holder, facts, backward, decisions, state)
        for adapter, part in self.run.adapters.parts(holder, state):
            module = state.module(part)
            if module is None or module.wanted is None or not module.inactive:
                continue
            event = AdapterNeverActivated(
                site=backward,
                when=self.run.when,
                model=facts,
                adapter=shown(adapter),
                added=module.wanted,
            )
            self._inactive.append(
                Waiting(event, holder, adapter, self.run.rounds, decisions),
            )

    def _beside(
        self,
        holder: ObjectId,
        facts: ModelFacts,
        backward: Site,
        decisions: frozenset[Decision],
        state: State,
    ) -> None:
        adapters = self.run.adapters.facts(holder, state)
        frozen = adapters.trainable if adapters is not None else facts.trainable
        if frozen.share is not Share.NONE:
            self._moved.add(holder)
        elif (holder, _LOADED) in state.attrs or self._rests_on_purpose(holder, state):
            return
        elif facts.trainable.share is Share.SOME and frozen.cause in _SENSELESS:
            model = self.run.models.facts(holder, facts.name, state)
            event = AdaptersFrozenBeside(site=backward, when=self.run.when, model=model)
            found = Waiting(event, holder, "", self.run.rounds, decisions)
            self._frozen.append(found)

    @staticmethod
    def _rests_on_purpose(holder: ObjectId, state: State) -> bool:
        """A copy of what trains is what it is measured by."""
        module = state.module(holder)
        return module is not None and (module.copy_of is not None or module.follows)

    def finish(self) -> None:
        """Everything has run: raise what nothing excuses."""
        for waiting in self._inactive:
            chosen = {name for holder, name in self.activated if holder == waiting.holder}
            # Under a name that is not known it may be any that is activated somewhere.
            mine = chosen if waiting.adapter.startswith("?") else chosen & {waiting.adapter, None}
            if not mine:
                self._raise(waiting)
        for waiting in self._frozen:
            if waiting.holder not in self._moved:
                self._raise(waiting)

    def _raise(self, waiting: Waiting) -> None:
        self.run.recorder.raise_event(waiting.event, waiting.rounds, waiting.decisions)
