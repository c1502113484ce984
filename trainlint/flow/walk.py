"""Looking through code without interpreting it."""

from __future__ import annotations

from collections.abc import Iterator

from trainlint.flow import ir


def calls_in(node: object) -> Iterator[ir.Call]:
    """Every call in a statement, an expression or a body, those in nested functions too."""
    return (part for part in _parts_of(node) if isinstance(part, ir.Call))


def attributes_of(node: object, receiver: str) -> Iterator[str]:
    """Every attribute that is looked up on a name, or on `super()`."""
    for part in _parts_of(node):
        match part:
            case ir.Attribute(value=ir.Name(id=name), attr=attr) if name == receiver:
                yield attr
            case ir.Attribute(value=ir.Call(func=ir.Name(id="super")), attr=attr):
                yield attr
            case _:
                pass


def nodes_outside_definitions(body: object) -> Iterator[ir.Node]:
    """The nodes of a body, without those of the functions and classes defined in it."""
    stack = [body]
    while stack:
        top = stack.pop()
        if isinstance(top, tuple):
            stack.extend(reversed(top))
        elif isinstance(top, ir.Node | ir.Argument):
            if isinstance(top, ir.Node):
                yield top
            if not isinstance(top, ir.Function | ir.Lambda | ir.Class):
                stack.extend([getattr(top, slot) for slot in _PARTS[type(top)]])


def _parts_of(node: object) -> Iterator[ir.Node | ir.Argument]:
    stack = [node]
    while stack:
        top = stack.pop()
        if isinstance(top, tuple):
            stack.extend(reversed(top))
        elif isinstance(top, ir.Node | ir.Argument):
            yield top
            stack.extend([getattr(top, slot) for slot in _PARTS[type(top)]])


class _Parts(dict[type, tuple[str, ...]]):
    """By kind of node, its fields that can hold code, the last first."""

    def __missing__(self, kind: type) -> tuple[str, ...]:
        slots: tuple[str, ...] = kind.__slots__  # type: ignore[attr-defined]
        self[kind] = tuple(slot for slot in reversed(slots) if slot not in _NO_CODE)
        return self[kind]


_PARTS = _Parts()
_NO_CODE = frozenset(("words", "locals", "node", "name", "id", "attr", "op", "kind"))
