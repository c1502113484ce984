"""`inspect` and `verify`: one look at a model and its optimizers."""

from __future__ import annotations

import gc
from collections.abc import Iterable
from typing import Any

from torch import nn

from trainlint.runtime import judge
from trainlint.runtime.codes import LIVE, selected
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
from trainlint.runtime.judge import Modes, Verdict
from trainlint.runtime.observe import Observation, observe
from trainlint.runtime.report import Report, TrainingStateError, Violation

Codes = str | Iterable[str] | None

_CONSEQUENCES = frozenset(
    [
        "TL205",
        "TL206",
        "TL207",
        "TL212",
        "TL301",
        "TL302",
        "TL303",
        "TL304",
        "TL308",
        "TL407",
        "TL414",
        "TL701",
        "TL703",
    ]
)
"""What follows of itself once nothing can train, or the optimizer holds the wrong parameters."""
_ROOTS = frozenset(["TL301", "TL303", "TL304", "TL401", "TL402", "TL403", "TL404", "TL406"])


FOLLOWS: dict[str, frozenset[str]] = {
    "TL203": frozenset({"TL701"}),
    "TL206": frozenset({"TL207", "TL212", "TL701"}),
    "TL207": frozenset({"TL206", "TL212", "TL701"}),
    "TL212": frozenset({"TL207", "TL701"}),
    "TL406": frozenset({"TL416"}),
    "TL410": frozenset({"TL416"}),
    "TL412": frozenset({"TL701"}),
    "TL413": frozenset({"TL414", "TL701"}),
    "TL414": frozenset({"TL701"}),
    "TL417": frozenset({"TL701", "TL703"}),
    "TL603": frozenset({"TL604"}),
}
"""Code by code, what is a mere consequence."""


def is_root(verdict: Verdict) -> bool:
    """Whether other findings are mere consequences of this one."""
    disabled = verdict.code == "TL417" and verdict.cause == "disabled"
    return verdict.code in _ROOTS or disabled


def fold(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """Root causes only, each once."""
    unique = {verdict.key: verdict for verdict in verdicts}
    found = list(unique.values())
    led = {code for v in found for code in FOLLOWS.get(v.code, ())}
    found = [v for v in found if v.code not in led]
    root = next((v for v in found if is_root(v)), None)
    if root is None:
        return found
    return [v for v in found if v is root or v.code not in _CONSEQUENCES]


def violation(verdict: Verdict, step: int | None = None, where: str | None = None) -> Violation:
    """A verdict with its step and place."""
    rule = LIVE[verdict.code]
    severity = verdict.severity or rule.severity
    return Violation(
        code=rule.code,
        name=rule.name,
        severity=severity.value,
        message=verdict.message,
        modules=verdict.modules,
        parameters=verdict.parameters,
        step=step,
        where=verdict.line or where,
        related=verdict.related,
        help=verdict.help,
    )


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
    optimizers = check_optimizers(optimizer)
    phase = check_phase(phase)
    codes = selected(select, ignore)
    state = observe(model)
    expect = check_expect(expect, state)
    keep_eval = kept("allow_eval", allow_eval, state)
    if expect.eval is not None:
        keep_eval |= kept("Expect(eval=...)", expect.eval, state)
    modes = Modes(keep_eval, kept("allow_train", allow_train, state))
    verdicts = look(state, optimizers, phase, modes, expect)
    found = [violation(v) for v in fold(verdicts) if v.code in codes]
    return Report(found)


def look(
    state: Observation, optimizers: list[Any], phase: str | None, modes: Modes, expect: Expect
) -> list[Verdict]:
    """Every verdict on a state, causes before consequences."""
    training = phase == "train"
    flags = state.flags()
    found = unmet(expect, state, training=training)
    found += judge.adapters(state, training=training)
    if phase == "train":
        found += judge.train_mode(state, flags, modes)
    elif phase == "eval":
        found += judge.eval_mode(state, flags, modes, trained=bool(optimizers))
    else:
        found += judge.mixed_mode(state, flags, modes)
    found += judge.misset(state)
    found += judge.unregistered(state)
    if training and not state.trainable() and not any(is_root(v) for v in found):
        names = tuple(n for n, _ in state.parameters)
        text = f"all {len(names)} parameters are frozen: nothing will train"
        found.append(Verdict("TL301", text, (), names, cause="coverage"))
    holders = [judge.held(o, state) for o in optimizers]
    found += judge.coverage(state, holders, created_before=created_before)
    found += judge.moves_frozen(state, holders)
    return found


def created_before(optimizer: Any, thing: object) -> bool | None:
    """Whether one object is older than another, from the order in which gc tracks them.

    The collector appends what it meets to its oldest generation in order of creation; where the
    answer is unsure it is None, and only a choice between two true descriptions hangs on it.
    """
    if optimizer is None:
        return None
    seen: list[str] = []
    for generation in (2, 1, 0):
        for found in gc.get_objects(generation=generation):
            if found is optimizer:
                seen.append("optimizer")
            elif found is thing:
                seen.append("thing")
    return seen[0] == "optimizer" if len(seen) == 2 else None


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
