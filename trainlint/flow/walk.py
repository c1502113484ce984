"""Looking through code without interpreting it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any

from trainlint.flow import ir


def walk(node: object, naming: str | None = None) -> Iterator[ir.Node]:
    """A node and everything below it; a tuple's nodes and everything below them.

    With `naming`, nothing below those definitions that do not mention that word: their bodies need
    not even be parsed.
    """
    stack = [node]
    while stack:
        top = stack.pop()
        kind = type(top)
        if kind is tuple:
            stack.extend(reversed(top))  # type: ignore[call-overload]
            continue
        parts = _PARTS[kind]
        if parts is None:
            continue
        if kind not in _CARRIERS:
            yield top  # type: ignore[misc]
        if naming is None or kind not in _DEFINITIONS or naming in top.words:  # type: ignore[attr-defined]
            stack += parts(top)


def below(node: object) -> list[ir.Node]:
    """The nodes right below a node, a tuple of nodes or an argument, in source order."""
    found: list[ir.Node] = []
    parts = None if type(node) is tuple else _PARTS[type(node)]
    stack: list[object] = [node] if parts is None else list(parts(node))
    while stack:
        top = stack.pop()
        if isinstance(top, ir.Node):
            found.append(top)
        elif type(top) is tuple:
            stack.extend(reversed(top))
        elif type(top) in _CARRIERS:
            stack += _PARTS[type(top)](top)  # type: ignore[misc]
    return found


def statements_of(body: ir.Block, naming: str | None = None) -> Iterator[ir.Node]:
    """Every statement of a body and of the bodies in it, with handlers and nested definitions.

    `naming` is as for `walk`.
    """
    stack: list[ir.Node] = list(reversed(body))
    while stack:
        top = stack.pop()
        yield top
        kind = type(top)
        bodies = _BODIES.get(kind)
        if naming is not None and kind in _DEFINITIONS and naming not in top.words:  # type: ignore[attr-defined]
            continue
        if bodies is not None:
            for inner in bodies(top):
                stack.extend(reversed(inner))


@lru_cache(maxsize=2_000)
def nodes_of(function: ir.Function) -> tuple[ir.Node, ...]:
    """Everything in a function's body, kept because many questions are asked of it."""
    return tuple(walk(function.body))


def calls_in(node: object, naming: str | None = None) -> Iterator[ir.Call]:
    """Every call in a statement, an expression or a body, those in nested functions too.

    `naming` is as for `walk`.
    """
    return (part for part in walk(node, naming) if isinstance(part, ir.Call))


def attributes_of(node: object, receiver: str) -> Iterator[str]:
    """Every attribute that is looked up on a name, or on `super()`."""
    for part in walk(node):
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
        if isinstance(top, ir.Node):
            yield top
        if not isinstance(top, ir.Function | ir.Lambda | ir.Class):
            stack.extend(reversed(below(top)))


Parts = Callable[[object], tuple[object, ...]]


class _Parts(dict[type, "Parts | None"]):
    """By kind of node, what reads its fields that can hold code, the last first."""

    def __missing__(self, kind: type) -> Parts | None:
        found: Parts | None = None
        if kind in _CARRIERS or issubclass(kind, ir.Node):
            slots: tuple[str, ...] = kind.__slots__  # type: ignore[attr-defined]
            found = _reader([slot for slot in reversed(slots) if slot not in _NO_CODE])
        self[kind] = found
        return found


def _reader(slots: list[str]) -> Parts:
    if not slots:
        return _none
    read: Any = attrgetter(*slots)
    return read if len(slots) > 1 else lambda node: (read(node),)


def _none(_: object) -> tuple[object, ...]:
    return ()


_DEFINITIONS = frozenset((ir.Function, ir.Class))
_CARRIERS = frozenset((ir.Argument, ir.Parameter))
"""What holds code and has no place of its own."""
_BODIES: dict[type, Callable[[Any], tuple[Sequence[ir.Node], ...]]] = {
    ir.If: lambda s: (s.orelse, s.body),
    ir.For: lambda s: (s.orelse, s.body),
    ir.While: lambda s: (s.orelse, s.body),
    ir.With: lambda s: (s.body,),
    ir.Try: lambda s: (s.final, s.orelse, s.handlers, s.body),
    ir.Handler: lambda s: (s.body,),
    ir.Function: lambda s: (s.body,),
    ir.Class: lambda s: (s.body,),
}
"""By kind of statement, the bodies in it, the last first."""
_NO_CODE = frozenset("words locals later node name id attr op kind annotation".split())
_PARTS = _Parts()
