"""Codes the runtime half reports, and which of them a user selected.

The table repeats what the rules' classes say only so that a live run never has to import the
static half; `tests/runtime/test_codes.py` holds the two equal.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import NamedTuple

from trainlint.core.diagnostic import Severity

_E, _W, _I = Severity.ERROR, Severity.WARNING, Severity.INFO


class LiveRule(NamedTuple):
    """One code as a live run reports it."""

    code: str
    name: str
    severity: Severity
    default: bool = True


_TABLE = (
    LiveRule("TL101", "train-in-eval-mode", _E),
    LiveRule("TL102", "eval-in-train-mode", _W),
    LiveRule("TL104", "training-flag-assigned", _W),
    LiveRule("TL105", "partial-mode-overridden", _W),
    LiveRule("TL106", "reference-model-in-train-mode", _W),
    LiveRule("TL107", "mixed-training-flags", _W),
    LiveRule("TL201", "eval-without-no-grad", _W),
    LiveRule("TL203", "backward-under-no-grad", _E),
    LiveRule("TL204", "grad-mode-leaked", _W),
    LiveRule("TL205", "missing-zero-grad", _E),
    LiveRule("TL206", "zero-grad-wipes-gradients", _E),
    LiveRule("TL207", "step-before-backward", _E),
    LiveRule("TL208", "scheduler-before-optimizer", _W),
    LiveRule("TL209", "scaler-bypassed", _E),
    LiveRule("TL210", "clip-misplaced", _E),
    LiveRule("TL211", "clip-before-unscale", _E),
    LiveRule("TL212", "loss-detached", _E),
    LiveRule("TL213", "graph-retained", _W, default=False),
    LiveRule("TL301", "optimizer-over-frozen-params", _E),
    LiveRule("TL302", "optimizer-includes-frozen-params", _I),
    LiveRule("TL303", "optimizer-misses-params", _E),
    LiveRule("TL304", "optimizer-stale-model", _E),
    LiveRule("TL305", "freeze-after-optimizer", _W),
    LiveRule("TL307", "requires-grad-misset", _E),
    LiveRule("TL308", "gradients-without-optimizer", _W),
    LiveRule("TL401", "peft-loaded-frozen", _E),
    LiveRule("TL402", "peft-inference-config", _E),
    LiveRule("TL403", "peft-kbit-order", _E),
    LiveRule("TL404", "peft-frozen-by-hand", _E),
    LiveRule("TL406", "peft-trained-merged", _E),
    LiveRule("TL407", "peft-not-activated", _W),
    LiveRule("TL408", "peft-load-adapter-evals", _W),
    LiveRule("TL410", "peft-nested", _E),
    LiveRule("TL411", "peft-head-not-trained", _E),
    LiveRule("TL412", "peft-checkpoint-no-input-grad", _W),
    LiveRule("TL413", "peft-irregular-status", _E),
    LiveRule("TL414", "peft-irregular-requires-grad", _I),
    LiveRule("TL415", "peft-disable-unfreezes", _W),
    LiveRule("TL416", "peft-base-trains", _W),
    LiveRule("TL417", "peft-adapter-without-effect", _E),
    LiveRule("TL418", "peft-tied-weights-split", _W),
    LiveRule("TL501", "functional-dropout-always-on", _E),
    LiveRule("TL503", "unregistered-submodule", _E),
    LiveRule("TL504", "train-override-broken", _E),
    LiveRule("TL601", "ddp-forward-bypassed", _E),
    LiveRule("TL603", "ranks-disagree", _E),
    LiveRule("TL604", "ranks-diverged", _E),
    LiveRule("TL701", "no-gradient", _E),
    LiveRule("TL702", "non-finite-gradient", _E),
    LiveRule("TL703", "parameter-not-updated", _W),
    LiveRule("TL704", "eval-changed-state", _W),
)

LIVE: dict[str, LiveRule] = {rule.code: rule for rule in _TABLE}
_BY_NAME = {rule.name: rule.code for rule in _TABLE}


def _known_elsewhere(entry: str) -> bool:
    """Whether a static-only code, name or prefix is meant: valid, it just never fires here."""
    return len(entry) > 2 and entry.startswith("TL") and entry[2:].isdigit() and len(entry) <= 5


def _entries(value: str | Iterable[str]) -> list[str]:
    parts = value.split(",") if isinstance(value, str) else list(value)
    return [part.strip() for part in parts if part.strip()]


def _codes(entry: str, option: str, *, explicit_only: bool) -> set[str]:
    """The codes that one entry of `select` or `ignore` names."""
    if entry == "ALL":
        return set(LIVE)
    if entry in LIVE:
        return {entry}
    if entry in _BY_NAME:
        return {_BY_NAME[entry]}
    if entry == "TL" or _known_elsewhere(entry):
        return {c for c, r in LIVE.items() if c.startswith(entry) and (r.default or explicit_only)}
    near = difflib.get_close_matches(entry, [*LIVE, *_BY_NAME, "ALL"], 1, 0.4)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(
        f"{option} expects rule codes (`TL101`), prefixes (`TL1`), names or 'ALL', "
        f"not {entry!r}{hint}"
    )


def selected(
    select: str | Iterable[str] | None, ignore: str | Iterable[str] | None
) -> frozenset[str]:
    """The codes that may be reported: ruff's semantics of `select` and `ignore`."""
    chosen: set[str] = set()
    for entry in ["TL"] if select is None else _entries(select):
        chosen |= _codes(entry, "select", explicit_only=False)
    for entry in [] if ignore is None else _entries(ignore):
        chosen -= _codes(entry, "ignore", explicit_only=True)
    return frozenset(chosen)
