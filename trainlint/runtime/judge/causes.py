"""Root causes and their consequences: one wrong optimizer is one finding."""

from __future__ import annotations

from collections.abc import Iterable

from trainlint.runtime.judge.verdict import Verdict

CONSEQUENCES = frozenset(
    ("TL205 TL206 TL207 TL212 TL301 TL302 TL303 TL304 TL308 TL407 TL414 TL701 TL703").split()
)
"""What follows of itself once nothing can train, or the optimizer holds the wrong parameters."""
_ROOTS = frozenset(["TL301", "TL303", "TL304", "TL401", "TL402", "TL403", "TL404", "TL406"])

FOLLOWS: dict[str, frozenset[str]] = {
    "TL203": frozenset({"TL701"}),
    "TL206": frozenset({"TL207", "TL212", "TL701"}),
    "TL207": frozenset({"TL206", "TL212", "TL701"}),
    "TL212": frozenset({"TL207", "TL701"}),
    "TL305": frozenset({"TL302"}),
    "TL406": frozenset({"TL416"}),
    "TL409": frozenset({"TL102"}),
    "TL410": frozenset({"TL416"}),
    "TL412": frozenset({"TL701"}),
    "TL413": frozenset({"TL414", "TL701"}),
    "TL414": frozenset({"TL701"}),
    "TL417": frozenset({"TL701", "TL703"}),
    "TL504": frozenset({"TL101", "TL102", "TL104", "TL107"}),
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
    return [v for v in found if v is root or v.code not in CONSEQUENCES]
