"""Looking through code without interpreting it."""

from __future__ import annotations

from collections.abc import Iterator

from trainlint.flow import ir


def calls_in(node: object) -> Iterator[ir.Call]:
    """Every call in a statement, an expression or a body, those in nested functions too."""
    if isinstance(node, tuple):
        for part in node:
            yield from calls_in(part)
        return
    if isinstance(node, ir.Call):
        yield node
    if isinstance(node, ir.Node | ir.Argument):
        for slot in type(node).__slots__:
            if slot not in ("words", "locals"):
                yield from calls_in(getattr(node, slot))
