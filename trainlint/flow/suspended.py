"""Generators of the project: who draws from them, and what has run when nobody draws any more."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from trainlint.flow import ir
from trainlint.flow.frames import Loop
from trainlint.flow.state import LibraryObject, ListObject, State
from trainlint.flow.values import Partial, Ref, TupleValue, Value

if TYPE_CHECKING:
    from trainlint.flow.frames import Evaluated, Frame
    from trainlint.flow.interpret import Interpreter

MAX_LAYERS = 4
"""`enumerate`s and `zip`s around a generator that are looked through."""

Body = Callable[[list[State], "Value | None"], list[State]]


class Drawn(NamedTuple):
    """A suspended call, and what a loop binds for one of its values."""

    call: Partial
    bound: Callable[[Value], Value]


class Suspended:
    """Runs the project's generators where their values are taken."""

    def __init__(self, interpreter: Interpreter) -> None:
        self.run = interpreter

    def drawn(
        self, value: Value, state: State, frame: Frame, node: ir.Node, depth: int = 0
    ) -> Drawn | None:
        """The generator that a loop draws from, numbered or beside others or not."""
        if depth > MAX_LAYERS:
            return None
        call = self.run.contexts.generator_of(value, state)
        if call is not None:
            return Drawn(call, lambda given: given)
        thing = state.heap.get(value.oid) if isinstance(value, Ref) else None
        if not isinstance(thing, LibraryObject):
            return None
        match thing.role:
            case "enumerate":
                inner = self.drawn(thing.links[0][1], state, frame, node, depth + 1)
                count = Ref(("attr", ("item", frame.module.path, node.node, frame.id), 0))
                if inner is not None:
                    return Drawn(inner.call, lambda v: TupleValue((count, inner.bound(v))))
            case "zip":
                return self._zipped(thing, state, frame, node, depth + 1)
            case _:
                pass
        return None

    def _zipped(
        self, thing: LibraryObject, state: State, frame: Frame, node: ir.Node, depth: int
    ) -> Drawn | None:
        columns = [value for _, value in thing.links]
        for at, value in enumerate(columns):
            inner = self.drawn(value, state, frame, node, depth)
            if inner is not None:
                others = [self.run.collections.element(v, state, frame, node) for v in columns]
                return _beside(inner, tuple(others[:at]), tuple(others[at + 1 :]))
        return None

    def each(
        self, call: Partial, state: State, frame: Frame, node: ir.Node, body: Body
    ) -> list[State]:
        """Run a generator with `body` at its yields.

        One that never ends is left where its last value was taken: by `islice`, a `break`, or
        `zip` with something shorter.
        """
        taken: list[State] = []

        def noted(states: list[State], value: Value | None) -> list[State]:
            on = body(states, value)
            taken[:] = [st.copy() for st in on]
            return on

        return self.run.contexts.run_generator(call, state, frame, node, noted) or taken

    def drained(self, value: Value, state: State, frame: Frame, node: ir.Node) -> Evaluated | None:
        """All that a generator gives, as a list; None if the value is none."""
        drawn = self.drawn(value, state, frame, node)
        if drawn is None:
            return None
        found: list[Value] = []

        def body(states: list[State], given: Value | None) -> list[State]:
            if given is not None:
                found.append(drawn.bound(given))
            return states

        self.run.loops.append(Loop("round", node=node.node))
        try:
            ends = self.each(drawn.call, state, frame, node, body)
        finally:
            self.run.loops.pop()
        results: Evaluated = []
        for st in self.run.join(ends):
            ref = self.run.fresh(st, frame, node, "list")
            st.heap[ref.oid] = ListObject(None, frozenset(found))
            results.append((st, ref))
        return results


def _beside(inner: Drawn, before: tuple[Value, ...], behind: tuple[Value, ...]) -> Drawn:
    return Drawn(inner.call, lambda v: TupleValue((*before, inner.bound(v), *behind)))
