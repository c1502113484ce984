"""Steps, clearings and schedules that only the whole run can judge.

A clearing that throws away a bad batch, a scheduler that is wound forward before training resumes
and a clearing between micro-batches look, on one path, like what they are not: another path, or
the rest of the program, tells.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import field, replace
from typing import TYPE_CHECKING, NamedTuple

from trainlint.core.events import Event, GradientsCleared, OptimizerStep, SchedulerStep
from trainlint.core.facts import Certainty, Gradients, Site
from trainlint.core.late import dataclass
from trainlint.flow import ir
from trainlint.flow.reading import mentioned
from trainlint.flow.state import Decision, State
from trainlint.flow.values import ObjectId
from trainlint.flow.walk import walk

if TYPE_CHECKING:
    from trainlint.flow.frames import Loop
    from trainlint.flow.interpret import Interpreter
    from trainlint.flow.record import Recorder

Place = tuple[Site, ObjectId, "Site | None"]


class Held(NamedTuple):
    """An event that waits for the end of the run."""

    event: Event
    optimizer: ObjectId
    rounds: int
    decisions: frozenset[Decision]
    place: Hashable


@dataclass(slots=True)
class Protocol:
    """What the run saw of each optimizer's steps, and the events that wait for it."""

    run: Interpreter
    wiped: list[Held] = field(default_factory=list)
    used: set[Place] = field(default_factory=set)
    """Steps on fresh gradients, with the backward that filled them."""
    schedules: list[Held] = field(default_factory=list)
    loops: dict[ObjectId, set[Hashable]] = field(default_factory=dict)
    """The loops in which an optimizer steps."""
    clearings: list[Held] = field(default_factory=list)
    mixed: list[Held] = field(default_factory=list)
    """Steps of every n-th round on gradients that an earlier such step had used."""
    cleared_nth: set[tuple[ObjectId, Hashable]] = field(default_factory=set)
    """Optimizers that are cleared in every n-th round of a loop."""
    fills: dict[ObjectId, set[Hashable]] = field(default_factory=dict)
    """The innermost loops in which a backward fills an optimizer's gradients."""
    every_nth: dict[ObjectId, bool] = field(default_factory=dict)
    """Whether all steps of an optimizer stand under a `% n` condition."""

    def filled(self, oid: ObjectId) -> None:
        """Note a backward."""
        self.fills.setdefault(oid, set()).add(self._innermost())

    def _innermost(self) -> Hashable:
        return _key(self.run.loops[-1]) if self.run.loops else None

    def stepped(self, event: OptimizerStep, oid: ObjectId, state: State) -> bool:
        """Note a step; False if its event has to wait."""
        self.loops.setdefault(oid, set()).update(_key(loop) for loop in self.run.loops)
        nth = counts_rounds(state) or self._under_or_modulo()
        self.every_nth[oid] = self.every_nth.get(oid, True) and nth
        backward = event.optimizer.backward
        place = (event.site, oid, backward.site if backward is not None else None)
        match event.optimizer.gradients:
            case Gradients.MIXED_IN if nth:
                self.used.add(place)
                held = (oid, self._innermost())
                self.mixed.append(Held(event, oid, self.run.rounds, state.decisions, held))
                return False
            case Gradients.FRESH | Gradients.MIXED_IN:
                self.used.add(place)
            case Gradients.WIPED:
                self.wiped.append(Held(event, oid, self.run.rounds, state.decisions, place))
                return False
            case _:
                pass
        return True

    def _under_or_modulo(self) -> bool:
        inside = self.run.loops[-1].tests if self.run.loops else 0
        return any(_or_modulo(test) for test in self.run.tests[inside:])

    def _asks_for_the_round(self) -> bool:
        """`if k != last: model.zero_grad()`: in some rounds on purpose, in others not."""
        loop = self.run.loops[-1] if self.run.loops else None
        if loop is None or not loop.names:
            return False
        tests = self.run.tests[loop.tests :]
        return any(isinstance(t, ir.Compare) and mentioned(t) & loop.names for t in tests)

    def cleared(self, event: GradientsCleared, oid: ObjectId, state: State) -> None:
        """Note that fresh gradients of an earlier round are cleared in every round."""
        facts = event.optimizer
        if counts_rounds(state):
            self.cleared_nth.add((oid, self._innermost()))
        early = facts.gradients is Gradients.FRESH and not facts.backward_this_round
        chosen = counts_rounds(state) or self._asks_for_the_round()
        if early and self.run.loops and not chosen:
            held = Held(event, oid, self.run.rounds, state.decisions, self._innermost())
            self.clearings.append(held)

    def scheduled(self, event: SchedulerStep, oid: ObjectId, state: State) -> None:
        """Note a scheduler's step with the loop around it."""
        held = Held(event, oid, self.run.rounds, state.decisions, self._innermost())
        self.schedules.append(held)

    def finish(self, recorder: Recorder) -> None:
        """Raise the events that waited."""
        for held in self.wiped:
            assert isinstance(held.event, OptimizerStep)
            at_times = held.place in self.used
            facts = replace(held.event.optimizer, cleared_at_times=at_times)
            _raise(recorder, held, replace(held.event, optimizer=facts))
        for held in self.mixed:
            # `i % n == 0` here and `(i + 1) % n == 0` there: the rounds between are not known.
            if held.place not in self.cleared_nth:
                _raise(recorder, held, held.event)
        for held in self.clearings:
            assert isinstance(held.event, GradientsCleared)
            # Clearing where an epoch begins only drops what an incomplete last group left.
            together = held.place in self.fills.get(held.optimizer, set())
            nth = self.every_nth.get(held.optimizer, False)
            between = together and (nth or self._steps_after(held))
            _raise(recorder, held, replace(held.event, between_micro_batches=between))
        late = {
            (held.event.site, held.rounds)
            for held in self.schedules
            if isinstance(held.event, SchedulerStep)
            and held.event.before_optimizer is not Certainty.YES
        }
        for held in self.schedules:
            assert isinstance(held.event, SchedulerStep)
            if (held.event.site, held.rounds) in late:
                continue  # the step comes first; this path has skipped every batch
            together = held.place in self.loops.get(held.optimizer, set())
            same = Certainty.YES if together else Certainty.NO
            _raise(recorder, held, replace(held.event, same_loop=same))

    def _steps_after(self, held: Held) -> bool:
        """Whether what is cleared in a loop is stepped on after that loop, and never inside it.

        An attack that clears in its own loop has a backward of its own, which no step uses.
        """
        assert isinstance(held.event, GradientsCleared)
        backward = held.event.optimizer.backward
        if backward is None or held.place in self.loops.get(held.optimizer, set()):
            return False
        return any(oid == held.optimizer and site == backward.site for _, oid, site in self.used)


def _raise(recorder: Recorder, held: Held, event: Event) -> None:
    recorder.raise_event(event, held.rounds, held.decisions)


def _key(loop: Loop) -> Hashable:
    return (loop.node, loop.site.path if loop.site is not None else "")


def counts_rounds(state: State) -> bool:
    """Whether a condition of the form `(i + 1) % n == 0` holds here."""
    return any(_has_modulo(key) for key, held in state.assumed.items() if held)


def _or_modulo(test: ir.Expr) -> bool:
    """`(i + 1) % n == 0 or last`: every n-th round, and one more."""
    parts = test.values if isinstance(test, ir.BoolOp) else ()
    return any(isinstance(e, ir.BinOp) and e.op == "%" for part in parts for e in walk(part))


def _has_modulo(key: Hashable) -> bool:
    if isinstance(key, tuple):
        return key[:2] == ("expr", "%") or any(_has_modulo(part) for part in key)
    return False
