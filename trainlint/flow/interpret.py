"""Runs the IR over abstract states: statements, expressions, calls of the project's functions.

Python has no goto, so recursion over the block does what a graph would. Every statement maps the
disjuncts before it to those after it, and to the jumps that leave the straight line. Tests,
loops, names and other expressions have modules of their own (`branches`, `iteration`, `scopes`,
`expressions`); what calls of libraries do is the business of `library_calls`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from typing import TypeVar

from trainlint.core.events import BareReference
from trainlint.core.facts import Origin, Site
from trainlint.flow import ir
from trainlint.flow.acting import Acting
from trainlint.flow.adapters import Adapters
from trainlint.flow.attributes import Attributes
from trainlint.flow.branches import Branches
from trainlint.flow.calls import Calls
from trainlint.flow.collections import Collections
from trainlint.flow.contexts import Contexts
from trainlint.flow.engines import Engines
from trainlint.flow.epochs import Epochs
from trainlint.flow.escapes import Escapes
from trainlint.flow.execution import Execution
from trainlint.flow.expressions import Expressions
from trainlint.flow.frames import (
    GENEROUS_STEPS,
    MAX_DEPTH,
    MAX_STEPS,
    PATIENCE,
    SIZE_OF_A_STEP,
    BudgetExceeded,
    Evaluated,
    Frame,
    Loop,
    Out,
)
from trainlint.flow.hooked import Hooked
from trainlint.flow.ir import spelled
from trainlint.flow.iteration import Iteration
from trainlint.flow.library_calls import LibraryCalls
from trainlint.flow.models import Models
from trainlint.flow.naming import Names
from trainlint.flow.project import Project
from trainlint.flow.record import Recorder
from trainlint.flow.relevance import Relevance
from trainlint.flow.scopes import Scopes
from trainlint.flow.slips import Slips
from trainlint.flow.standins import thin
from trainlint.flow.state import (
    MAX_DISJUNCTS,
    ListObject,
    ModuleObject,
    ParametersObject,
    State,
    join,
)
from trainlint.flow.suspended import Suspended
from trainlint.flow.tensors import Tensors
from trainlint.flow.trainers import Trainers
from trainlint.flow.training import Training
from trainlint.flow.values import (
    NONE,
    ClassValue,
    External,
    FrameId,
    Func,
    ObjectId,
    Ref,
    Tensor,
    Value,
)
from trainlint.flow.written import updated_by_hand

T = TypeVar("T")


_EACH_TURN = frozenset({"params", "list", "dict", "optimizer"})
"""What a loop over known items makes anew for each: `[Adam(m.parameters()) for m in nets]`."""


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
        self.branches = Branches(self)
        self.iteration = Iteration(self)
        self.scopes = Scopes(self)
        self.expressions = Expressions(self)
        self.execution = Execution(self)
        self.library = LibraryCalls(self)
        self.calls = Calls(self)
        self.models = Models(self)
        self.training = Training(self, self.models)
        self.adapters = Adapters(self)
        self.trainers = Trainers(self)
        self.engines = Engines(self)
        self.hooked = Hooked(self)
        self.epochs = Epochs(self)
        self.acting = Acting()
        self.suspended = Suspended(self)
        self.slips = Slips(self)
        self.frames: dict[FrameId, Frame] = {}
        self.loops: list[Loop] = []
        self.depth = 0
        self.max_depth = MAX_DEPTH
        self.steps = 0
        self.began = 0
        self.allow(MAX_STEPS)
        self.active: list[Func] = []
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
        self.turns: tuple[int, ...] = ()
        """Which item each loop over known items has come to, the outermost first."""
        self.open: list[Hashable] = []
        """The tests whose branches are being run."""
        self.answered: set[Hashable] = set()
        """The tests that what was assumed has just answered."""
        self.part_items: set[ObjectId] = set()
        """What tells the rounds apart of the loops over a module's parts."""
        self.unchanged: dict[Hashable, tuple[Value, Hashable]] = {}
        """Calls that left a state as it was, with their results and what these refer to."""

    def let_go(self) -> None:
        """Forget everything: the parts know each other, and only the collector would part them."""
        vars(self).clear()

    # --- places ------------------------------------------------------------------------

    def site(self, frame: Frame, node: ir.Node | int) -> Site:
        """The place of a node in its file."""
        return Site(frame.module.path, node if isinstance(node, int) else node.node)

    def origin(self, frame: Frame, node: ir.Node | int, note: str) -> Origin:
        """One step of a trail."""
        return Origin(self.site(frame, node), note)

    def fresh(self, state: State, frame: Frame, node: ir.Node, tag: str = "new") -> Ref:
        """The opaque object that a node makes; what was known of an earlier one is dropped."""
        oid: ObjectId = (tag, frame.module.path, node.node, frame.id)
        if self.turns and tag in _EACH_TURN:
            oid = (tag, frame.module.path, node.node, frame.id, self.turns)
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
        outside = len(self.open)
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
        del self.open[outside:]
        return Out(states, jumps)

    def join(self, states: Iterable[State], limit: int = MAX_DISJUNCTS) -> list[State]:
        """Merge what is equal and bound the rest, the more tightly the longer it takes."""
        states = list(states)
        if len(states) > 1:
            self.steps += sum(state.size for state in states) // SIZE_OF_A_STEP
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

    def allow(self, steps: int, patience: int = PATIENCE) -> None:
        """Begin another entry with a budget of its own, cut short where no event shows itself."""
        self.began = self.steps
        self.allowed = self.steps + steps
        self.max_steps = min(self.allowed, self.steps + patience)
        self.heard = self.recorder.raised

    def take_step(self) -> None:
        """Count a statement or a call; raises `BudgetExceeded`."""
        self.steps += 1
        if self.steps > self.max_steps:
            if self.recorder.raised == self.heard or self.max_steps == self.allowed:
                raise BudgetExceeded
            self.max_steps = self.allowed

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
                return self.branches.branch(s, state, frame)
            case ir.For():
                return self.iteration.for_loop(s, state, frame)
            case ir.While():
                return self.iteration.while_loop(s, state, frame)
            case ir.With():
                return self.contexts.with_block(s, state, frame)
            case ir.Try():
                return self.try_block(s, state, frame)
            case ir.Jump():
                return self.jump(s, state, frame)
            case ir.Function():
                return self.define(s, state, frame)
            case ir.Class():
                info = frame.module.class_info(s)
                self.scopes.store_name(s.name, ClassValue(info), state, frame)
                return Out([state])
            case ir.Import():
                if s.name == "*" or self.scopes.means_the_import(s, state, frame):
                    return Out([state])
                value = self.scopes.imported(self.project.imported(s, frame.module.path), state)
                self.scopes.store_name(s.bound, value or External(f"?{s.bound}"), state, frame)
                return Out([state])
            case ir.Delete():
                for target in s.targets:
                    if isinstance(target, ir.Name):
                        state.vars.pop((self.scopes.scope_of(target.id, frame), target.id), None)
                return Out([state])
            case ir.Scope():
                (frame.globals if s.is_global else frame.nonlocals).update(s.names)
                return Out([state])

    def expression_statement(self, s: ir.Expression, state: State, frame: Frame) -> Out:
        value = s.value
        if isinstance(value, ir.Yield):
            return Out(self.contexts.yielded(value, state, frame))
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
            told = self.recorder.raise_event(
                BareReference(
                    site=self.site(frame, s.value),
                    receiver=self.attributes.receiver(owner, st, target.value, target.attr),
                    name=spelled(target.value),
                    attribute=target.attr,
                    compared=compared,
                    last_in_cell=s.last_in_cell,
                )
            )
            if told:
                self.slips.not_called(owner, target.attr, st)
            yield st

    def assign(self, s: ir.Assign, state: State, frame: Frame) -> Iterator[State]:
        if isinstance(s.value, ir.Yield):
            states = self.contexts.yielded(s.value, state, frame)
            values: Evaluated = [(st, self.fresh(st, frame, s.value)) for st in states]
        else:
            values = self.eval(s.value, state, frame)
        if self.loops:
            self.acting.assigned(s, self.loops)
        for st, value in values:
            for target in s.targets:
                self.scopes.store(target, value, st, frame, s)
            yield st

    def augmented(self, s: ir.AugAssign, state: State, frame: Frame) -> Iterator[State]:
        for st, (old, new) in self.eval_all((s.target, s.value), state, frame):
            value: Value
            updated_by_hand(self.training, old, st)
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
            self.scopes.store(s.target, value, st, frame, s)
            yield st

    def jump(self, s: ir.Jump, state: State, frame: Frame) -> Out:
        if s.value is None:
            return Out([], [(s.kind, state, NONE)])
        if isinstance(s.value, ir.Yield):
            return Out(
                [], [(s.kind, st, NONE) for st in self.contexts.yielded(s.value, state, frame)]
            )
        return Out([], [(s.kind, st, value) for st, value in self.eval(s.value, state, frame)])

    def define(self, s: ir.Function, state: State, frame: Frame) -> Out:
        func = Func(s, frame.module)
        if frame.func is not None:
            func = Func(s, frame.module, frame.id, frame.cls)
        after = []
        for st, value in self.decorated(func, s.decorators, state, frame):
            self.scopes.store_name(s.name, value, st, frame)
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

    # --- try -----------------------------------------------------------------------

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
                    self.scopes.store_name(
                        handler.name, Ref(("exception", handler.node)), st, frame
                    )
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
            return [(state, self.scopes.load_name(e.id, state, frame))]
        if type(e) is ir.Attribute:
            outcomes = self.eval(e.value, state, frame)
            if len(outcomes) == 1:
                st, thing = outcomes[0]
                return self.attributes.attribute(thing, e.attr, st, frame, e)
            results: Evaluated = []
            for st, thing in outcomes:
                results.extend(self.attributes.attribute(thing, e.attr, st, frame, e))
            return self.bounded(results)
        return self.expressions.value(e, state, frame)


__all__ = ["Interpreter"]
