"""What was found: each cause once, then raised, warned, logged or handed on."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence

from trainlint.runtime.judge.causes import CONSEQUENCES, FOLLOWS, fold, is_root
from trainlint.runtime.judge.verdict import Verdict
from trainlint.runtime.report import Report, TrainingStateError, Violation
from trainlint.runtime.watching.settings import Settings

logger = logging.getLogger("trainlint")
_LENT = 24
"""So many backwards of another network wait for the next of ours: a critic mostly takes 5 steps."""


class TrainingStateWarning(UserWarning):
    """What a watch with `on_violation="warn"` says."""


class Findings:
    """The report of one open watch, and what to do with what enters it."""

    def __init__(self, settings: Settings, before_raise: Callable[[], object] | None) -> None:
        self.report = Report()
        self.deferred: list[Verdict] = []
        """Verdicts that the next event will confirm, or take back."""
        self.lent: list[Verdict] = []
        """On forwards whose output went into the training of another network."""
        self._settings = settings
        self._before_raise = before_raise
        self._seen: set[object] = set()
        self._rooted = False
        self._led: frozenset[str] = frozenset()

    def take_deferred(self) -> list[Verdict]:
        """What was deferred, confirmed; nothing waits any more."""
        found, self.deferred = self.deferred, []
        return found

    def lend(self, deferred: list[Verdict]) -> list[Verdict]:
        """Another network's backward follows: what is to be said now.

        A generator in train mode makes samples for its critic with gradients off, and is trained
        again after that. Features for a probe look the same, and are said after a while.
        """
        waits = [v for v in deferred if v.code == "TL102"]
        self.lent += waits
        found = [v for v in deferred if v not in waits]
        if len(self.lent) > _LENT:
            found, self.lent = [*found, *self.lent], []
        return found

    def drop_deferred(self, cause: str) -> None:
        """What was deferred for this cause is taken back."""
        self.deferred = [v for v in self.deferred if v.cause != cause]

    def emit(self, verdicts: Sequence[Verdict], place: str | None) -> None:
        """Report what is new at the user's line `place`; raise, warn, log or call for what acts."""
        if not verdicts:
            return
        step = self.report.steps + 1
        fresh = [v.violation(step, place) for v in fold(verdicts) if self._is_new(v)]
        self.report.violations.extend(fresh)
        acting = [v for v in fresh if v.acts]
        if acting:
            self._act(acting)

    def _is_new(self, verdict: Verdict) -> bool:
        """Whether nothing said so far is the same, or its cause; remembers it."""
        if verdict.key in self._seen:
            return False
        if verdict.code in self._led or (self._rooted and verdict.code in CONSEQUENCES):
            return False
        self._seen.add(verdict.key)
        self._led |= FOLLOWS.get(verdict.code, frozenset())
        self._rooted = self._rooted or is_root(verdict)
        return verdict.code in self._settings.codes

    def _act(self, acting: Sequence[Violation]) -> None:
        action = self._settings.action
        if callable(action):
            for found in acting:
                action(found)
        elif action == "raise":
            if self._before_raise is not None:
                self._before_raise()
            raise TrainingStateError(acting)
        else:
            for found in acting:
                if action == "warn":
                    warnings.warn(str(found), TrainingStateWarning, stacklevel=4)
                else:
                    level = logging.ERROR if found.severity == "error" else logging.WARNING
                    logger.log(level, "%s", found)
