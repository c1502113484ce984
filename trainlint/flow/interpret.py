"""Runs the IR over abstract states: statements, expressions, calls of the project's functions.

Python has no goto, so recursion over the block does what a graph would. Every statement maps the
disjuncts before it to those after it, and to the jumps that leave the straight line. What calls
of libraries do is `flow.calls`' business.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import replace
from typing import TypeVar

from trainlint.core.events import BareReference, ContextNotCalled
from trainlint.core.facts import Origin, Site
from trainlint.flow import ir
from trainlint.flow.adapters import Adapters
from trainlint.flow.attributes import Attributes
from trainlint.flow.calls import Calls
from trainlint.flow.collections import Collections
from trainlint.flow.contexts import Contexts
from trainlint.flow.epochs import Epochs
from trainlint.flow.escapes import Escapes
from trainlint.flow.execution import Execution
from trainlint.flow.frames import (
    BUILTINS,
    GENEROUS_STEPS,
    MAX_DEPTH,
    MAX_KEY,
    MAX_ROUNDS,
    MAX_STEPS,
    MAX_UNROLLED,
    BudgetExceeded,
    Evaluated,
    Frame,
    Loop,
    Out,
)
from trainlint.flow.hooked import Hooked
from trainlint.flow.ir import spelled
from trainlint.flow.library_calls import LibraryCalls
from trainlint.flow.models import Models
from trainlint.flow.naming import Names
from trainlint.flow.project import ModuleInfo, Project
from trainlint.flow.record import Recorder
from trainlint.flow.relevance import Relevance
from trainlint.flow.standins import thin
from trainlint.flow.state import (
    MAX_DISJUNCTS,
    ListObject,
    ModuleObject,
    ParametersObject,
    State,
    join,
    parts_of,
)
from trainlint.flow.tensors import Tensors
from trainlint.flow.trainers import Trainers
from trainlint.flow.training import Training
from trainlint.flow.values import (
    FALSE,
    NONE,
    TRUE,
    ClassValue,
    Condition,
    Const,
    External,
    FrameId,
    Func,
    Method,
    ObjectId,
    Package,
    ParameterSource,
    Partial,
    Ref,
    Tensor,
    TupleValue,
    Value,
    const,
)

T = TypeVar("T")


class Interpreter:
    """Interprets one root: a module's top level, a function or a class nobody calls."""

    def __init__(
        self,
        project: Project,
        recorder: Recorder,
        relevance: Relevance,
        semantics: dict[str, str] | None = None,
    ) -> None:
        self.project = project
        self.semantics = semantics or {}
        self.recorder = recorder
        self.relevance = relevance
        self.names = Names(self)
        self.attributes = Attributes(self)
        self.tensors = Tensors(self)
        self.collections = Collections(self)
        self.escapes = Escapes(self)
        self.contexts = Contexts(self)
        self.execution = Execution(self)
        self.library = LibraryCalls(self)
        self.calls = Calls(self)
        self.models = Models(self)
        self.training = Training(self, self.models)
        self.adapters = Adapters(self)
        self.trainers = Trainers(self)
        self.hooked = Hooked(self)
        self.epochs = Epochs(self)
        self.frames: dict[FrameId, Frame] = {}
        self.loops: list[Loop] = []
        self.depth = 0
        self.max_depth = MAX_DEPTH
        self.steps = 0
        self.began = 0
        self.max_steps = MAX_STEPS
        self.active: list[ir.Function] = []
        self.executed: set[int] = set()
        self.instantiated: set[int] = set()
        self.truncated = False
        self.entered: dict[int, tuple[ir.Statement, ...]] = {}
        """The bodies of functions and files that were interpreted."""
        self.made: set[ObjectId] = set()
        """The objects that a node has made on some path."""
        self.reached: set[int] = set()
        """Calls of `step` and `backward` that were interpreted on some path."""
        self.parameter_loops: list[int] = []
        self.seen: dict[tuple[int, FrameId], set[tuple[object, ...]]] = {}
        """The states in which the rounds of a loop began, also in earlier rounds around it."""
        self.tests: list[ir.Expr] = []
        """The tests whose bodies run now, the outermost first."""
        self.open: list[Hashable] = []
        """The tests whose branches are being run."""
        self.answered: set[Hashable] = set()
        """The tests that what was assumed has just answered."""
        self.part_items: set[ObjectId] = set()
        """What tells the rounds apart of the loops over a module's parts."""
        self.unchanged: dict[Hashable, Value] = {}
        """Calls that left a state as it was, with their results."""

    # --- places ------------------------------------------------------------------------

    def site(self, frame: Frame, node: ir.Node | int) -> Site:
        """The place of a node in its file."""
        return Site(frame.module.path, node if isinstance(node, int) else node.node)

    def origin(self, frame: Frame, node: ir.Node | int, note: str) -> Origin:
        """One step of a trail."""
        return Origin(self.site(frame, node), note)

    def fresh(self, state: State, frame: Frame, node: ir.Node, tag: str = "new") -> Ref:
        """The opaque object that a node makes; what was known of an earlier one is dropped."""
        oid = (tag, frame.module.path, node.node, frame.id)
        if oid not in self.made:  # nothing can be known of it
            self.made.add(oid)
            return Ref(oid)
        state.forget(oid)
        if oid in state.heap:
            if isinstance(state.heap[oid], ModuleObject):
                self.models.retire(state, oid)
            else:
                del state.heap[oid]
        else:
            self.models.retire_below(state, oid)
        return Ref(oid)

    @property
    def rounds(self) -> int:
        """The greatest round of the loops around the current statement."""
        return max((loop.round for loop in self.loops), default=1)

    @property
    def when(self) -> str:
        """` from the second epoch on`, if a loop is past its first round."""
        for loop in self.loops:
            if loop.round > 1:
                return f" from the second {loop.word} on"
        return ""

    # --- blocks and statements ---------------------------------------------------------

    def block(self, body: ir.Block, states: list[State], frame: Frame) -> Out:
        """Run statements one after the other."""
        jumps: list[tuple[ir.JumpKind, State, Value | None]] = []
        for statement in body:
            if not states:
                break
            after: list[State] = []
            for state in states:
                out = self.statement(statement, state, frame)
                after.extend(out.on)
                jumps.extend(out.jumps)
            # Only where a statement split a state is there something new to merge or to bound.
            states = self.join(after) if len(after) > len(states) else after
        return Out(states, jumps)

    def join(self, states: Iterable[State], limit: int = MAX_DISJUNCTS) -> list[State]:
        """Merge what is equal and bound the rest, the more tightly the longer it takes."""
        kept, dropped = thin(join(states), min(limit, self._limit()))
        for state in dropped:
            self._drop(state)
        return kept

    def bounded(self, results: list[tuple[State, T]]) -> list[tuple[State, T]]:
        """What several outcomes of an expression go on with; the likeliest, where they are many."""
        if len(results) <= MAX_DISJUNCTS:
            return results
        results.sort(key=lambda result: len(result[0].decisions))
        for state, _ in results[MAX_DISJUNCTS:]:
            self._drop(state)
        return results[:MAX_DISJUNCTS]

    def _drop(self, state: State) -> None:
        """Follow a state no further: a backward that would have followed there is not seen."""
        self.truncated = True
        for value in (*state.vars.values(), *state.attrs.values()):
            self.escapes.escape(value, state, dropped=True)

    def allow(self, steps: int) -> None:
        """Begin another entry, with a budget of its own."""
        self.began = self.steps
        self.max_steps = self.steps + steps

    def take_step(self) -> None:
        """Count a statement or a call; raises `BudgetExceeded`."""
        self.steps += 1
        if self.steps > self.max_steps:
            raise BudgetExceeded

    def _limit(self) -> int:
        taken = self.steps - self.began
        if taken < GENEROUS_STEPS:
            return MAX_DISJUNCTS
        return MAX_DISJUNCTS // 2 if taken < 2 * GENEROUS_STEPS else MAX_DISJUNCTS // 4

    def statement(self, s: ir.Statement, state: State, frame: Frame) -> Out:
        """Run one statement on one disjunct."""
        self.take_step()
        match s:
            case ir.Expression():
                return self.expression_statement(s, state, frame)
            case ir.Assign():
                return Out(list(self.assign(s, state, frame)))
            case ir.AugAssign():
                return Out(list(self.augmented(s, state, frame)))
            case ir.If():
                return self.branch(s, state, frame)
            case ir.For():
                return self.for_loop(s, state, frame)
            case ir.While():
                return self.while_loop(s, state, frame)
            case ir.With():
                return self.with_block(s, state, frame)
            case ir.Try():
                return self.try_block(s, state, frame)
            case ir.Jump():
                return self.jump(s, state, frame)
            case ir.Function():
                return self.define(s, state, frame)
            case ir.Class():
                info = frame.module.class_info(s)
                self.store_name(s.name, ClassValue(info), state, frame)
                return Out([state])
            case ir.Import():
                if s.name == "*":
                    return Out([state])
                value = self.imported(self.project.imported(s, frame.module.path), state)
                self.store_name(s.bound, value or External(f"?{s.bound}"), state, frame)
                return Out([state])
            case ir.Delete():
                for target in s.targets:
                    if isinstance(target, ir.Name):
                        state.vars.pop((self.scope_of(target.id, frame), target.id), None)
                return Out([state])
            case ir.Scope():
                (frame.globals if s.is_global else frame.nonlocals).update(s.names)
                return Out([state])

    def expression_statement(self, s: ir.Expression, state: State, frame: Frame) -> Out:
        value = s.value
        if isinstance(value, ir.Yield):
            return Out(self.yielded(value, state, frame))
        if isinstance(value, ir.Attribute | ir.Compare):
            return Out(list(self.bare_reference(s, value, state, frame)))
        after: list[State] = []
        for st, result in self.eval(value, state, frame):
            if isinstance(value, ir.Call):
                self.calls.discarded(s, value, result, st, frame)
            after.append(st)
        return Out(after)

    def bare_reference(
        self, s: ir.Expression, value: ir.Attribute | ir.Compare, state: State, frame: Frame
    ) -> Iterator[State]:
        compared = isinstance(value, ir.Compare)
        target = value.left if isinstance(value, ir.Compare) else value
        if not isinstance(target, ir.Attribute):
            for st, _ in self.eval(value, state, frame):
                yield st
            return
        for st, owner in self.eval(target.value, state, frame):
            self.recorder.raise_event(
                BareReference(
                    site=self.site(frame, s.value),
                    receiver=self.attributes.receiver(owner, st, target.value, target.attr),
                    name=spelled(target.value),
                    attribute=target.attr,
                    compared=compared,
                    last_in_cell=s.last_in_cell,
                )
            )
            yield st

    def assign(self, s: ir.Assign, state: State, frame: Frame) -> Iterator[State]:
        if isinstance(s.value, ir.Yield):
            states = self.yielded(s.value, state, frame)
            values: Evaluated = [(st, self.fresh(st, frame, s.value)) for st in states]
        else:
            values = self.eval(s.value, state, frame)
        for st, value in values:
            for target in s.targets:
                self.store(target, value, st, frame, s)
            yield st

    def augmented(self, s: ir.AugAssign, state: State, frame: Frame) -> Iterator[State]:
        for st, (old, new) in self.eval_all((s.target, s.value), state, frame):
            value: Value
            if isinstance(old, Tensor) or isinstance(new, Tensor):
                value = self.tensors.combine((old, new), s.op)
                self.collections.kept(s, spelled(s.target), old, new, st, frame)
            elif isinstance(old, Ref) and isinstance(st.heap.get(old.oid), ListObject):
                self.collections.extend(old, new, st)
                value = old
            elif isinstance(old, Ref) and isinstance(st.heap.get(old.oid), ParametersObject):
                value = self.models.concatenate((old, new), st, frame, s)
            else:
                value = self.fresh(st, frame, s, "aug")
            self.store(s.target, value, st, frame, s)
            yield st

    def jump(self, s: ir.Jump, state: State, frame: Frame) -> Out:
        if s.value is None:
            return Out([], [(s.kind, state, NONE)])
        if isinstance(s.value, ir.Yield):
            return Out([], [(s.kind, st, NONE) for st in self.yielded(s.value, state, frame)])
        return Out([], [(s.kind, st, value) for st, value in self.eval(s.value, state, frame)])

    def define(self, s: ir.Function, state: State, frame: Frame) -> Out:
        func = Func(s, frame.module)
        if frame.func is not None:
            func = Func(s, frame.module, frame.id, frame.cls)
        after = []
        for st, value in self.decorated(func, s.decorators, state, frame):
            self.store_name(s.name, value, st, frame)
            after.append(st)
        return Out(after)

    def decorated(
        self, func: Func, decorators: tuple[ir.Expr, ...], state: State, frame: Frame
    ) -> Evaluated:
        """A function with its decorators applied, the innermost first."""
        results: Evaluated = [(state, func)]
        for decorator in reversed(decorators):
            after: Evaluated = []
            for st, inner in results:
                for st2, outer in self.eval(decorator, st, frame):
                    after.extend(self.execution.decorate(outer, inner, st2, frame, decorator))
            results = after
        return results

    # --- branches ----------------------------------------------------------------------

    def branch(self, s: ir.If, state: State, frame: Frame) -> Out:
        self.answered.clear()
        yes, no, undetermined = self.split(s.test, state, frame)
        some = self.parameter_loops or self._tells_parts_apart(undetermined)
        if undetermined and some and yes and no:
            return self._branch_over_parameters(s, yes, no, frame)
        self.tests.append(s.test)
        around, outside = frame.decided, len(self.open)
        frame.decided = within = {undetermined} if undetermined else set()
        self.open.extend(within or self.answered)
        first = self.block(s.body, yes, frame)
        self.tests.pop()
        second = self.block(s.orelse, no, frame)
        frame.decided = around
        del self.open[outside:]
        around |= within
        jumps = [*first.jumps, *second.jumps]
        if not undetermined:
            return Out([*first.on, *second.on], jumps)
        self._decide(undetermined, first, second, within)
        return Out(self.join([*first.on, *second.on]), jumps)

    def _tells_parts_apart(self, key: Hashable) -> bool:
        """Whether a test inside a loop over a module's parts asks which part it is."""
        return bool(self.part_items) and not self.part_items.isdisjoint(parts_of(key))

    def _branch_over_parameters(
        self, s: ir.If, yes: list[State], no: list[State], frame: Frame
    ) -> Out:
        """A test inside a loop over parameters or parts: some take one side, some the other.

        Both sides happen, one after the other, each to a part of the parameters. After
        `if ...: continue` the rest of the body happens to a part of them only.
        """
        for st in (*yes, *no):
            st.params_partial += 1
        first = self.block(s.body, yes, frame)
        skipped = any(kind is ir.JumpKind.CONTINUE for kind, _, _ in first.jumps)
        jumps = [j for j in first.jumps if j[0] is not ir.JumpKind.CONTINUE]
        if not first.on:
            second = self.block(s.orelse, no, frame)
            if not skipped:
                _less_partial(second.on)
            return Out(second.on, [*jumps, *second.jumps])
        second = self.block(s.orelse, first.on, frame)
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
                    st.decisions |= decision

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
            yes, no = self.join(yes), self.join(no)
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
                for st, value in self.eval(test, state, frame):
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
            going = self.bounded(after)

    def truth_of(self, value: Value, state: State) -> Iterator[tuple[State, bool, Hashable]]:
        """Whether a value is true; both, with the assumption noted, if nothing tells."""
        known = self.known_truth(value, state)
        if known is not None:
            yield state, known, None
            return
        key, positive = condition_key(value)
        assumed = state.assumed.get(key)
        if assumed is not None:
            self.answered.add(key)
            yield state, assumed is positive, None
            return
        if isinstance(key, tuple) and self._excluded(key, state):
            yield state, not positive, None
            return
        other = state.copy()
        state.assume(key, positive)
        other.assume(key, not positive)
        self.models.recall_mode(key, state if not positive else other)
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
            case ("eq", *_):
                pass
            case _:
                return False
        return any(
            held and isinstance(k, tuple) and k[:2] == key[:2] and k[:1] == ("eq",) and k != key
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
                return None if thing is None else True
            case TupleValue(items=items):
                return bool(items)
            case Func() | ClassValue() | Method() | Package() | Partial():
                return True
            case External(path=path):
                return None if path.startswith("?") or path.isupper() else True
            case _:
                return None

    # --- loops -------------------------------------------------------------------------

    def for_loop(self, s: ir.For, state: State, frame: Frame) -> Out:
        out = Out([])
        for st, iterable in self.eval(s.iter, state, frame):
            part = self._for_over(s, iterable, st, frame)
            out.on.extend(part.on)
            out.jumps.extend(part.jumps)
        return out

    def _for_over(self, s: ir.For, iterable: Value, state: State, frame: Frame) -> Out:
        generator = self.contexts.generator_of(iterable, state)
        if generator is not None:
            return self._for_over_generator(s, generator, state, frame)
        items = self.collections.known_items(iterable, state)
        if items is not None and len(items) <= MAX_UNROLLED:
            return self._unrolled(s, items, state, frame)
        element = self.collections.element(iterable, state, frame, s)
        loop = Loop(
            loop_word(s.target, s.iter),
            node=s.node,
            loaders=(spelled(s.iter),),
            site=self.site(frame, s),
            draw=self.epochs.draws(iterable, state),
        )
        parameters = self.collections.iterates_parameters(iterable, state)
        if parameters:
            return self._over_parameters(s, element, state, frame)

        parts = self.collections.is_part(element)

        def enter(st: State) -> list[State]:
            first = loop.round == 1 and not parts
            value = self.collections.first_element(iterable, element, st) if first else element
            if (
                isinstance(element, Ref)
                and isinstance(element.oid, tuple)
                and element.oid[0] == "item"
            ):
                self.forget_item(st, element.oid)
            self.bind_item(s.target, value, st, frame, s)
            return [st]

        item: ObjectId = ("item", frame.module.path, s.node, frame.id)
        if parts and item not in self.part_items:
            self.part_items.add(item)
            out = self.rounds_of(loop, [state], s.body, frame, enter, None)
            self.part_items.remove(item)
        else:
            out = self.rounds_of(loop, [state], s.body, frame, enter, None)
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
        self.store(target, value, state, frame, s)
        for name in names_in(target):
            found = state.vars.get((self.scope_of(name, frame), name))
            if isinstance(found, Ref):
                state.forget(found.oid)

    def _over_parameters(self, s: ir.For, element: Value, state: State, frame: Frame) -> Out:
        """One pass is enough: every parameter takes the same statements."""
        depth = len(self.parameter_loops) + 1
        self.parameter_loops.append(depth)
        outer, state.params_partial = state.params_partial, 0
        try:
            self.bind_item(s.target, element, state, frame, s)
            out = self.block(s.body, [state], frame)
        finally:
            self.parameter_loops.pop()
        leaves = (ir.JumpKind.BREAK, ir.JumpKind.CONTINUE)
        on = [*out.on, *(st for kind, st, _ in out.jumps if kind in leaves)]
        for st in on:
            st.params_partial = outer
        return Out(self.join(on), [j for j in out.jumps if j[0] not in leaves])

    def _for_over_generator(self, s: ir.For, call: Partial, state: State, frame: Frame) -> Out:
        jumps: list[tuple[ir.JumpKind, State, Value | None]] = []
        loop = Loop(loop_word(s.target, s.iter), node=s.node, loaders=(spelled(s.iter),))

        def body(states: list[State], value: Value | None) -> list[State]:
            self.loops.append(loop)
            try:
                for st in states:
                    element = value if value is not None else self.fresh(st, frame, s, "item")
                    self.bind_item(s.target, element, st, frame, s)
                out = self.block(s.body, states, frame)
            finally:
                self.loops.pop()
            on = list(out.on)
            for kind, st, result in out.jumps:
                if kind in (ir.JumpKind.CONTINUE, ir.JumpKind.BREAK):
                    on.append(st)
                else:
                    jumps.append((kind, st, result))
            return self.join(on)

        results = self.contexts.run_generator(call, state, frame, s, body)
        return Out(self.join(results), jumps)

    def _unrolled(self, s: ir.For, items: tuple[Value, ...], state: State, frame: Frame) -> Out:
        """A loop over known items: once for each, in order."""
        states, jumps, broken = [state], [], []
        self.loops.append(Loop("round", node=s.node, repeats=False))
        try:
            for item in items:
                for st in states:
                    self.store(s.target, item, st, frame, s)
                out = self.block(s.body, states, frame)
                states = list(out.on)
                for kind, st, value in out.jumps:
                    match kind:
                        case ir.JumpKind.CONTINUE:
                            states.append(st)
                        case ir.JumpKind.BREAK:
                            broken.append(st)
                        case _:
                            jumps.append((kind, st, value))
                states = self.join(states)
        finally:
            self.loops.pop()
        after = self.block(s.orelse, states, frame)
        return Out(self.join([*after.on, *broken]), [*jumps, *after.jumps])

    def while_loop(self, s: ir.While, state: State, frame: Frame) -> Out:
        loop = Loop("round", node=s.node, site=self.site(frame, s))
        exits: list[State] = []

        def enter(st: State) -> list[State]:
            yes, no, undetermined = self.split(s.test, st, frame)
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
        seen = self.seen.setdefault((loop.node, frame.id), set())
        loop.tests = len(self.tests)
        self.loops.append(loop)
        try:
            for number in range(1, MAX_ROUNDS + 1):
                loop.round = number
                entered: list[State] = []
                for st in states:
                    seen.add(st.key())
                    self.training.new_round(st)
                    entered.extend(enter(st.copy()))
                if not entered:
                    break
                out = body(entered) if callable(body) else self.block(body, entered, frame)
                ends = list(out.on)
                for kind, st, value in out.jumps:
                    match kind:
                        case ir.JumpKind.CONTINUE:
                            ends.append(st)
                        case ir.JumpKind.BREAK:
                            left.append(st)
                        case _:
                            jumps.append((kind, st, value))
                ends = self.join(ends)
                states = [st for st in ends if st.key() not in seen]
                if exits is None:
                    left.extend(st.copy() for st in ends)
                elif not states:
                    for st in ends:
                        enter(st)
                if not states:
                    break
        finally:
            self.loops.pop()
        return Out(self.join([*left, *(exits or ())]), jumps)

    def _loop_else(self, orelse: ir.Block, out: Out, frame: Frame) -> Out:
        if not orelse:
            return out
        after = self.block(orelse, out.on, frame)
        return Out(after.on, [*out.jumps, *after.jumps])

    # --- with and try ------------------------------------------------------------------

    def with_block(self, s: ir.With, state: State, frame: Frame) -> Out:
        out = Out([])
        for st, context in self.eval(s.context, state, frame):
            part = self._within(s, context, st, frame)
            out.on.extend(part.on)
            out.jumps.extend(part.jumps)
        out.on = self.join(out.on) if len(out.on) > 1 else out.on
        return out

    def _within(self, s: ir.With, context: Value, state: State, frame: Frame) -> Out:
        manager = self.contexts.context_function(context, state)
        if manager is not None:
            return self._within_project(s, manager, state, frame)
        instance = self.contexts.context_instance(context, state)
        if instance is not None:
            return self._within_instance(s, instance, state, frame)
        if isinstance(context, External):
            self.recorder.raise_event(
                ContextNotCalled(site=self.site(frame, s.context), callee=context.path)
            )
        if self.contexts.expects_failure(context, s.context, state):
            return Out([state])
        before = state.grad
        entered = self.contexts.enter_context(context, state, frame, s)
        if s.target is not None:
            self.store(s.target, entered, state, frame, s)
        out = self.block(s.body, [state], frame)
        for st in (*out.on, *(j[1] for j in out.jumps)):
            self.contexts.leave_context(context, st, before)
        return out

    def _within_project(self, s: ir.With, manager: Value, state: State, frame: Frame) -> Out:
        jumps: list[tuple[ir.JumpKind, State, Value | None]] = []

        def body(states: list[State], value: Value | None) -> list[State]:
            for st in states:
                if s.target is not None:
                    self.store(s.target, value if value is not None else NONE, st, frame, s)
            out = self.block(s.body, states, frame)
            results = list(out.on)
            for i, (_, st, _) in enumerate(out.jumps):
                st.pending = (*st.pending, (len(jumps) + i, s.node))
                results.append(st)
            jumps.extend(out.jumps)
            return results

        ends = self.contexts.run_generator(manager, state, frame, s, body)
        return self._resume(ends, jumps, s.node)

    @staticmethod
    def _resume(
        ends: list[State], jumps: list[tuple[ir.JumpKind, State, Value | None]], node: int
    ) -> Out:
        """Jumps that went through the context manager's exit go on from there."""
        out = Out([])
        for st in ends:
            if st.pending and st.pending[-1][1] == node:
                kind, _, value = jumps[st.pending[-1][0]]
                st.pending = st.pending[:-1]
                out.jumps.append((kind, st, value))
            else:
                out.on.append(st)
        return out

    def _within_instance(self, s: ir.With, instance: Ref, state: State, frame: Frame) -> Out:
        out = Out([])
        for st, entered in self.execution.method(instance, "__enter__", (), (), state, frame, s):
            if s.target is not None:
                self.store(s.target, entered, st, frame, s)
            inner = self.block(s.body, [st], frame)
            for kind, after, value in [(None, x, None) for x in inner.on] + list(inner.jumps):
                for end, _ in self.execution.method(
                    instance, "__exit__", (NONE, NONE, NONE), (), after, frame, s
                ):
                    if kind is None:
                        out.on.append(end)
                    else:
                        out.jumps.append((kind, end, value))
        return out

    def try_block(self, s: ir.Try, state: State, frame: Frame) -> Out:
        before = state.copy() if s.handlers else state
        out = self.block(s.body, [state], frame)
        if s.orelse and out.on:
            after = self.block(s.orelse, out.on, frame)
            out = Out(after.on, [*out.jumps, *after.jumps])
        if s.handlers:
            out = self._handled(s, before, out, frame)
        if s.final:
            out = self._finally(s.final, out, frame)
        return out

    def _handled(self, s: ir.Try, before: State, out: Out, frame: Frame) -> Out:
        raised = [st for kind, st, _ in out.jumps if kind is ir.JumpKind.RAISE]
        on = list(out.on)
        jumps = [j for j in out.jumps if j[0] is not ir.JumpKind.RAISE]
        only_imports = all(isinstance(x, ir.Import) for x in s.body)
        if on and only_imports:
            return Out(on, jumps)
        for handler in s.handlers:
            entering = [before.copy(), *(st.copy() for st in raised)]
            for st in entering:
                if handler.name:
                    self.store_name(handler.name, Ref(("exception", handler.node)), st, frame)
                if on:
                    st.decisions |= {(("exception", frame.module.path, handler.node), True)}
            part = self.block(handler.body, entering, frame)
            on.extend(part.on)
            jumps.extend(part.jumps)
        return Out(self.join(on), jumps)

    def _finally(self, final: ir.Block, out: Out, frame: Frame) -> Out:
        after = self.block(final, out.on, frame)
        jumps = list(after.jumps)
        for kind, st, value in out.jumps:
            part = self.block(final, [st], frame)
            jumps.extend((kind, end, value) for end in part.on)
            jumps.extend(part.jumps)
        return Out(after.on, jumps)

    def yielded(self, s: ir.Yield, state: State, frame: Frame) -> list[State]:
        """A yield hands over to whoever iterates or entered."""
        results: list[State] = []
        pairs: Evaluated = (
            self.eval(s.value, state, frame) if s.value is not None else [(state, NONE)]
        )
        for st, value in pairs:
            if frame.yields is not None:
                results.extend(frame.yields([st], value if s.value is not None else None))
            else:
                self.escapes.escape(value, st)
                results.append(st)
        return results

    # --- names and targets -------------------------------------------------------------

    def module_frame(self, module: ModuleInfo) -> FrameId:
        """The frame of a file's top level."""
        return hash(("module", module.path))

    def scope_of(self, name: str, frame: Frame) -> FrameId:
        """The frame in which a name is written."""
        if name in frame.globals:
            return self.module_frame(frame.module)
        if name in frame.nonlocals and frame.outer is not None:
            outer: FrameId | None = frame.outer
            while outer is not None and outer in self.frames:
                if name in self.frames[outer].locals:
                    return outer
                outer = self.frames[outer].outer
        return frame.id

    def store_name(self, name: str, value: Value, state: State, frame: Frame) -> None:
        """Bind a variable."""
        state.vars[self.scope_of(name, frame), name] = value

    def load_name(self, name: str, state: State, frame: Frame) -> Value:
        """Read a variable."""
        scope: FrameId | None = self.scope_of(name, frame)
        found = state.vars.get((scope, name))  # type: ignore[arg-type]
        if found is not None:
            return found
        if name in frame.locals and name not in frame.globals and name not in frame.nonlocals:
            return Ref(("local", frame.id, name))
        scope = frame.outer
        while scope is not None:
            found = state.vars.get((scope, name))
            if found is not None:
                return found
            scope = self.frames[scope].outer if scope in self.frames else None
        top = self.module_frame(frame.module)
        found = state.vars.get((top, name))
        if found is not None:
            return found
        resolved = frame.module.resolve(name)
        if resolved is not None:
            return self.imported(resolved, state) or resolved
        if name in frame.module.bindings:
            return Ref(("global", frame.module.path, name))
        if name == "__name__":
            return const("__main__")
        if name in BUILTINS:
            return External(f"builtins.{name}")
        return Ref(("global", frame.module.path, name))

    def imported(self, value: Value | None, state: State) -> Value | None:
        """What another file gives: a function of a file that is not being run is decorated now."""
        if not isinstance(value, Func) or not value.function.decorators or value.owner is not None:
            return value
        return self._module_level(value, state)

    def _module_level(self, func: Func, state: State) -> Value:
        top = Frame(self.module_frame(func.module), func.module)
        name = (top.id, func.function.name)
        known = state.vars.get(name)
        if known is not None:
            return known
        for st, value in self.decorated(func, func.function.decorators, state.copy(), top):
            _take_over(state, st)
            state.vars[name] = value
            return value
        return func

    def store(self, target: ir.Expr, value: Value, state: State, frame: Frame, s: ir.Node) -> None:
        """Assign to a name, an attribute, an item or a pattern of these."""
        match target:
            case ir.Name(id=name):
                old = state.vars.get((self.scope_of(name, frame), name))
                self.models.rebound(old, value, state, frame, s)
                self.store_name(name, value, state, frame)
            case ir.Attribute(value=owner, attr=attr):
                for st, thing in self.eval(owner, state, frame)[:1]:
                    if st is not state:
                        _take_over(state, st)
                    self.attributes.set_attribute(thing, attr, value, state, frame, target, s)
            case ir.Subscript(value=owner, index=index):
                for st, (thing, key) in self.eval_all((owner, index), state, frame)[:1]:
                    if st is not state:
                        _take_over(state, st)
                    if isinstance(value, Tensor) and self.collections.is_buffer(thing, state):
                        self.store(
                            owner, self.tensors.combine((thing, value), "[]"), state, frame, s
                        )
                    else:
                        self.collections.set_item(thing, key, value, state, frame, s)
            case ir.Sequence(items=targets):
                self._unpack(targets, value, state, frame, s)
            case ir.Starred(value=inner):
                self.store(inner, value, state, frame, s)
            case _:
                pass

    def _unpack(
        self, targets: tuple[ir.Expr, ...], value: Value, state: State, frame: Frame, s: ir.Node
    ) -> None:
        items = self.collections.known_items(value, state)
        starred = any(isinstance(t, ir.Starred) for t in targets)
        if items is not None and len(items) == len(targets) and not starred:
            for target, item in zip(targets, items):
                self.store(target, item, state, frame, s)
            return
        for i, target in enumerate(targets):
            self.store(target, self.collections.item_of(value, i, state, frame, s), state, frame, s)

    # --- expressions -------------------------------------------------------------------

    def eval_all(
        self, exprs: tuple[ir.Expr, ...], state: State, frame: Frame
    ) -> list[tuple[State, tuple[Value, ...]]]:
        """Evaluate several expressions in order."""
        found: list[Value] = []
        for number, expr in enumerate(exprs):
            outcomes = self.eval(expr, state, frame)
            if len(outcomes) != 1:
                return self._eval_split(outcomes, tuple(found), exprs[number + 1 :], frame)
            state, value = outcomes[0]
            found.append(value)
        return [(state, tuple(found))]

    def _eval_split(
        self,
        outcomes: Evaluated,
        before: tuple[Value, ...],
        rest: tuple[ir.Expr, ...],
        frame: Frame,
    ) -> list[tuple[State, tuple[Value, ...]]]:
        """The values after an expression that split the state, or ended in none."""
        results = [(st, (*before, value)) for st, value in outcomes]
        for expr in rest:
            # Each of a hundred conditional items may split the state in two.
            results = self.bounded(
                [
                    (st2, (*values, value))
                    for st, values in results
                    for st2, value in self.eval(expr, st, frame)
                ]
            )
        return results

    def eval(self, e: ir.Expr, state: State, frame: Frame) -> Evaluated:
        """Evaluate an expression; calls and conditions may split the state."""
        # The two that make up most of all programs come first.
        if type(e) is ir.Name:
            return [(state, self.load_name(e.id, state, frame))]
        if type(e) is ir.Attribute:
            outcomes = self.eval(e.value, state, frame)
            if len(outcomes) == 1:
                st, thing = outcomes[0]
                return self.attributes.attribute(thing, e.attr, st, frame, e)
            results: Evaluated = []
            for st, thing in outcomes:
                results.extend(self.attributes.attribute(thing, e.attr, st, frame, e))
            return self.bounded(results)
        return self._eval_other(e, state, frame)

    def _eval_other(self, e: ir.Expr, state: State, frame: Frame) -> Evaluated:
        match e:
            case ir.Call():
                return self.calls.call_expression(e, state, frame)
            case ir.Literal(value=value):
                try:
                    return [(state, const(value))]
                except TypeError:
                    return [(state, self.fresh(state, frame, e))]
            case ir.Compare():
                return self._compare(e, state, frame)
            case ir.BoolOp():
                return self._bool_value(e, state, frame)
            case ir.BinOp(left=left, op=op, right=right):
                return [
                    (st, self._arithmetic(op, a, b, st, frame, e))
                    for st, (a, b) in self.eval_all((left, right), state, frame)
                ]
            case ir.UnaryOp(op="not"):
                return [
                    (st, TRUE if truth else FALSE) for st, truth, _ in self.truths(e, state, frame)
                ]
            case ir.UnaryOp(value=inner):
                return [
                    (st, self._negated(v, st, frame, e)) for st, v in self.eval(inner, state, frame)
                ]
            case ir.IfExp(test=test, body=body, orelse=orelse):
                return self._conditional(test, body, orelse, state, frame)
            case ir.Subscript(value=owner, index=index):
                return [
                    (st, self.collections.subscript(thing, key, st, frame, e))
                    for st, (thing, key) in self.eval_all((owner, index), state, frame)
                ]
            case ir.Sequence():
                return self._display(e, state, frame)
            case ir.Mapping(items=items):
                return self._mapping(items, state, frame, e)
            case ir.Comprehension():
                return self.comprehension(e, state, frame)
            case ir.Lambda(function=function):
                return [(state, Func(function, frame.module, frame.id, frame.cls))]
            case ir.Walrus(target=target, value=value):
                pairs = self.eval(value, state, frame)
                for st, v in pairs:
                    self.store_name(target.id, v, st, frame)
                return pairs
            case ir.Await(value=value) | ir.Starred(value=value):
                return self.eval(value, state, frame)
            case ir.Yield():
                return [(st, self.fresh(st, frame, e)) for st in self.yielded(e, state, frame)]
            case ir.Name() | ir.Attribute():
                raise AssertionError("answered by `eval`")

    def _conditional(
        self, test: ir.Expr, body: ir.Expr, orelse: ir.Expr, state: State, frame: Frame
    ) -> Evaluated:
        yes, no, undetermined = self.split(test, state, frame)
        first = [r for st in yes for r in self.eval(body, st, frame)]
        second = [r for st in no for r in self.eval(orelse, st, frame)]
        if undetermined and len(first) == 1 and len(second) == 1:
            (a, left), (b, right) = first[0], second[0]
            if left == right and a.key() == b.key():
                return first
        if undetermined:
            for st, _ in first:
                st.decisions |= {(undetermined, True)}
            for st, _ in second:
                st.decisions |= {(undetermined, False)}
        return [*first, *second]

    def _bool_value(self, e: ir.BoolOp, state: State, frame: Frame) -> Evaluated:
        """`a or b`, `a and b`: the value that decides."""
        stops = e.op == "or"
        going: Evaluated = [(state, NONE)]
        done: Evaluated = []
        for i, operand in enumerate(e.values):
            after: Evaluated = []
            for st, _ in going:
                for st2, value in self.eval(operand, st, frame):
                    if i == len(e.values) - 1:
                        done.append((st2, value))
                        continue
                    for st3, truth, _ in self.truth_of(value, st2):
                        (done if truth is stops else after).append((st3, value))
            going = self.bounded(after)
        return self.bounded(done)

    def _compare(self, e: ir.Compare, state: State, frame: Frame) -> Evaluated:
        results: Evaluated = []
        for st, (a, b) in self.eval_all((e.left, e.right), state, frame):
            known = self.tensors.compared(e.op, a, b, st)
            if known is not None:
                results.append((st, known))
                continue
            results.append((st, comparison(e.op, a, b) or self.fresh(st, frame, e)))
        return results

    def _arithmetic(
        self, op: str, a: Value, b: Value, state: State, frame: Frame, e: ir.BinOp
    ) -> Value:
        if isinstance(a, Tensor) or isinstance(b, Tensor):
            return self.tensors.combine((a, b), op, state)
        if isinstance(a, Const) and isinstance(b, Const):
            folded = fold(op, a, b)
            if folded is not None:
                return folded
        for side in (a, b):
            if isinstance(side, Ref) and isinstance(state.heap.get(side.oid), ParametersObject):
                return self.models.concatenate((a, b), state, frame, e)
        first = self.collections.known_items(a, state)
        second = self.collections.known_items(b, state)
        if op == "+" and first is not None and second is not None:
            return self.collections.new_list((*first, *second), state, frame, e)
        key = ("expr", op, value_key(a), value_key(b))
        return Ref(key) if size(key) < MAX_KEY else self.fresh(state, frame, e)

    def _negated(self, value: Value, state: State, frame: Frame, e: ir.UnaryOp) -> Value:
        if isinstance(value, Tensor):
            return replace(value, activation="")
        if isinstance(value, Const) and e.op == "-" and isinstance(value.value, int | float):
            return const(-value.value)
        return Ref(("expr", e.op, value_key(value)))

    def _display(self, e: ir.Sequence, state: State, frame: Frame) -> Evaluated:
        results: Evaluated = []
        plain = tuple(x.value if isinstance(x, ir.Starred) else x for x in e.items)
        starred = any(isinstance(x, ir.Starred) for x in e.items)
        for st, values in self.eval_all(plain, state, frame):
            if e.kind is ir.SequenceKind.TEXT:
                results.append((st, Ref(("text", frame.module.path, e.node))))
            elif e.kind is ir.SequenceKind.SLICE:
                results.append((st, Ref(("slice", frame.module.path, e.node))))
            elif starred:
                results.append((st, self._starred(e, values, st, frame)))
            elif e.kind is ir.SequenceKind.TUPLE:
                results.append((st, TupleValue(values)))
            else:
                results.append((st, self.collections.new_list(values, st, frame, e)))
        return results

    def _starred(
        self, e: ir.Sequence, values: tuple[Value, ...], state: State, frame: Frame
    ) -> Value:
        items: list[Value] = []
        for part, value in zip(e.items, values):
            inner = (
                self.collections.known_items(value, state) if isinstance(part, ir.Starred) else None
            )
            if inner is not None:
                items.extend(inner)
            elif isinstance(part, ir.Starred):
                return self.models.concatenate(values, state, frame, e)
            else:
                items.append(value)
        return self.collections.new_list(tuple(items), state, frame, e)

    def _mapping(
        self,
        items: tuple[tuple[ir.Expr | None, ir.Expr], ...],
        state: State,
        frame: Frame,
        e: ir.Mapping,
    ) -> Evaluated:
        results: Evaluated = []
        exprs = tuple(x for pair in items for x in pair if x is not None)
        for st, values in self.eval_all(exprs, state, frame):
            rest = iter(values)
            keys: list[Value] = []
            found: list[Value] = []
            known = True
            for key, _ in items:
                if key is None:
                    known = False
                    found.append(next(rest))
                else:
                    keys.append(next(rest))
                    found.append(next(rest))
            results.append(
                (
                    st,
                    self.collections.new_dict(
                        tuple(keys) if known else None, tuple(found), st, frame, e
                    ),
                )
            )
        return results

    def comprehension(self, e: ir.Comprehension, state: State, frame: Frame) -> Evaluated:
        """Evaluate the element once for an arbitrary (or for each known) item."""
        generator = e.generators[0]
        results: Evaluated = []
        for st, iterable in self.eval(generator.iter, state, frame):
            filtered = self.models.filtered(e, iterable, st, frame)
            if filtered is not None:
                results.append((st, filtered))
                continue
            items = self.collections.known_items(iterable, st)
            if (
                items is not None
                and len(items) <= MAX_UNROLLED
                and len(e.generators) == 1
                and not generator.conditions
            ):
                results.extend(self._each(e, items, st, frame))
            elif (nested := self._nested(e, items, st, frame)) is not None:
                results.append((st, nested))
            else:
                results.extend(self._any_element(e, iterable, st, frame))
        return results

    def _nested(
        self, e: ir.Comprehension, items: tuple[Value, ...] | None, state: State, frame: Frame
    ) -> Value | None:
        """`[p for m in models.values() for p in m.parameters()]` over modules that are known."""
        first, *others = e.generators
        if len(others) != 1 or not items or len(items) > MAX_UNROLLED or first.conditions:
            return None
        inner = ir.Comprehension(e.kind, e.element, tuple(others), e.key, e.node)
        found: list[ParameterSource] = []
        for item in items:
            self.store(first.target, item, state, frame, e)
            results = self.eval(others[0].iter, state, frame)
            if len(results) != 1:
                return None
            after, iterable = results[0]
            taken = self.models.filtered(inner, iterable, after, frame)
            sources = self.models.sources(taken, after) if taken is not None else None
            if sources is None or after is not state:
                return None
            found.extend(sources)
        return self.models.taken(tuple(dict.fromkeys(found)), state, frame, e)

    def _each(
        self, e: ir.Comprehension, items: tuple[Value, ...], state: State, frame: Frame
    ) -> Evaluated:
        going: list[tuple[State, tuple[Value, ...]]] = [(state, ())]
        for i, item in enumerate(items):
            after: list[tuple[State, tuple[Value, ...]]] = []
            for st, values in going:
                self.store(e.generators[0].target, item, st, frame, e)
                for st2, value in self.eval(e.element, st, frame):
                    after.append((st2, (*values, self.collections.distinct(value, i, st2))))
            going = after
        return [(st, self.collections.new_list(values, st, frame, e)) for st, values in going]

    def _any_element(
        self, e: ir.Comprehension, iterable: Value, state: State, frame: Frame
    ) -> Evaluated:
        generator = e.generators[0]
        loop = Loop(
            loop_word(generator.target, generator.iter),
            loaders=(spelled(generator.iter),),
            draw=self.epochs.draws(iterable, state),
        )
        element = self.collections.element(iterable, state, frame, generator)
        self.loops.append(loop)
        try:
            self.bind_item(generator.target, element, state, frame, e)
            going = [state]
            for inner in e.generators[1:]:
                after = []
                for st in going:
                    for st2, value in self.eval(inner.iter, st, frame):
                        self.bind_item(
                            inner.target,
                            self.collections.element(value, st2, frame, inner),
                            st2,
                            frame,
                            e,
                        )
                        after.append(st2)
                going = after
            results: Evaluated = []
            for st in going:
                for st2, value in self.eval(e.element, st, frame):
                    if e.key is not None:
                        self.eval(e.key, st2, frame)
                    results.append((st2, self.collections.new_summary(value, st2, frame, e)))
            return results
        finally:
            self.loops.pop()


def _less_partial(states: list[State]) -> None:
    for state in states:
        state.params_partial -= 1


def _take_over(state: State, other: State) -> None:
    """Make `state` what `other` is: an assignment's target was evaluated in a split state."""
    for name in State.__slots__:
        setattr(state, name, getattr(other, name))


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


def value_key(value: Value) -> Hashable:
    """A value's identity inside a condition."""
    return value.oid if isinstance(value, Ref) else value


def size(key: object) -> int:
    """How many parts a key has."""
    return 1 + sum(map(size, key)) if isinstance(key, tuple) else 1


def condition_key(value: Value) -> tuple[Hashable, bool]:
    """The question that a value's truth answers, and whether yes means true."""
    if isinstance(value, Condition):
        return value.key, value.positive
    return ("truth", value_key(value)), True


_NEGATED = {"!=": "==", "is not": "is", "not in": "in", ">=": "<", "<=": ">"}


def comparison(op: str, a: Value, b: Value) -> Condition | None:
    """A comparison that is not known, in a form that recognises its negation."""
    positive = op not in _NEGATED
    plain = _NEGATED.get(op, op)
    if plain in ("==", "is") and b in (TRUE, FALSE) and not isinstance(a, Const):
        question, yes = condition_key(a)
        same = yes is (b == TRUE)
        return Condition(question, positive is same) if size(question) < MAX_KEY else None
    first, second = value_key(a), value_key(b)
    if plain == "<":
        plain, first, second = ">", second, first
    if plain in ("==", "is"):
        if isinstance(a, Const) and not isinstance(b, Const):
            first, second = second, first
        key: Hashable = ("eq", first, second)
    else:
        key = ("cmp", plain, first, second)
    return Condition(key, positive) if size(key) < MAX_KEY else None


def fold(op: str, a: Const, b: Const) -> Const | None:
    """Arithmetic on small known numbers."""
    x, y = a.value, b.value
    if not (isinstance(x, int | float) and isinstance(y, int | float)):
        return None
    if abs(x) > 1e9 or abs(y) > 1e9:
        return None
    try:
        match op:
            case "+":
                return const(x + y)
            case "-":
                return const(x - y)
            case "*":
                return const(x * y)
            case _:
                return None
    except (ArithmeticError, TypeError):
        return None


__all__ = ["BudgetExceeded", "Evaluated", "Frame", "Interpreter", "Loop", "Out", "spelled"]
