"""Epoch loops that draw again from a loader which a DistributedSampler feeds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainlint.core.events import EpochLoop
from trainlint.core.facts import Certainty, Site
from trainlint.flow.state import Decision, LibraryObject, State
from trainlint.flow.values import FALSE, TRUE, ObjectId, Ref, Value

if TYPE_CHECKING:
    from trainlint.flow.interpret import Interpreter

Draw = tuple[Site, ObjectId]
"""An epoch loop and the sampler that it draws from."""


class Epochs:
    """What is drawn in which loop, and whose epoch somebody sets; decided at the end."""

    def __init__(self, interpreter: Interpreter) -> None:
        self.run = interpreter
        self._depths: dict[ObjectId, int] = {}
        self._draws: dict[Draw, list[tuple[EpochLoop, int, frozenset[Decision]]]] = {}
        self._trained: set[Draw] = set()
        self._set: set[ObjectId] = set()
        self._all_set = False

    def made(self, sampler: ObjectId) -> None:
        """A sampler is made, inside of the loops that run now."""
        self._depths[sampler] = len(self.run.loops)

    def draws(self, iterable: Value, state: State) -> Draw | None:
        """A loop begins to draw from `iterable`."""
        sampler = self._sampler(iterable, state)
        thing = state.heap.get(sampler)
        if sampler is None or not isinstance(thing, LibraryObject):
            return None
        depth = self._depths.get(sampler, 0)
        if len(self.run.loops) <= depth:
            return None
        outer = self.run.loops[depth]
        if outer.site is None or not outer.repeats:
            return None
        draw = (outer.site, sampler)
        event = EpochLoop(
            site=outer.site,
            sampler=self._called(sampler, iterable, state),
            shuffles=_shuffles(thing),
            epoch_set=Certainty.NO,
        )
        self._draws.setdefault(draw, []).append((event, self.run.rounds, state.decisions))
        return draw

    def _called(self, sampler: ObjectId, iterable: Value, state: State) -> str:
        """How the user calls the sampler: by its own name, or by its loader's."""
        own = self.run.names.variable_of(sampler, state)
        thing = state.heap.get(iterable.oid) if isinstance(iterable, Ref) else None
        while isinstance(thing, LibraryObject) and thing.role in ("enumerate", "zip"):
            iterable = thing.links[0][1]
            thing = state.heap.get(iterable.oid) if isinstance(iterable, Ref) else None
        held = self.run.names.variable_of(iterable.oid, state) if isinstance(iterable, Ref) else ""
        return own or (f"{held}.sampler" if held else "DistributedSampler")

    def trains(self) -> None:
        """A backward runs: what is drawn around it is what trains."""
        self._trained.update(loop.draw for loop in self.run.loops if loop.draw is not None)

    def set_on(self, receiver: Value, state: State) -> None:
        """`receiver.set_epoch(...)`, or somebody unknown has it and may do so."""
        sampler = self._sampler(receiver, state)
        if sampler is not None:
            self._set.add(sampler)
        elif not isinstance(receiver, Ref) or not isinstance(
            state.heap.get(receiver.oid), LibraryObject
        ):
            self._all_set = True

    def manages(self, value: Value, state: State) -> None:
        """A framework took a loader, and sets the epoch of its sampler."""
        sampler = self._sampler(value, state)
        if sampler is not None:
            self._set.add(sampler)

    def finish(self) -> None:
        """Raise what nobody sets."""
        if self._all_set:
            return
        for draw, seen in self._draws.items():
            if draw in self._trained and draw[1] not in self._set:
                for event, rounds, decisions in seen:
                    self.run.recorder.raise_event(event, rounds, decisions)

    def _sampler(self, value: Value | None, state: State) -> ObjectId:
        for _ in range(6):
            if not isinstance(value, Ref):
                return None
            thing = state.heap.get(value.oid)
            if not isinstance(thing, LibraryObject):
                return None
            match thing.role:
                case "distributed_sampler":
                    return value.oid
                case "loader" | "batch_sampler":
                    value = thing.link("sampler") or thing.link("batch_sampler")
                case "enumerate" | "zip":
                    value = thing.links[0][1] if thing.links else None
                case _:
                    return None
        return None


def _shuffles(sampler: LibraryObject) -> Certainty:
    given = sampler.link("shuffle")
    if given is None or given == TRUE:
        return Certainty.YES
    return Certainty.NO if given == FALSE else Certainty.UNKNOWN
