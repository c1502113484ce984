"""Names and targets: where a variable is kept, and assignment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainlint.flow import ir
from trainlint.flow.frames import (
    BUILTINS,
    Frame,
)
from trainlint.flow.project import ModuleInfo
from trainlint.flow.state import (
    State,
)
from trainlint.flow.values import (
    Const,
    External,
    FrameId,
    Func,
    Ref,
    Tensor,
    Value,
    const,
)

if TYPE_CHECKING:
    from trainlint.flow.interpret import Interpreter


class Scopes:
    """Names and targets: where a variable is kept, and assignment."""

    def __init__(self, interpreter: Interpreter) -> None:
        self.run = interpreter

    def module_frame(self, module: ModuleInfo) -> FrameId:
        """The frame of a file's top level."""
        return hash(("module", module.path))

    def scope_of(self, name: str, frame: Frame) -> FrameId:
        """The frame in which a name is written."""
        if name in frame.globals:
            return self.module_frame(frame.module)
        if name in frame.nonlocals and frame.outer is not None:
            outer: FrameId | None = frame.outer
            while outer is not None and outer in self.run.frames:
                if name in self.run.frames[outer].locals:
                    return outer
                outer = self.run.frames[outer].outer
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
            scope = self.run.frames[scope].outer if scope in self.run.frames else None
        top = self.module_frame(frame.module)
        found = state.vars.get((top, name))
        if found is not None:
            return found
        resolved = frame.module.resolve(name)
        if resolved is not None:
            return self.imported(resolved, state) or resolved
        binding = frame.module.bindings.get(name)
        if binding is not None:
            if isinstance(binding, ir.Import):
                return External(f"?{name}")
            return Ref(("global", frame.module.path, name))
        if name == "__name__":
            return const("__main__")
        if name in BUILTINS:
            return External(f"builtins.{name}")
        return Ref(("global", frame.module.path, name))

    def means_the_import(self, s: ir.Import, state: State, frame: Frame) -> bool:
        """Whether a name of the file means this import anyhow: it is looked up when it is used."""
        return (
            frame.id == self.module_frame(frame.module)
            and frame.module.bindings.get(s.bound) is s
            and (frame.id, s.bound) not in state.vars
        )

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
        for st, value in self.run.decorated(func, func.function.decorators, state.copy(), top):
            _take_over(state, st)
            state.vars[name] = value
            return value
        return func

    def store(self, target: ir.Expr, value: Value, state: State, frame: Frame, s: ir.Node) -> None:
        """Assign to a name, an attribute, an item or a pattern of these."""
        match target:
            case ir.Name(id=name):
                if not isinstance(s, ir.For):  # `for net in nets`: none takes another's place
                    old = state.vars.get((self.scope_of(name, frame), name))
                    self.run.models.rebound(old, value, state, frame, s)
                self.store_name(name, value, state, frame)
            case ir.Attribute(value=owner, attr=attr):
                for st, thing in self.run.eval(owner, state, frame)[:1]:
                    if st is not state:
                        _take_over(state, st)
                    self.run.attributes.set_attribute(thing, attr, value, state, frame, target, s)
            case ir.Subscript(value=owner, index=index):
                for st, (thing, key) in self.run.eval_all((owner, index), state, frame)[:1]:
                    if st is not state:
                        _take_over(state, st)
                    if isinstance(value, Tensor) and self.run.collections.is_buffer(thing, state):
                        self.store(
                            owner, self.run.tensors.combine((thing, value), "[]"), state, frame, s
                        )
                    else:
                        if not isinstance(value, Const) and not self.run.collections.is_data(value):
                            self.run.collections.wants_gradient(thing)
                        self.run.collections.set_item(thing, key, value, state, frame, s)
            case ir.Sequence(items=targets):
                self._unpack(targets, value, state, frame, s)
            case ir.Starred(value=inner):
                self.store(inner, value, state, frame, s)
            case _:
                pass

    def _unpack(
        self, targets: tuple[ir.Expr, ...], value: Value, state: State, frame: Frame, s: ir.Node
    ) -> None:
        items = self.run.collections.known_items(value, state)
        starred = any(isinstance(t, ir.Starred) for t in targets)
        if items is not None and len(items) == len(targets) and not starred:
            for target, item in zip(targets, items):
                self.store(target, item, state, frame, s)
            return
        for i, target in enumerate(targets):
            self.store(
                target, self.run.collections.item_of(value, i, state, frame, s), state, frame, s
            )


def _take_over(state: State, other: State) -> None:
    """Make `state` what `other` is: an assignment's target was evaluated in a split state."""
    for name in State.__slots__:
        setattr(state, name, getattr(other, name))
