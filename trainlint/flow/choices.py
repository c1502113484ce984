"""A choice that has to be made: `if a: net = A() elif b: net = B()`, and `net` is used afterwards.

There is no third way: with neither, the next use of the name fails. Programs choose the network,
the optimizer and the data like this, and often leave out the `else: raise`. To follow that way
would add to every choice a path on which nothing is known.
"""

from __future__ import annotations

from trainlint.flow import ir
from trainlint.flow.frames import Frame
from trainlint.flow.walk import nodes_outside_definitions


class Choices:
    """The names that a chain of tests has to bind, by its last link."""

    def __init__(self) -> None:
        self._bound: dict[int, frozenset[str]] = {}

    def begins(self, s: ir.If, frame: Frame) -> None:
        """A test is met: note what the chain that it begins has to bind."""
        links = _links(s)
        if len(links) > 1 and not links[-1].orelse:
            last = id(links[-1])
            if last not in self._bound:
                names = frozenset.intersection(*map(_assigned, links))
                self._bound[last] = _used_only_after(names, s, frame) if names else names

    def has_to_bind(self, s: ir.If) -> frozenset[str]:
        """The names without which the program fails where the test, the last, does not hold."""
        return self._bound.get(id(s), frozenset())


def _links(s: ir.If) -> list[ir.If]:
    links = [s]
    while len(s.orelse) == 1 and isinstance(s.orelse[0], ir.If):
        s = s.orelse[0]
        links.append(s)
    return links


def _assigned(link: ir.If) -> frozenset[str]:
    return frozenset(
        target.id
        for statement in link.body
        if isinstance(statement, ir.Assign)
        for target in statement.targets
        if isinstance(target, ir.Name)
    )


def _used_only_after(names: frozenset[str], chain: ir.If, frame: Frame) -> frozenset[str]:
    """Those that the function reads outside of the chain and binds nowhere else."""
    inside = {id(node) for node in nodes_outside_definitions(chain)}
    body = frame.func.function.body if frame.func is not None else frame.module.module.body
    bound: set[str] = set(frame.globals | frame.nonlocals)
    read: set[str] = set()
    for node in nodes_outside_definitions(body):
        if id(node) in inside:
            continue
        match node:
            case ir.Assign(targets=targets):
                bound |= _names_in(targets)
            case ir.Name(id=name):
                read.add(name)
            case _:
                bound |= _names_bound_by(node)
    return names & read - bound


def _names_in(targets: tuple[ir.Expr, ...]) -> set[str]:
    return {n.id for n in nodes_outside_definitions(targets) if isinstance(n, ir.Name)}


def _names_bound_by(node: ir.Node) -> set[str]:
    match node:
        case ir.AugAssign(target=target) | ir.For(target=target) | ir.Walrus(target=target):
            return _names_in((target,))
        case ir.Import(bound=bound):
            return {bound}
        case ir.With(target=target):
            return _names_in((target,)) if target is not None else set()
        case _:
            return set()


__all__ = ["Choices"]
