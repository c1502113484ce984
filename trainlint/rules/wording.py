"""How messages name things whose name may be unknown."""

from __future__ import annotations


def called(name: str, otherwise: str) -> str:
    """The name in backticks, or a description where there is none."""
    return f"`{name}`" if name else otherwise


def listed(names: tuple[str, ...], limit: int = 3) -> str:
    """At most `limit` names in backticks, and how many more there are."""
    shown = ", ".join(f"`{name}`" for name in names[:limit])
    rest = len(names) - limit
    return f"{shown} and {rest} more" if rest > 0 else shown
