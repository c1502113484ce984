"""Tests that are no free choice.

`if a: net = A() elif b: net = B()`, and `net` is used afterwards: there is no third way, for with
neither the next use of the name fails. Programs choose the network, the optimizer and the data
like this, and often leave out the `else: raise`. To follow that way would add to every choice a
path on which nothing is known.

`if rank == 0`: nobody chooses that. In every run there is a process that takes the one way, and
what happens on it needs no condition.
"""

from __future__ import annotations

import re

from trainlint.flow import ir
from trainlint.flow.frames import Frame
from trainlint.flow.walk import nodes_outside_definitions

_PROCESS = re.compile(
    r"(local_|global_|world_|node_|proc_|process_|dist_)?rank|get_(\w+_)?rank"
    r"|is_(\w+_)?(main|master|chief)(_proc(ess)?)?|(main|master)_process|is_(\w+_)?(rank_?)?zero"
)
"""What asks which of several processes this is, as people and libraries name it."""

_ABOVE = (">", ">=")
"""`rank > 0`: of an adapter, or of a factor, the rank that is high enough to have one."""


class Choices:
    """The names that a chain of tests has to bind, by its last link."""

    def __init__(self) -> None:
        self._bound: dict[int, frozenset[str]] = {}
        self._of_process: dict[int, bool] = {}

    def asks_for_process(self, s: ir.If) -> bool:
        """Whether a test asks for the process's rank and for nothing else."""
        known = self._of_process.get(id(s))
        if known is None:
            known = self._of_process[id(s)] = _asks_for_process(s.test)
        return known

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


def _asks_for_process(test: ir.Expr) -> bool:
    if isinstance(test, ir.BoolOp):
        return False
    asked = _names_asked(test)
    if isinstance(test, ir.Compare) and test.op in _ABOVE:
        asked.discard("rank")
    return any(_PROCESS.fullmatch(name) for name in asked)


def _names_asked(test: ir.Expr) -> set[str]:
    nodes = tuple(nodes_outside_definitions(test))
    names = {n.id for n in nodes if isinstance(n, ir.Name)}
    return names | {n.attr for n in nodes if isinstance(n, ir.Attribute)}


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
