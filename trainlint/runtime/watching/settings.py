"""What a user asked of a watch, checked for sense."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from trainlint.runtime.codes import selected
from trainlint.runtime.expect import Expect, Kept, check_expect, check_phase, kept
from trainlint.runtime.observation import Observation
from trainlint.runtime.report import Violation

Action = str | Callable[[Violation], object]
Codes = str | Iterable[str] | None


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of `watch()`, globs resolved to dotted names."""

    phase: str | None
    expect: Expect
    keep_eval: frozenset[str]
    """Modules that are meant to stay in eval mode."""
    keep_train: frozenset[str]
    codes: frozenset[str]
    action: Action
    every: int
    """What is judged at a step is judged at every so many steps, after the first few."""
    report: str | os.PathLike[str] | None


def read(
    state: Observation,
    *,
    phase: str | None,
    expect: Expect | None,
    allow_eval: Kept,
    allow_train: Kept,
    select: Codes,
    ignore: Codes,
    on_violation: Action,
    every: int,
    report: str | os.PathLike[str] | None,
) -> Settings:
    """The settings; a TypeError or ValueError says what was expected."""
    phase = check_phase(phase)
    codes = selected(select, ignore)
    action = _check_action(on_violation)
    every = _check_every(every)
    report = _check_path(report)
    expect = check_expect(expect, state)
    stay_eval = kept("allow_eval", allow_eval, state)
    if expect.eval is not None:
        stay_eval |= kept("Expect(eval=...)", expect.eval, state)
    stay_train = kept("allow_train", allow_train, state)
    return Settings(
        phase,
        expect,
        _names(state, stay_eval),
        _names(state, stay_train),
        codes,
        action,
        every,
        report,
    )


def _names(state: Observation, positions: Iterable[int]) -> frozenset[str]:
    return frozenset(state.modules[i][0] for i in positions)


def _check_action(action: Action) -> Action:
    if callable(action) or action in ("raise", "warn", "log"):
        return action
    raise ValueError(f"on_violation: expected 'raise', 'warn', 'log' or a callable, got {action!r}")


def _check_every(every: Any) -> int:
    if not isinstance(every, int) or isinstance(every, bool) or every < 1:
        raise ValueError(f"every: expected a number of steps from 1, got {every!r}")
    return every


def _check_path(report: str | os.PathLike[str] | None) -> str | os.PathLike[str] | None:
    if report is not None and not str(report).endswith((".json", ".html")):
        raise ValueError(f"report: expected a path that ends in .json or .html, got {report!r}")
    return report
