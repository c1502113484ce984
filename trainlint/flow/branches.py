"""Conditions: which way a test can go, and what is assumed on each side."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import TYPE_CHECKING

from trainlint.flow import ir
from trainlint.flow.assumptions import is_equality
from trainlint.flow.choices import Choices
from trainlint.flow.frames import (
    Frame,
    Out,
)
from trainlint.flow.reading import leaves
from trainlint.flow.state import (
    MAX_DISJUNCTS,
    Decision,
    ListObject,
    State,
    parts_of,
)
from trainlint.flow.values import (
    NONE,
    ClassValue,
    Const,
    External,
    Func,
    Method,
    Package,
    Partial,
    Ref,
    TupleValue,
    Value,
    condition_key,
    is_text,
)
from trainlint.libraries import LIBRARY

if TYPE_CHECKING:
    from trainlint.flow.interpret import Interpreter


class Branches:
    """Conditions: which way a test can go, and what is assumed on each side."""

    def __init__(self, interpreter: Interpreter) -> None:
        self.run = interpreter
        self.choices = Choices()

    def branch(self, s: ir.If, state: State, frame: Frame) -> Out:
        self.run.answered.clear()
        self.choices.begins(s, frame)
        yes, no, undetermined = self.split(s.test, state, frame)
        if undetermined:
            no = [st for st in no if not self._fails_without(s, st, frame)]
        some = self.run.parameter_loops or self._tells_parts_apart(undetermined)
        if undetermined and some and yes and no:
            return self._branch_over_parameters(s, yes, no, frame)
        self.run.tests.append(s.test)
        around, outside = frame.decided, len(self.run.open)
        frame.decided = within = {undetermined} if undetermined else set()
        answered = tuple(self.run.answered)
        self.run.open.extend(within or answered)
        first = self.run.block(s.body, yes, frame)
        second = self.run.block(s.orelse, no, frame)
        self.run.tests.pop()
        frame.decided = around
        del self.run.open[outside:]
        around |= within
        jumps = [*first.jumps, *second.jumps]
        if not undetermined:
            if answered and not isinstance(s.test, ir.BoolOp) and _guards(s):
                # The rest of the block stands under a guard whose answer is known, too.
                self.run.open.extend(answered)
            return Out([*first.on, *second.on], jumps)
        if not self.choices.asks_for_process(s):
            self._decide(undetermined, first, second, within)
        return Out(self.run.join([*first.on, *second.on]), jumps)

    def _fails_without(self, s: ir.If, state: State, frame: Frame) -> bool:
        """Whether a name that the test has to bind is unbound."""
        return any((frame.id, name) not in state.vars for name in self.choices.has_to_bind(s))

    def _tells_parts_apart(self, key: Hashable) -> bool:
        """Whether a test inside a loop over a module's parts asks which part it is."""
        return bool(self.run.part_items) and not self.run.part_items.isdisjoint(parts_of(key))

    def _branch_over_parameters(
        self, s: ir.If, yes: list[State], no: list[State], frame: Frame
    ) -> Out:
        """A test inside a loop over parameters or parts: some take one side, some the other.

        Both sides happen, one after the other, each to a part of the parameters. After
        `if ...: continue` the rest of the body happens to a part of them only.
        """
        for st in (*yes, *no):
            st.params_partial += 1
        self.run.tests.append(s.test)
        first = self.run.block(s.body, yes, frame)
        self.run.tests.pop()
        skipped = any(kind is ir.JumpKind.CONTINUE for kind, _, _ in first.jumps)
        jumps = [j for j in first.jumps if j[0] is not ir.JumpKind.CONTINUE]
        if not first.on:
            second = self.run.block(s.orelse, no, frame)
            if not skipped:
                _less_partial(second.on)
            return Out(second.on, [*jumps, *second.jumps])
        second = self.run.block(s.orelse, first.on, frame)
        _less_partial(second.on)
        return Out(second.on, [*jumps, *second.jumps])

    def _decide(self, key: Hashable, first: Out, second: Out, within: set[Hashable]) -> None:
        """Note the choice on both sides, unless only one of them goes on.

        What follows a guard (`if bad: continue`) is like the inside of its other branch: the
        whole rest of the block stands under it. Whoever nests one test in another says that both
        can hold: a choice made inside, one of `within`, speaks for the test around it too.
        """
        for mine, other, side in ((first, second, True), (second, first, False)):
            decision = frozenset(((key, side),))
            going = mine.on if other.on else []
            leaving = [
                st
                for kind, st, _ in mine.jumps
                if kind in (ir.JumpKind.CONTINUE, ir.JumpKind.RETURN)
            ]
            for st in (*going, *leaving):
                if not any(choice != key and choice in within for choice, _ in st.decisions):
                    st.decisions = self.not_around(st.decisions) | decision

    def not_around(self, decisions: frozenset[Decision]) -> frozenset[Decision]:
        """Choices without those that an answered test around here asks for once more."""
        if not decisions or not self.run.open:
            return decisions
        around = self.run.open
        return frozenset(choice for choice in decisions if choice[0] not in around)

    def split(
        self, test: ir.Expr, state: State, frame: Frame
    ) -> tuple[list[State], list[State], Hashable]:
        """States in which the test holds, those in which it does not, and an undetermined key."""
        yes: list[State] = []
        no: list[State] = []
        keys: list[Hashable] = []
        for st, truth, key in self.truths(test, state, frame):
            (yes if truth else no).append(st)
            if key is not None:
                keys.append(key)
        if len(yes) + len(no) > MAX_DISJUNCTS:
            yes, no = self.run.join(yes), self.run.join(no)
        return yes, no, (keys[0] if keys and yes and no else None)

    def truths(
        self, test: ir.Expr, state: State, frame: Frame
    ) -> Iterator[tuple[State, bool, Hashable]]:
        """Every outcome of a test that is possible here."""
        match test:
            case ir.UnaryOp(op="not", value=inner):
                for st, truth, key in self.truths(inner, state, frame):
                    yield st, not truth, key
            case ir.BoolOp(op=op, values=values):
                yield from self._short_circuit(op, values, state, frame)
            case _:
                for st, value in self.run.eval(test, state, frame):
                    yield from self.truth_of(value, st)

    def _short_circuit(
        self, op: str, values: tuple[ir.Expr, ...], state: State, frame: Frame
    ) -> Iterator[tuple[State, bool, Hashable]]:
        stops = op == "or"
        going: list[tuple[State, Hashable]] = [(state, None)]
        for i, value in enumerate(values):
            last = i == len(values) - 1
            after: list[tuple[State, Hashable]] = []
            for st, earlier in going:
                for st2, truth, key in self.truths(value, st, frame):
                    both = key if earlier is None else (earlier if key is None else (earlier, key))
                    if truth is stops or last:
                        yield st2, truth, both
                    else:
                        after.append((st2, both))
            going = self.run.bounded(after)

    def truth_of(self, value: Value, state: State) -> Iterator[tuple[State, bool, Hashable]]:
        """Whether a value is true; both, with the assumption noted, if nothing tells."""
        known = self.known_truth(value, state)
        if known is not None:
            yield state, known, None
            return
        key, positive = condition_key(value)
        assumed = state.assumed.get(key)
        if assumed is not None:
            self.run.answered.add(key)
            yield state, assumed is positive, None
            return
        if isinstance(key, tuple) and self._excluded(key, state):
            yield state, not positive, None
            return
        other = state.copy()
        state.assume(key, positive)
        other.assume(key, not positive)
        self.run.models.recall_mode(key, state if not positive else other)
        yield state, True, key
        yield other, False, key

    @staticmethod
    def _excluded(key: tuple[Hashable, ...], state: State) -> bool:
        """`phase == "val"` is false where `phase == "train"` is assumed, and so is what is None."""
        match key:
            case ("truth", value):
                return state.assumed.get(("eq", value, NONE)) is True
            case ("eq", value, const) if const == NONE and state.assumed.get(("truth", value)):
                return True
            case _ if not is_equality(key):
                return False
        return any(
            held and is_equality(k) and k[1] == key[1] and k != key  # type: ignore[index]
            for k, held in state.assumed.items()
        )

    def known_truth(self, value: Value, state: State) -> bool | None:
        """The truth of a value, if it is known."""
        match value:
            case Const(value=constant):
                return bool(constant)
            case Ref(oid=oid):
                thing = state.heap.get(oid)
                if isinstance(thing, ListObject):
                    return bool(thing.items) if thing.items is not None else None
                return (True if is_text(value) else None) if thing is None else True
            case TupleValue(items=items):
                return bool(items)
            case Func() | ClassValue() | Method() | Package() | Partial():
                return True
            case External(path=path):
                # `from config import cfg`: of a file that is not here, it may be any value.
                return True if path.split(".", 1)[0] in LIBRARY.packages else None
            case _:
                return None


def _guards(s: ir.If) -> bool:
    """Whether one side leaves: what follows belongs to the other."""
    return leaves(s.body) or leaves(s.orelse)


def _less_partial(states: list[State]) -> None:
    for state in states:
        state.params_partial -= 1
