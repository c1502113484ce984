"""What the interpreter saw: events go to the rules, findings come out once and only if feasible."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable
from dataclasses import field

from trainlint.core.events import Event
from trainlint.core.facts import Site
from trainlint.core.late import dataclass
from trainlint.core.rule import Finding, Rule
from trainlint.flow.state import Decision
from trainlint.flow.values import Const

MAX_UNRELATED_CONDITIONS = 1


@dataclass(slots=True)
class Candidate:
    """One finding with the paths that lead to it; the earliest round's wording is kept."""

    finding: Finding
    rounds: int
    paths: set[frozenset[Decision]]


@dataclass(slots=True)
class Recorder:
    """Hands events to the rules that listen and gathers what they find."""

    rules: dict[type[Event], list[Rule[Event]]]
    candidates: dict[tuple[str, Site], Candidate] = field(default_factory=dict)
    under: dict[Site, frozenset[Hashable]] = field(default_factory=dict)
    """The tests that a place stands under, on all ways to it."""
    raised: int = 0
    """How many events there have been, whether or not a rule wanted them."""

    @classmethod
    def of(cls, rules: Iterable[type[Rule[Event]]]) -> Recorder:
        """A recorder for the given rule classes."""
        table: dict[type[Event], list[Rule[Event]]] = defaultdict(list)
        for rule in rules:
            for event in rule.on:
                table[event].append(rule())
        return cls(dict(table))

    def only(self, events: Iterable[type[Event]]) -> Recorder:
        """A recorder of the same findings that hears these events alone."""
        rules = {e: self.rules[e] for e in events if e in self.rules}
        return Recorder(rules, self.candidates, self.under)

    def listens(self, event: type[Event]) -> bool:
        """Whether any rule wants such events."""
        return event in self.rules

    def reaches(self, site: Site, tests: Iterable[Hashable]) -> None:
        """Note the tests that a place stands under: to reach it they have to hold anyway."""
        known = self.under.get(site)
        self.under[site] = frozenset(tests) if known is None else known.intersection(tests)

    def raise_event(
        self, event: Event, rounds: int = 1, decisions: frozenset[Decision] = frozenset()
    ) -> bool:
        """Give an event to its rules; whether one of them finds something.

        `rounds` is the greatest loop round it happened in.
        """
        self.raised += 1
        told = False
        for rule in self.rules.get(type(event), ()):
            for finding in rule.check(event):
                self._add(finding, rounds, decisions)
                told = True
        return told

    def _add(self, finding: Finding, rounds: int, decisions: frozenset[Decision]) -> None:
        key = (finding.rule.code, finding.site)
        known = self.candidates.get(key)
        if known is None:
            self.candidates[key] = Candidate(finding, rounds, {decisions})
            return
        known.paths.add(decisions)
        better = (finding.severity.rank, rounds) < (known.finding.severity.rank, known.rounds)
        if better:
            known.finding, known.rounds = finding, rounds

    def findings(self) -> list[Finding]:
        """Those on a path that needs at most one condition that nothing explains."""
        return [c.finding for c in self.candidates.values() if feasible(self._from_here(c))]

    def _from_here(self, candidate: Candidate) -> set[frozenset[Decision]]:
        """A finding's paths without the tests that its own place stands under."""
        under = self.under.get(candidate.finding.site)
        if not under:
            return candidate.paths
        return {frozenset(d for d in path if d[0] not in under) for path in candidate.paths}


def feasible(paths: Iterable[frozenset[Decision]]) -> bool:
    """Whether one of the paths, after joining what holds both ways, needs few conditions."""
    given = set(paths)
    free = _either_way(given)
    current = {frozenset(d for d in path if d[0] not in free) for path in given}
    for _ in range(12):
        joined = _join_once(current)
        if joined == current:
            break
        current = joined
    return any(len(_conditions(path)) <= MAX_UNRELATED_CONDITIONS for path in current)


def _either_way(paths: set[frozenset[Decision]]) -> set[Hashable]:
    """Conditions that some paths need to hold and others not to hold: the finding needs neither."""
    sides: dict[Hashable, set[bool]] = defaultdict(set)
    for path in paths:
        for key, side in path:
            if (key, not side) not in path:
                sides[key].add(side)
    return {key for key, taken in sides.items() if len(taken) == 2}


def _conditions(path: frozenset[Decision]) -> set[Hashable]:
    return {key for key, _ in path}


def _join_once(paths: set[frozenset[Decision]]) -> set[frozenset[Decision]]:
    result = set(paths)
    ordered = list(paths)
    for i, first in enumerate(ordered):
        for second in ordered[i + 1 :]:
            difference = first ^ second
            if len(difference) == 2:
                (a, b) = difference
                if (a[0] == b[0] and a[1] != b[1]) or _alternatives(a, b):
                    result.add(first & second)
    return {p for p in result if not any(q < p for q in result)}


def _alternatives(first: Decision, second: Decision) -> bool:
    """`name == "sgd"` and `name == "adam"`: where both lead to it, the finding needs neither."""
    match first, second:
        case (("eq", asked, Const()), True), (("eq", again, Const()), True):
            return bool(asked == again)
        case _:
            return False
