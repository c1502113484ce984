"""Loops: their rounds, until nothing new comes out of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from trainlint.flow import ir
from trainlint.flow.frames import (
    MAX_ROUNDS,
    MAX_UNROLLED,
    Frame,
    Loop,
    Out,
)
from trainlint.flow.ir import spelled
from trainlint.flow.part_walks import part_walk
from trainlint.flow.reading import mentioned
from trainlint.flow.state import (
    State,
)
from trainlint.flow.values import (
    ObjectId,
    Ref,
    Value,
)
from trainlint.flow.walk import statements_of

if TYPE_CHECKING:
    from trainlint.flow.interpret import Interpreter
    from trainlint.flow.suspended import Drawn


_TRANSPARENT = re.compile(r"(^|\.)(enumerate|iter|islice|reversed|tqdm|zip)\(\.\.\.\)$")
"""Functions that give what they are given, one by one."""


class Iteration:
    """Loops: their rounds, until nothing new comes out of them."""

    def __init__(self, interpreter: Interpreter) -> None:
        self.run = interpreter

    def for_loop(self, s: ir.For, state: State, frame: Frame) -> Out:
        out = Out([])
        for st, iterable in self.run.eval(s.iter, state, frame):
            part = self._for_over(s, iterable, st, frame)
            out.on.extend(part.on)
            out.jumps.extend(part.jumps)
        return out

    @staticmethod
    def _loaders(e: ir.Expr, value: Value) -> tuple[str, ...]:
        """What a loop draws from, as it is written, and as a parameter is called that it is."""
        names = [spelled(e)]
        while isinstance(e, ir.Call) and e.args and _TRANSPARENT.search(names[-1]):
            e = e.args[0].value
            names.append(spelled(e))
        if isinstance(value, Ref) and isinstance(value.oid, tuple) and value.oid[0] == "param":
            names.append(str(value.oid[-1]))
        return tuple(dict.fromkeys(names))

    def _for_over(self, s: ir.For, iterable: Value, state: State, frame: Frame) -> Out:
        drawn = self.run.suspended.drawn(iterable, state, frame, s)
        if drawn is not None:
            return self._for_over_generator(s, drawn, state, frame)
        items = self.run.collections.known_items(iterable, state)
        if items is not None and len(items) <= MAX_UNROLLED:
            return self._unrolled(s, items, state, frame)
        element = self.run.collections.element(iterable, state, frame, s)
        loop = Loop(
            loop_word(s.target, s.iter),
            node=s.node,
            loaders=self._loaders(s.iter, iterable),
            site=self.run.site(frame, s),
            draw=self.run.epochs.draws(iterable, state),
            names=frozenset(mentioned(s.target)),
        )
        parameters = self.run.collections.iterates_parameters(iterable, state)
        if parameters:
            return self._over_parameters(s, element, state, frame)

        parts = self.run.collections.is_part(element)
        loop.repeats = not parts
        walked = part_walk(self.run, s, iterable, state) if parts else None

        def enter(st: State) -> list[State]:
            first = loop.round == 1 and not parts
            value = self.run.collections.first_element(iterable, element, st) if first else element
            if (
                isinstance(element, Ref)
                and isinstance(element.oid, tuple)
                and element.oid[0] == "item"
            ):
                self.forget_item(st, element.oid)
            self.bind_item(s.target, value, st, frame, s)
            return [st]

        item: ObjectId = ("item", frame.module.path, s.node, frame.id)
        if parts and item not in self.run.part_items:
            self.run.part_items.add(item)
            out = self.rounds_of(loop, [state], s.body, frame, enter, None)
            self.run.part_items.remove(item)
        else:
            out = self.rounds_of(loop, [state], s.body, frame, enter, None)
        if walked is not None:
            walked.done(out.on)
        return self._loop_else(s.orelse, out, frame)

    def forget_item(self, state: State, oid: ObjectId) -> None:
        """The loop's element is another one in each round."""
        state.forget(oid)
        if oid in state.heap:
            del state.heap[oid]
        state.attrs.clear_of(oid)

    def bind_item(
        self, target: ir.Expr, value: Value, state: State, frame: Frame, s: ir.Node
    ) -> None:
        """Bind a loop's target; parts of an opaque element are opaque."""
        self.run.scopes.store(target, value, state, frame, s)
        for name in names_in(target):
            found = state.vars.get((self.run.scopes.scope_of(name, frame), name))
            if isinstance(found, Ref):
                state.forget(found.oid)

    def _over_parameters(self, s: ir.For, element: Value, state: State, frame: Frame) -> Out:
        """One pass is enough: every parameter takes the same statements."""
        depth = len(self.run.parameter_loops) + 1
        self.run.parameter_loops.append(depth)
        outer, state.params_partial = state.params_partial, 0
        try:
            self.bind_item(s.target, element, state, frame, s)
            out = self.run.block(s.body, [state], frame)
        finally:
            self.run.parameter_loops.pop()
        leaves = (ir.JumpKind.BREAK, ir.JumpKind.CONTINUE)
        on = [*out.on, *(st for kind, st, _ in out.jumps if kind in leaves)]
        for st in on:
            st.params_partial = outer
        return Out(self.run.join(on), [j for j in out.jumps if j[0] not in leaves])

    def _for_over_generator(self, s: ir.For, drawn: Drawn, state: State, frame: Frame) -> Out:
        jumps: list[tuple[ir.JumpKind, State, Value | None]] = []
        loop = Loop(loop_word(s.target, s.iter), node=s.node, loaders=(spelled(s.iter),))

        def body(states: list[State], value: Value | None) -> list[State]:
            self.run.loops.append(loop)
            try:
                for st in states:
                    element = value if value is not None else self.run.fresh(st, frame, s, "item")
                    self.bind_item(s.target, drawn.bound(element), st, frame, s)
                out = self.run.block(s.body, states, frame)
            finally:
                self.run.loops.pop()
            on = list(out.on)
            for kind, st, result in out.jumps:
                if kind in (ir.JumpKind.CONTINUE, ir.JumpKind.BREAK):
                    on.append(st)
                else:
                    jumps.append((kind, st, result))
            return self.run.join(on)

        results = self.run.suspended.each(drawn.call, state, frame, s, body)
        return Out(self.run.join(results), jumps)

    def _unrolled(self, s: ir.For, items: tuple[Value, ...], state: State, frame: Frame) -> Out:
        """A loop over known items: once for each, in order."""
        states, jumps, broken = [state], [], []
        self.run.loops.append(Loop("round", node=s.node, repeats=False, unrolled=True))
        turns = self.run.turns
        try:
            for i, item in enumerate(items):
                self.run.turns = (*turns, i)
                for st in states:
                    self.run.scopes.store(s.target, item, st, frame, s)
                out = self.run.block(s.body, states, frame)
                states = list(out.on)
                for kind, st, value in out.jumps:
                    match kind:
                        case ir.JumpKind.CONTINUE:
                            states.append(st)
                        case ir.JumpKind.BREAK:
                            broken.append(st)
                        case _:
                            jumps.append((kind, st, value))
                states = self.run.join(states)
        finally:
            self.run.turns = turns
            self.run.loops.pop()
        after = self.run.block(s.orelse, states, frame)
        return Out(self.run.join([*after.on, *broken]), [*jumps, *after.jumps])

    def while_loop(self, s: ir.While, state: State, frame: Frame) -> Out:
        ends = not isinstance(s.test, ir.Literal) or _has_break(s.body)
        loop = Loop("round", node=s.node, site=self.run.site(frame, s), ends=ends)
        exits: list[State] = []

        def enter(st: State) -> list[State]:
            yes, no, undetermined = self.run.branches.split(s.test, st, frame)
            if loop.round > 1 or not undetermined:
                exits.extend(no)
            if undetermined:
                # The test is another question in the next round.
                for each in (*yes, *no):
                    each.assumed.pop(undetermined, None)
            return yes

        out = self.rounds_of(loop, [state], s.body, frame, enter, exits)
        return self._loop_else(s.orelse, out, frame)

    def rounds_of(
        self,
        loop: Loop,
        states: list[State],
        body: ir.Block | Callable[[list[State]], Out],
        frame: Frame,
        enter: Callable[[State], list[State]],
        exits: list[State] | None,
    ) -> Out:
        """Repeat a loop's body until nothing new comes out of it.

        At least one round runs: a loop that runs no round at all cannot raise an alarm of its
        own, and what follows is judged as after a real run.
        """
        jumps: list[tuple[ir.JumpKind, State, Value | None]] = []
        left: list[State] = []
        ends: list[State] = []
        seen = self.run.seen.setdefault((loop.node, frame.id), set())
        loop.tests = len(self.run.tests)
        self.run.loops.append(loop)
        try:
            for number in range(1, MAX_ROUNDS + 1):
                loop.round = number
                entered: list[State] = []
                for st in states:
                    self.run.training.new_round(st)
                    seen.add(st.key())
                    entered.extend(enter(st.copy()))
                if not entered:
                    break
                out = body(entered) if callable(body) else self.run.block(body, entered, frame)
                ends = list(out.on)
                for kind, st, value in out.jumps:
                    match kind:
                        case ir.JumpKind.CONTINUE:
                            ends.append(st)
                        case ir.JumpKind.BREAK:
                            left.append(st)
                        case _:
                            jumps.append((kind, st, value))
                ends = self.run.join(ends)
                if exits is None:
                    left.extend(st.copy() for st in ends)
                for st in ends:
                    self.run.training.new_round(st)
                states = [st for st in ends if st.key() not in seen]
                if exits is not None and not states:
                    # The test of the next round: a loop that changes nothing ends too.
                    loop.round = number + 1
                    for st in ends:
                        enter(st)
                if not states:
                    break
        finally:
            self.run.loops.pop()
        if loop.ends and not (left or exits or jumps):
            # `while epoch < 90`: a number of rounds that nobody counts here.
            left.extend(st.copy() for st in ends)
        return Out(self.run.join([*left, *(exits or ())]), jumps)

    def _loop_else(self, orelse: ir.Block, out: Out, frame: Frame) -> Out:
        if not orelse:
            return out
        after = self.run.block(orelse, out.on, frame)
        return Out(after.on, [*out.jumps, *after.jumps])


def _has_break(body: ir.Block) -> bool:
    return any(isinstance(s, ir.Jump) and s.kind is ir.JumpKind.BREAK for s in statements_of(body))


def names_in(target: ir.Expr) -> Iterator[str]:
    """The names that a target binds."""
    match target:
        case ir.Name(id=name):
            yield name
        case ir.Sequence(items=items):
            for item in items:
                yield from names_in(item)
        case ir.Starred(value=inner):
            yield from names_in(inner)
        case _:
            return


def loop_word(target: ir.Expr, iterable: ir.Expr) -> str:
    """What one round of a loop is called."""
    text = " ".join(names_in(target)).lower() + " " + spelled(iterable).lower()
    if isinstance(iterable, ir.Call):
        text += " " + " ".join(spelled(a.value).lower() for a in iterable.args)
    for word, name in (("epoch", "epoch"), ("fold", "fold"), ("episode", "episode")):
        if word in text:
            return name
    if any(w in text for w in ("batch", "loader", "step", "iter", "data")):
        return "step"
    return "round"
