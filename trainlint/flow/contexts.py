"""Context managers: grad mode, the project's own, generators run as such."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from trainlint.core.events import (
    ContextNotCalled,
    DiscardedCall,
)
from trainlint.core.facts import (
    Certainty,
)
from trainlint.flow import ir
from trainlint.flow.arguments import Arguments
from trainlint.flow.frames import (
    Evaluated,
    Frame,
    Out,
)
from trainlint.flow.ir import spelled
from trainlint.flow.state import (
    ContextObject,
    GradMode,
    LibraryObject,
    State,
)
from trainlint.flow.values import (
    FALSE,
    NONE,
    TRUE,
    Const,
    External,
    Func,
    Partial,
    Ref,
    Value,
)
from trainlint.libraries import LIBRARY
from trainlint.libraries import spec as sp

if TYPE_CHECKING:
    from trainlint.flow.interpret import Interpreter


class Contexts:
    """Context managers: grad mode, the project's own, generators run as such."""

    def __init__(self, interpreter: Interpreter) -> None:
        self.run = interpreter

    def generator_of(self, value: Value, state: State) -> Partial | None:
        """The suspended call of a generator function of the project."""
        return self._suspended(value, state, "generator")

    def context_function(self, value: Value, state: State) -> Partial | None:
        """The suspended call of a `@contextmanager` function of the project."""
        return self._suspended(value, state, "contextmanager")

    def _suspended(self, value: Value, state: State, role: str) -> Partial | None:
        if isinstance(value, Ref):
            thing = state.heap.get(value.oid)
            if isinstance(thing, LibraryObject) and thing.role == role:
                call = thing.link("call")
                return call if isinstance(call, Partial) else None
        return None

    def context_instance(self, value: Value, state: State) -> Ref | None:
        """An instance of a project's class with `__enter__`."""
        if isinstance(value, Ref):
            cls = self.run.attributes.class_of(value, state)
            if cls is not None and cls.method("__enter__") is not None:
                return value
        return None

    def run_generator(
        self,
        call: Value,
        state: State,
        frame: Frame,
        node: ir.Node,
        body: Callable[[list[State], Value | None], list[State]],
    ) -> list[State]:
        """Run a generator function; `body` runs at each of its yields."""
        if not isinstance(call, Partial) or not isinstance(call.func, Func):
            return body([state], None)
        func = call.func
        if self.run.depth >= self.run.max_depth or self.run.active.count(func) >= 2:
            return body([state], None)
        self.run.executed.add(id(func.function))
        arguments = Arguments(call.args, call.keywords)
        before = state.grad
        for context in func.contexts:
            self.enter_grad(context, state, frame, node)
        results = self.run.execution.execute(func, arguments, state, frame, node, body)
        if func.contexts:
            for st, _ in results:
                st.grad = before
        return [st for st, _ in results]

    @staticmethod
    def expects_failure(context: Value, expr: ir.Expr, state: State) -> bool:
        """`with pytest.raises(...)`: what stands inside fails, and does nothing."""
        thing = state.heap.get(context.oid) if isinstance(context, Ref) else None
        if isinstance(thing, LibraryObject) and thing.role == "expects_failure":
            return True
        call = expr.func if isinstance(expr, ir.Call) else None
        return isinstance(call, ir.Attribute) and call.attr in ("assertRaises", "assertRaisesRegex")

    def enter_context(self, value: Value, state: State, frame: Frame, s: ir.With) -> Value:
        """Enter a library's context manager (or something unknown)."""
        return self.enter_grad(value, state, frame, s.context)

    def enter_grad(self, value: Value, state: State, frame: Frame, node: ir.Node) -> Value:
        kind: str | None = None
        flag: Value | None = None
        match value:
            case External(path=path):
                spec = LIBRARY.call(path)
                kind = spec.kind if isinstance(spec, sp.Context) else None
            case Ref(oid=oid):
                thing = state.heap.get(oid)
                if isinstance(thing, ContextObject):
                    kind, flag = thing.kind, thing.grad
                    if thing.kind.startswith("adapter:"):
                        self.run.adapters.enter(thing, state)
                        return value
                elif isinstance(thing, LibraryObject) and thing.role == "scaled_loss":
                    return thing.link("loss") or value
            case _:
                pass
        if kind is not None:
            self._apply_grad(kind, flag, state, frame, node, leaked=False)
        return value

    def is_stack(self, value: Value, state: State) -> bool:
        """An ExitStack: gradients are again as they were before it when it is left."""
        thing = state.heap.get(value.oid) if isinstance(value, Ref) else None
        return isinstance(thing, ContextObject) and thing.kind == "stack"

    def entered_by_hand(
        self, value: Value, name: str, state: State, frame: Frame, node: ir.Node
    ) -> bool:
        """`torch.no_grad().__enter__()`: it holds until somebody leaves it."""
        thing = state.heap.get(value.oid) if isinstance(value, Ref) else None
        if not isinstance(thing, ContextObject) or thing.kind.startswith("adapter:"):
            return False
        if name == "__enter__":
            self._apply_grad(thing.kind, thing.grad, state, frame, node, leaked=True)
        else:
            state.grad = GradMode()
        return True

    def _apply_grad(
        self, kind: str, flag: Value | None, state: State, frame: Frame, node: ir.Node, leaked: bool
    ) -> None:
        off = self.run.origin(frame, node, "gradients are turned off here")
        match kind:
            case "no_grad":
                state.grad = GradMode(Certainty.NO, leaked, state.grad.inference, off)
            case "inference_mode":
                if flag == FALSE:
                    return
                certain = Certainty.NO if flag in (None, TRUE) else Certainty.UNKNOWN
                state.grad = GradMode(certain, leaked, certain is Certainty.NO, off)
            case "enable_grad":
                if not state.grad.inference:
                    state.grad = GradMode(Certainty.YES)
            case "set_grad_enabled":
                match flag:
                    case Const(value=on):
                        if on:
                            state.grad = GradMode(Certainty.YES)
                        else:
                            state.grad = GradMode(Certainty.NO, leaked, False, off)
                    case _:
                        state.grad = GradMode(Certainty.UNKNOWN, leaked, False, off)
            case _:
                pass

    def leave_context(self, value: Value, state: State, before: GradMode) -> None:
        """Leave it: the gradient mode is what it was."""
        if isinstance(value, Ref):
            thing = state.heap.get(value.oid)
            if isinstance(thing, ContextObject):
                if thing.kind.startswith("adapter:"):
                    self.run.adapters.leave(thing, state)
                    return
                if thing.kind != "neutral":
                    state.grad = before
        elif isinstance(value, External):
            state.grad = before

    def context(
        self, kind: str, grad: Value | None, state: State, frame: Frame, node: ir.Node
    ) -> Ref:
        ref = self.run.fresh(state, frame, node, "context")
        state.heap[ref.oid] = ContextObject(kind, grad)
        return ref

    def discarded_context(
        self, s: ir.Expression, call: ir.Call, thing: ContextObject, state: State, frame: Frame
    ) -> None:
        if thing.kind == "set_grad_enabled":
            self._apply_grad(thing.kind, thing.grad, state, frame, call, leaked=True)
            return
        if thing.kind == "neutral" or thing.kind.startswith("adapter:"):
            if thing.kind.startswith("adapter:"):
                self.run.adapters.discarded(s, call, thing, state, frame)
            return
        told = self.run.recorder.raise_event(
            DiscardedCall(
                site=self.run.site(frame, call),
                callee=f"torch.{thing.kind}",
                name=spelled(call.func),
                followed_by_def=s.before_definition,
            )
        )
        if told:
            self.run.slips.not_entered(frame)

    def with_block(self, s: ir.With, state: State, frame: Frame) -> Out:
        out = Out([])
        for st, context in self.run.eval(s.context, state, frame):
            part = self._within(s, context, st, frame)
            out.on.extend(part.on)
            out.jumps.extend(part.jumps)
        out.on = self.run.join(out.on) if len(out.on) > 1 else out.on
        return out

    def _within(self, s: ir.With, context: Value, state: State, frame: Frame) -> Out:
        manager = self.context_function(context, state)
        if manager is not None:
            return self._within_project(s, manager, state, frame)
        instance = self.context_instance(context, state)
        if instance is not None:
            return self._within_instance(s, instance, state, frame)
        if isinstance(context, External):
            self.run.recorder.raise_event(
                ContextNotCalled(site=self.run.site(frame, s.context), callee=context.path)
            )
        if self.expects_failure(context, s.context, state):
            return Out([state])
        before = state.grad
        entered = self.enter_context(context, state, frame, s)
        if s.target is not None:
            self.run.scopes.store(s.target, entered, state, frame, s)
        accumulating = self.run.training.accumulation.enter(context, state)
        out = self.run.block(s.body, [state], frame)
        if accumulating:
            self.run.training.accumulation.leave()
        for st in (*out.on, *(j[1] for j in out.jumps)):
            self.leave_context(context, st, before)
        return out

    def _within_project(self, s: ir.With, manager: Value, state: State, frame: Frame) -> Out:
        jumps: list[tuple[ir.JumpKind, State, Value | None]] = []

        def body(states: list[State], value: Value | None) -> list[State]:
            for st in states:
                if s.target is not None:
                    self.run.scopes.store(
                        s.target, value if value is not None else NONE, st, frame, s
                    )
            out = self.run.block(s.body, states, frame)
            results = list(out.on)
            for i, (_, st, _) in enumerate(out.jumps):
                st.pending = (*st.pending, (len(jumps) + i, s.node))
                results.append(st)
            jumps.extend(out.jumps)
            return results

        ends = self.run_generator(manager, state, frame, s, body)
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
        for st, entered in self.run.execution.method(
            instance, "__enter__", (), (), state, frame, s
        ):
            if s.target is not None:
                self.run.scopes.store(s.target, entered, st, frame, s)
            inner = self.run.block(s.body, [st], frame)
            for kind, after, value in [(None, x, None) for x in inner.on] + list(inner.jumps):
                for end, _ in self.run.execution.method(
                    instance, "__exit__", (NONE, NONE, NONE), (), after, frame, s
                ):
                    if kind is None:
                        out.on.append(end)
                    else:
                        out.jumps.append((kind, end, value))
        return out

    def yielded(self, s: ir.Yield, state: State, frame: Frame) -> list[State]:
        """A yield hands over to whoever iterates or entered."""
        results: list[State] = []
        pairs: Evaluated = (
            self.run.eval(s.value, state, frame) if s.value is not None else [(state, NONE)]
        )
        for st, value in pairs:
            if frame.yields is not None:
                results.extend(frame.yields([st], value if s.value is not None else None))
            else:
                self.run.escapes.escape(value, st)
                results.append(st)
        return results
