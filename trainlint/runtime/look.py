"""`inspect` and `verify`: one look at a model and its optimizers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from trainlint.runtime.codes import selected
from trainlint.runtime.expect import (
    Expect,
    Kept,
    check_expect,
    check_model,
    check_optimizers,
    check_phase,
    kept,
    unmet,
)
from trainlint.runtime.judge import adapters, attributes, modes, optimizers, overrides
from trainlint.runtime.judge.causes import fold, is_root
from trainlint.runtime.judge.modes import Modes
from trainlint.runtime.judge.verdict import Verdict
from trainlint.runtime.observation import Observation
from trainlint.runtime.observe import observe
from trainlint.runtime.report import HIDDEN, Report, TrainingStateError

__tracebackhide__ = HIDDEN

Codes = str | Iterable[str] | None


def inspect(
    model: nn.Module,
    optimizer: Any = None,
    phase: str | None = None,
    *,
    expect: Expect | None = None,
    allow_eval: Kept = (),
    allow_train: Kept = (),
    select: Codes = None,
    ignore: Codes = None,
) -> Report:
    """Look once at a model, its adapters and its optimizers; never raises for what it finds."""
    check_model(model)
    held = check_optimizers(optimizer)
    phase = check_phase(phase)
    codes = selected(select, ignore)
    state = observe(model)
    expect = check_expect(expect, state)
    keep_eval = kept("allow_eval", allow_eval, state)
    if expect.eval is not None:
        keep_eval |= kept("Expect(eval=...)", expect.eval, state)
    intended = Modes(keep_eval, kept("allow_train", allow_train, state))
    verdicts = look(state, held, phase, intended, expect)
    found = [v.violation() for v in fold(verdicts) if v.code in codes]
    return Report(found)


def look(
    state: Observation, held: list[Any], phase: str | None, intended: Modes, expect: Expect
) -> list[Verdict]:
    """Every verdict on a state, causes before consequences."""
    training = phase == "train"
    flags = state.flags()
    found = unmet(expect, state, training=training)
    found += adapters.judge(state, training=training)
    if phase == "train":
        found += modes.in_training(state, flags, intended)
    elif phase == "eval":
        found += modes.in_evaluation(state, flags, intended, trained=bool(held))
    else:
        found += modes.without_phase(state, flags, intended)
    found += attributes.misset(state)
    found += attributes.unregistered(state)
    found += overrides.broken(state)
    if training and not state.trainable() and not any(is_root(v) for v in found):
        names = tuple(n for n, _ in state.parameters)
        text = f"all {len(names)} parameters are frozen: nothing will train"
        found.append(Verdict("TL301", text, (), names, cause="coverage"))
    holders = [optimizers.held(o, state) for o in held]
    found += optimizers.coverage(state, holders)
    found += optimizers.moves_frozen(state, holders)
    return found


def verify(
    model: nn.Module,
    optimizer: Any = None,
    phase: str | None = "train",
    *,
    expect: Expect | None = None,
    allow_eval: Kept = (),
    allow_train: Kept = (),
    select: Codes = None,
    ignore: Codes = None,
) -> Report:
    """Like `inspect`, but raises a TrainingStateError that lists every violation (info aside)."""
    report = inspect(
        model,
        optimizer,
        phase,
        expect=expect,
        allow_eval=allow_eval,
        allow_train=allow_train,
        select=select,
        ignore=ignore,
    )
    acting = [v for v in report.violations if v.acts]
    if acting:
        raise TrainingStateError(acting)
    return report
