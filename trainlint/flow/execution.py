"""Runs the project's own functions with their caller's facts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from trainlint.core.facts import (
    Certainty,
    Mode,
    ModeFact,
    Share,
    TrainableFact,
)
from trainlint.flow import ir
from trainlint.flow.adapters import Place
from trainlint.flow.arguments import Arguments, bind
from trainlint.flow.decorating import gives_back
from trainlint.flow.frames import Frame
from trainlint.flow.project import ClassInfo
from trainlint.flow.relevance import only_looks_up, reads_variables
from trainlint.flow.sensitivity import own_sensitivity
from trainlint.flow.state import (
    ContextObject,
    HeapObject,
    InstanceObject,
    LibraryObject,
    ModuleObject,
    ParametersObject,
    State,
    join_values,
)
from trainlint.flow.values import (
    NONE,
    External,
    Func,
    Method,
    Partial,
    Ref,
    Tensor,
    TupleValue,
    Value,
    const,
)
from trainlint.libraries import LIBRARY
from trainlint.libraries import spec as sp

if TYPE_CHECKING:
    from trainlint.flow.frames import Evaluated
    from trainlint.flow.interpret import Interpreter


MAX_ARCHITECTURES = 2
"""States that a module's constructor may leave."""


class Execution:
    """Runs the project's own functions with their caller's facts."""

    def __init__(self, interpreter: Interpreter) -> None:
        self.run = interpreter

    def callbacks(self, arguments: Arguments, state: State, frame: Frame, node: ir.Node) -> State:
        """Functions given to something unknown are called by it once, with who knows what.

        `fire.Fire(train)` reads its arguments from the command line: a parameter's default says
        nothing about them.
        """
        for value in arguments.values:
            if isinstance(value, Func | Method):
                function = value.func.function if isinstance(value, Method) else value.function
                if function.name == "<lambda>" or not self.run.relevance.matters(
                    function, (value.func if isinstance(value, Method) else value).module
                ):
                    continue
                receiver = (value.receiver,) if isinstance(value, Method) else ()
                given = Arguments(receiver, complete=False)
                inner = value.func if isinstance(value, Method) else value
                for st, result in self.invoke(inner, given, state, frame, node)[:1]:
                    self.run.escapes.escape(result, st)
                    state = st
        return state

    def invoke(
        self, func: Func, arguments: Arguments, state: State, frame: Frame, node: ir.Node
    ) -> Evaluated:
        """Run a function of the project with the caller's facts."""
        function = func.function
        if func.is_context or function.is_generator:
            ref = self.run.fresh(state, frame, node, "generator")
            role = "contextmanager" if func.is_context else "generator"
            keywords = tuple(arguments.keywords)
            state.heap[ref.oid] = LibraryObject(
                role, links=(("call", Partial(func, arguments.positional, keywords)),)
            )
            return [(state, ref)]
        # A decorator's inner function is another one around each function that it wraps.
        recursive = self.run.active.count(func) >= 2
        if recursive or self.run.depth >= self.run.max_depth:
            return self.run.calls.unknown_call(arguments, state, frame, node)
        self.run.executed.add(id(function))
        if not (
            self.run.relevance.matters(function, func.module)
            or only_looks_up(function)
            or self._uses_up(arguments, state)
        ):
            return self._skipped(func, arguments, state, frame, node)
        before = state.grad
        for context in func.contexts:
            self.run.contexts.enter_grad(context, state, frame, node)
        results = self._remembered(func, arguments, state, frame, node)
        if func.contexts:
            for st, _ in results:
                st.grad = before
        return results

    def _skipped(
        self, func: Func, arguments: Arguments, state: State, frame: Frame, node: ir.Node
    ) -> Evaluated:
        """What only computes gives no graph to what it got without one."""
        closed = not reads_variables(func)
        joined = self.run.tensors.combine(arguments.values, "call", state) if closed else None
        if isinstance(joined, Tensor) and joined.attached is Certainty.NO:
            return [(state, joined)]
        computed = self.run.calls.unknown_call(arguments, state, frame, node, havoc=False)
        if closed and self.run.collections.all_data(arguments.values):
            self.run.collections.hold_no_graph(computed)
        return computed

    def _remembered(
        self, func: Func, arguments: Arguments, state: State, frame: Frame, node: ir.Node
    ) -> Evaluated:
        """Run a function, unless it is known to leave just such a state as it is."""
        try:
            before = (
                func,
                arguments.positional,
                arguments.keywords,
                frame.id,
                node.node,
                state.key(),
            )
            known = self.run.unchanged.get(before)
        except TypeError:
            return self.execute(func, arguments, state, frame, node)
        if known is not None and _held(known[0], state) == known[1]:
            return [(state, known[0])]
        results = self.execute(func, arguments, state, frame, node)
        if len(results) == 1 and results[0][0].key() == before[-1]:
            after, value = results[0]
            self.run.unchanged[before] = value, _held(value, after)
        return results

    @staticmethod
    def _uses_up(arguments: Arguments, state: State) -> bool:
        """Whether a one-shot iterator is given, of which the function may leave nothing."""
        things = [state.heap.get(v.oid) for v in arguments.values if isinstance(v, Ref)]
        return any(isinstance(t, ParametersObject) and t.one_shot for t in things)

    def execute(
        self,
        func: Func,
        arguments: Arguments,
        state: State,
        frame: Frame,
        node: ir.Node,
        yields: Callable[[list[State], Value | None], list[State]] | None = None,
    ) -> Evaluated:
        """Run a function's body in a frame of its own."""
        inner = self._enter(func, arguments, state, frame, node)
        inner.yields = yields
        self.run.entered[id(func.function)] = func.function.body
        self.run.depth += 1
        self.run.active.append(func)
        try:
            out = self.run.block(func.function.body, [state], inner)
        finally:
            self.run.active.pop()
            self.run.depth -= 1
        ends: list[tuple[State, Value]] = [(st, NONE) for st in out.on]
        for kind, st, value in out.jumps:
            if kind is ir.JumpKind.RETURN:
                ends.append((st, value if value is not None else NONE))
        return self._leave(ends, inner, func)

    def _enter(
        self, func: Func, arguments: Arguments, state: State, frame: Frame, node: ir.Node
    ) -> Frame:

        function = func.function
        frame_id = hash((frame.id, frame.module.path, node.node, id(function)))
        inner = Frame(
            frame_id,
            func.module,
            func,
            func.frame,
            function.locals,
            arguments.positional[0] if func.owner is not None and arguments.positional else None,
            frame,
            cls=func.owner,
            called=self.run.site(frame, node),
            loops=len(self.run.loops),
        )
        self.run.frames[frame_id] = inner
        bound = bind(function, arguments)
        for parameter in function.parameters:
            value = bound.values.get(parameter.name)
            if parameter.kind is ir.ParameterKind.DOUBLE_STAR and arguments.complete:
                names = tuple(const(key) for key, _ in bound.extra)
                others = tuple(given for _, given in bound.extra)
                value = self.run.collections.new_dict(names, others, state, frame, node)
            elif value is None:
                value = self._default(parameter, func, arguments, state, frame_id)
            state.vars[frame_id, parameter.name] = value
            if isinstance(value, Ref) and value.oid == ("param", frame_id, parameter.name):
                state.forget(value.oid)
        return inner

    def _default(
        self, parameter: ir.Parameter, func: Func, arguments: Arguments, state: State, frame_id: int
    ) -> Value:
        opaque = Ref(("param", frame_id, parameter.name))
        if parameter.default is None:
            return opaque
        found = func.module.static_value(parameter.default)
        if found is None or not (arguments.complete or _is_stand_in(found)):
            return opaque
        return found

    def _leave(self, ends: list[tuple[State, Value]], inner: Frame, func: Func) -> Evaluated:
        """Join the states that return; variables of a frame nobody closes over are dropped."""
        groups: dict[Value, list[State]] = {}
        closes = self.run.relevance.defines_functions(func.function)
        for st, value in ends:
            if not closes:
                for name in func.function.locals:
                    st.vars.pop((inner.id, name), None)
            groups.setdefault(value, []).append(st)
        if len(groups) > 1:
            groups = self._join_results(groups)
        return [(st, value) for value, states in groups.items() for st in self.run.join(states)]

    @staticmethod
    def _join_results(groups: dict[Value, list[State]]) -> dict[Value, list[State]]:
        """Results that are tensors or nothing known are one result."""
        tensors = [v for v in groups if isinstance(v, Tensor)]
        if len(tensors) < 2:
            return groups
        joined = join_values(tensors)
        assert joined is not None
        merged: dict[Value, list[State]] = {joined: []}
        for value, states in groups.items():
            if isinstance(value, Tensor):
                merged[joined].extend(states)
            else:
                merged.setdefault(value, []).extend(states)
        return merged

    def method(
        self,
        instance: Value,
        name: str,
        positional: tuple[Value, ...],
        keywords: tuple[tuple[str, Value], ...],
        state: State,
        frame: Frame,
        node: ir.Node,
    ) -> Evaluated:
        """Call a method of a project's instance by name."""
        cls = self.run.attributes.class_of(instance, state)
        func = cls.method(name) if cls is not None else None
        if func is None:
            return [(state, NONE)]
        return self.invoke(func, Arguments((instance, *positional), keywords), state, frame, node)

    def instantiate(
        self, info: ClassInfo, arguments: Arguments, state: State, frame: Frame, node: ir.Node
    ) -> Evaluated:
        """Make an instance of a class of the project."""
        self.run.instantiated.add(id(info.node))
        known = len(self.run.made)
        ref = self.run.fresh(state, frame, node)
        if len(self.run.made) == known:  # the node has made one before
            state.attrs.clear_of(ref.oid)
        if info.is_module:
            state.heap[ref.oid] = ModuleObject(
                cls=info,
                flag=ModeFact(Mode.TRAIN, None, None),
                trainable=TrainableFact(Share.ALL),
                sensitive=own_sensitivity(info),
                fresh=True,
                loss="" if info.name.lower().endswith(("loss", "criterion")) else None,
            )
        else:
            state.heap[ref.oid] = InstanceObject(info)
        constructor = info.method("__init__")
        if not info.is_module and isinstance(node, ir.Call):
            self.run.trainers.adopt(ref.oid, info, arguments, Place(state, frame, node))
        if constructor is None:
            if arguments.positional or not arguments.complete:
                # A dataclass: its defaults may have been overwritten.
                for name in _class_fields(info):
                    state.attrs[ref.oid, name] = Ref(("attr", ref.oid, name))
            for keyword, value in arguments.keywords:
                state.attrs[ref.oid, keyword] = value
            specs = (LIBRARY.call(b) for b in sorted(info.externals))
            base = next((s for s in specs if isinstance(s, sp.Layer)), None)
            if base is not None and info.is_module:
                self.run.library.add_parts(ref.oid, arguments, state, frame, node)
            return [(state, ref)]
        if self.run.depth >= self.run.max_depth:
            return [(state, ref)]
        results = self.execute(constructor, arguments.with_first(ref), state, frame, node)
        self.run.executed.add(id(constructor.function))
        states = [st for st, _ in results]
        if info.is_module:
            # Options of an architecture multiply with each module that holds others.
            states = self.run.join(states, MAX_ARCHITECTURES)
        return [(st, ref) for st in states]

    def decorate(
        self, outer: Value, inner: Value, state: State, frame: Frame, node: ir.Expr
    ) -> Evaluated:
        """Apply a decorator to a function."""
        match outer:
            case External(path=path):
                spec = LIBRARY.call(path)
                if isinstance(spec, sp.Context) and isinstance(inner, Func):
                    return [(state, replace(inner, contexts=(*inner.contexts, outer)))]
                if path in ("contextlib.contextmanager", "contextlib.asynccontextmanager"):
                    if isinstance(inner, Func):
                        return [(state, replace(inner, is_context=True))]
                return [(state, inner)]
            case Ref(oid=oid) if isinstance(state.heap.get(oid), ContextObject):
                if isinstance(inner, Func):
                    return [(state, replace(inner, contexts=(*inner.contexts, outer)))]
                return [(state, inner)]
            case Func() if gives_back(outer):
                return [(state, inner)]
            case Func() | Method():
                call = ir.Call(node, (), node.node)
                results = self.run.calls.call(outer, Arguments((inner,)), state, frame, call)
                return [
                    (st, v if isinstance(v, Func | Method | Partial | Ref) else inner)
                    for st, v in results
                ] or [(state, inner)]
            case _:
                return [(state, inner)]


def _held(value: Value, state: State) -> tuple[HeapObject | None, ...]:
    """What a result refers to: a context manager that was made is needed with it."""
    values = value.items if isinstance(value, TupleValue) else (value,)
    return tuple(state.heap.get(v.oid) for v in values if isinstance(v, Ref))


def _is_stand_in(default: Value) -> bool:
    """`opt_func=torch.optim.SGD`: whatever a caller gives instead is of the same kind."""
    spec = LIBRARY.call(default.path) if isinstance(default, External) else None
    return isinstance(spec, sp.OptimizerClass) and not spec.closure


def _class_fields(info: ClassInfo) -> list[str]:
    """The names that a class's body assigns."""
    return [
        target.id
        for statement in info.node.body
        if isinstance(statement, ir.Assign)
        for target in statement.targets
        if isinstance(target, ir.Name)
    ]
