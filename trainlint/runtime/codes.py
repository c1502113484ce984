"""Codes the runtime half reports, and which of them a user selected.

Name, severity and default come from the rules' own classes: nothing is written twice.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import NamedTuple

from trainlint.core.diagnostic import Severity
from trainlint.rules import all_rules


class LiveRule(NamedTuple):
    """One code as a live run reports it."""

    code: str
    name: str
    severity: Severity
    default: bool


_RULES = all_rules()
LIVE: dict[str, LiveRule] = {
    rule.code: LiveRule(rule.code, rule.name, rule.severity, rule.default)
    for rule in _RULES
    if rule.live
}
_NAMES = {rule.name: rule.code for rule in _RULES}
_CODES = tuple(rule.code for rule in _RULES)


def _entries(value: str | Iterable[str]) -> list[str]:
    parts = value.split(",") if isinstance(value, str) else list(value)
    return [part.strip() for part in parts if part.strip()]


def _codes(entry: str, option: str, *, off_too: bool) -> set[str]:
    """The codes that one entry of `select` or `ignore` names; a static-only one names none here."""
    if entry == "ALL":
        return set(LIVE)
    entry = _NAMES.get(entry, entry)
    if entry in _CODES:
        return {entry} & LIVE.keys()
    if entry and any(code.startswith(entry) for code in _CODES):
        return {c for c, r in LIVE.items() if c.startswith(entry) and (r.default or off_too)}
    near = difflib.get_close_matches(entry, [*_CODES, *_NAMES, "ALL"], 1, 0.4)
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
        chosen |= _codes(entry, "select", off_too=False)
    for entry in [] if ignore is None else _entries(ignore):
        chosen -= _codes(entry, "ignore", off_too=True)
    return frozenset(chosen)
