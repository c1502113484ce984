"""Training loops that a framework runs over the hooks of a project's class: Lightning's.

`Trainer.fit(model)` is executed as Lightning 2.6 does it (`tests/contracts/test_lightning.py`
watches it): the hooks before training, then in each epoch `training_step`, clearing, backward and
step for each batch, a validation that ends with the modes it began with, and the hooks that end
the epoch. The user's hooks are ordinary functions; only the order is the framework's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from trainlint.core.facts import Cause, Certainty, Mode, ModeFact, Site
from trainlint.core.late import dataclass
from trainlint.flow import ir
from trainlint.flow.adapters import Place
from trainlint.flow.arguments import Arguments
from trainlint.flow.frames import Frame, Loop, Out
from trainlint.flow.project import ClassInfo
from trainlint.flow.state import GradMode, ListObject, ModuleObject, OptimizerObject, State
from trainlint.flow.values import (
    FALSE,
    NONE,
    ClassValue,
    Func,
    Method,
    ObjectId,
    Ref,
    Tensor,
    TupleValue,
    Value,
    const,
)
from trainlint.libraries.trainers import LIGHTNING_LOOP, LIGHTNING_METHODS

if TYPE_CHECKING:
    from trainlint.flow.frames import Evaluated
    from trainlint.flow.interpret import Interpreter

_OPTIMIZERS = "$optimizers"
MAX_OPTIMIZERS = 4


@dataclass(frozen=True, slots=True)
class Owner:
    """The framework whose loop is running, and which modes were set before it began."""

    framework: str
    before: frozenset[Site]


@dataclass(frozen=True, slots=True)
class Fit:
    """One model in the loop of its framework."""

    oid: ObjectId
    cls: ClassInfo
    step: Func

    @property
    def automatic(self) -> str:
        """The attribute that tells whether the framework runs backward and steps."""
        return LIGHTNING_LOOP.automatic


class Hooked:
    """Runs the loop around a class's hooks, and what such a class inherits."""

    def __init__(self, interpreter: Interpreter) -> None:
        self.run = interpreter
        self.owner: Owner | None = None

    # --- the loop ----------------------------------------------------------------------

    def runs(self, oid: ObjectId, state: State) -> bool:
        """Whether a model is an instance of a class that such a loop can train."""
        module = state.module(oid)
        return module is not None and module.cls is not None and trainable(module.cls)

    def fit(self, oid: ObjectId, states: list[State]) -> list[State]:
        """`trainer.fit(model)`."""
        module = states[0].module(oid) if states else None
        if module is None or module.cls is None or self.owner is not None:
            return states
        step = module.cls.method(LIGHTNING_LOOP.step)
        assert step is not None
        fit = Fit(oid, module.cls, step)
        for hook in LIGHTNING_LOOP.before:
            states = self._hook(fit, hook, states)
        states = self._configure(fit, states)
        self.owner = Owner(_framework(module.cls), self._modes(oid, states))
        try:
            for hook in LIGHTNING_LOOP.start:
                states = self._hook(fit, hook, states)
            loop = Loop("epoch", node=fit.cls.node.node)
            return self._repeat(loop, states, fit, self._epoch)
        finally:
            self.owner = None

    def command_line(self, arguments: Arguments, place: Place) -> Evaluated:
        """`LightningCLI(Model, ...)` makes the model as the command line says, and fits it."""
        model = arguments.get("model_class", 0)
        if not isinstance(model, ClassValue) or not trainable(model.info):
            return [(place.state, NONE)]
        made = self.run.execution.instantiate(
            model.info, Arguments(complete=False), place.state, place.frame, place.node
        )
        states = [st for st, _ in made]
        for _, ref in made[:1]:
            if isinstance(ref, Ref):
                states = self.fit(ref.oid, states)
        return [(st, NONE) for st in states]

    def _repeat(self, loop: Loop, states: list[State], fit: Fit, once: object) -> list[State]:
        def body(entered: list[State]) -> Out:
            return Out(once(fit, entered))  # type: ignore[operator]

        out = self.run.iteration.rounds_of(
            loop, states, body, self._home(fit.step), _as_it_is, None
        )
        return out.on

    def _epoch(self, fit: Fit, states: list[State]) -> list[State]:
        for hook in LIGHTNING_LOOP.epoch_start:
            states = self._hook(fit, hook, states)
        loop = Loop("step", node=fit.step.function.name_node)
        states = self._repeat(loop, states, fit, self._batch)
        states = self._validation(fit, states)
        for hook in LIGHTNING_LOOP.epoch_end:
            states = self._hook(fit, hook, states)
        return states

    def _batch(self, fit: Fit, states: list[State]) -> list[State]:
        for hook in LIGHTNING_LOOP.batch_start:
            states = self._hook(fit, hook, states)
        after: list[State] = []
        for state in states:
            if not self._is_automatic(fit, state):
                after += [st for st, _ in self._call(fit.oid, fit.step, state)]
                continue
            after += self._steps(fit, state)
        for hook in LIGHTNING_LOOP.batch_end:
            after = self._hook(fit, hook, after)
        return self.run.join(after)

    def _is_automatic(self, fit: Fit, state: State) -> bool:
        if fit.cls.method(fit.automatic) is not None:
            return False
        return state.attrs.get((fit.oid, fit.automatic)) != FALSE

    def _steps(self, fit: Fit, state: State) -> list[State]:
        """One step; with several optimizers (Lightning 1) one for each."""
        optimizers = self._known(fit, state)
        indexed = any(p.name == LIGHTNING_LOOP.index for p in fit.step.function.parameters)
        if not indexed or not optimizers:
            return self._step(fit, state, (), optimizers)
        states = [state]
        for i, optimizer in enumerate(optimizers):
            given = ((LIGHTNING_LOOP.index, const(i)),)
            states = self.run.join(
                after for st in states for after in self._step(fit, st, given, [optimizer])
            )
        return states

    def _step(
        self,
        fit: Fit,
        state: State,
        given: tuple[tuple[str, Value], ...],
        optimizers: list[ObjectId],
    ) -> list[State]:
        training, home = self.run.training, self._home(fit.step)
        node = returned(fit.step.function)
        after: list[State] = []
        for st, result in self._call(fit.oid, fit.step, state, given):
            loss = _loss(result, st)
            if not isinstance(loss, Tensor):
                # It skips the batch, or nothing is known of what it returns.
                self.run.escapes.escape(result, st)
                if result != NONE:
                    training.clear_unknown(st, optimizers)
                after.append(st)
                continue
            training.clear(optimizers, st, home, node)
            training.backward(loss, "the loss", st, home, node)
            going = self._hooks(fit, LIGHTNING_LOOP.after_backward, [st])
            for stepping in going:
                for optimizer in optimizers:
                    training.step(optimizer, stepping, home, node)
            after += going
        return after

    def _validation(self, fit: Fit, states: list[State]) -> list[State]:
        """Everything in eval mode, gradients off; afterwards each module is as it was."""
        if not any(fit.cls.method(hook) for hook in LIGHTNING_LOOP.validation):
            return states
        after: list[State] = []
        for state in states:
            grad, modes = state.grad, self._snapshot(fit.oid, state)
            home, node = self._home(fit.step), fit.step.function.name_node
            origin = self.run.origin(home, node, "the framework validates with gradients off")
            for part in modes:
                state.update(part, flag=ModeFact(Mode.EVAL, Cause.FRAMEWORK, origin))
            state.grad = GradMode(Certainty.NO, inference=True, origin=origin)
            for st in self._hooks(fit, LIGHTNING_LOOP.validation, [state]):
                for part, module in modes.items():
                    if st.module(part) is not None:
                        st.update(part, **_mode_of(module))
                st.grad = grad
                after.append(st)
        return self.run.join(after)

    def _snapshot(self, oid: ObjectId, state: State) -> dict[ObjectId, ModuleObject]:
        parts = self.run.models.reach(oid, state)
        return {part: found for part in parts if (found := state.module(part)) is not None}

    def _modes(self, oid: ObjectId, states: Iterable[State]) -> frozenset[Site]:
        return frozenset(
            module.flag.origin.site
            for state in states
            for module in self._snapshot(oid, state).values()
            if module.flag.origin is not None
        )

    # --- hooks and optimizers ----------------------------------------------------------

    def _hooks(self, fit: Fit, names: tuple[str, ...], states: list[State]) -> list[State]:
        for name in names:
            states = self._hook(fit, name, states)
        return states

    def _hook(self, fit: Fit, name: str, states: list[State]) -> list[State]:
        method = fit.cls.method(name)
        if method is None:
            return states
        after: list[State] = []
        for state in states:
            for st, result in self._call(fit.oid, method, state):
                self.run.escapes.escape(result, st)
                after.append(st)
        return self.run.join(after)

    def _call(
        self,
        oid: ObjectId,
        method: Func,
        state: State,
        given: tuple[tuple[str, Value], ...] = (),
    ) -> Evaluated:
        function = method.function
        node = ir.Call(ir.Name(function.name), (), function.name_node)
        home = self._home(method)
        place = ir.Attribute(ir.Name("self"), function.name, function.name_node)
        arguments = Arguments(self._data(method), given, False)
        return [
            after
            for st, bound in self.run.attributes.bound(oid, method, state, home, place)
            for after in self._run(bound, arguments, st, home, node)
        ]

    def _data(self, method: Func) -> tuple[Value, ...]:
        """What the loader gives to a hook that takes a batch first: it has no graph."""
        if method.function.name not in LIGHTNING_LOOP.takes_batch:
            return ()
        return (self.run.collections.batch(method),)

    def _run(
        self, bound: Value, arguments: Arguments, state: State, home: Frame, node: ir.Call
    ) -> Evaluated:
        """Run a hook whatever it mentions: the framework's loop makes it matter."""
        plain = isinstance(bound, Method) and not bound.func.contexts
        if isinstance(bound, Method) and plain and not bound.func.function.is_generator:
            self.run.executed.add(id(bound.func.function))
            given = arguments.with_first(bound.receiver)
            return self.run.execution.execute(bound.func, given, state, home, node)
        return self.run.calls.call(bound, arguments, state, home, node)

    def _home(self, method: Func) -> Frame:
        return Frame(self.run.scopes.module_frame(method.module), method.module)

    def _configure(self, fit: Fit, states: list[State]) -> list[State]:
        method = fit.cls.method(LIGHTNING_LOOP.optimizers)
        assert method is not None
        after: list[State] = []
        for state in states:
            for st, result in self._call(fit.oid, method, state):
                found = tuple(Ref(oid) for oid in _optimizers(result, st))[:MAX_OPTIMIZERS]
                st.attrs[fit.oid, _OPTIMIZERS] = TupleValue(found)
                after.append(st)
        return self.run.join(after)

    @staticmethod
    def _known(fit: Fit, state: State) -> list[ObjectId]:
        held = state.attrs.get((fit.oid, _OPTIMIZERS))
        if not isinstance(held, TupleValue):
            return []
        return [v.oid for v in held.items if isinstance(v, Ref) and state.optimizer(v.oid)]

    # --- what the class inherits -------------------------------------------------------

    def method(
        self, oid: ObjectId, name: str, arguments: Arguments, place: Place
    ) -> Evaluated | None:
        """A method of `LightningModule` itself; None if it has none of that name."""
        state, run = place.state, self.run
        module = state.module(oid)
        if module is None or module.cls is None or not module.cls.is_lightning:
            return None
        match LIGHTNING_METHODS.get(name):
            case "backward" if arguments.values:
                run.training.backward(
                    arguments.values[0], "the loss", state, place.frame, place.node
                )
                return [(state, NONE)]
            case "optimizers":
                held = state.attrs.get((oid, _OPTIMIZERS))
                if not isinstance(held, TupleValue) or not held.items:
                    return [(state, run.fresh(state, place.frame, place.node, "result"))]
                return [(state, held.items[0] if len(held.items) == 1 else held)]
            case "freeze" | "unfreeze" as word:
                return self._freeze(oid, word == "freeze", place)
            case "look":
                return [(state, run.fresh(state, place.frame, place.node, "result"))]
            case _:
                return None

    def _freeze(self, oid: ObjectId, frozen: bool, place: Place) -> Evaluated:
        run = self.run
        word = "frozen" if frozen else "unfrozen"
        origin = run.origin(place.frame, place.node, f"everything is {word} here")
        run.models.set_trainable(oid, not frozen, True, place.state, origin)
        mode = Mode.EVAL if frozen else Mode.TRAIN
        states = run.models.set_mode(oid, mode, place.state, place.frame, place.node)
        return [(st, NONE) for st in states]


def trainable(cls: ClassInfo) -> bool:
    """Whether a class has what Lightning's loop needs, and is no abstract base."""
    needed = (LIGHTNING_LOOP.step, LIGHTNING_LOOP.optimizers)
    return cls.is_lightning and all(cls.method(name) is not None for name in needed)


def returned(function: ir.Function) -> ir.Node:
    """The last `return` of a function's straight line, else its name."""
    last = function.body[-1] if function.body else None
    if isinstance(last, ir.Jump) and last.kind is ir.JumpKind.RETURN:
        return last
    return ir.Name(function.name, function.name_node)


def _framework(cls: ClassInfo) -> str:
    paths = sorted(path.split(".", 1)[0] for path in cls.externals)
    return next((p for p in paths if "lightning" in p), "lightning")


def _as_it_is(state: State) -> list[State]:
    return [state]


def _mode_of(module: ModuleObject) -> dict[str, object]:
    """All that says in which mode a module is and how it got there."""
    names = (
        "flag part_eval rests_with_all kept_eval kept_in overridden was_overridden evaluated"
        " trained"
    ).split()
    return {name: getattr(module, name) for name in names}


def _loss(result: Value, state: State) -> Value:
    """What `training_step` gives to backward: a tensor, or a dict's `loss`."""
    thing = state.heap.get(result.oid) if isinstance(result, Ref) else None
    if isinstance(thing, ListObject) and thing.keys is not None and thing.items is not None:
        for key, item in zip(thing.keys, thing.items, strict=False):
            if key == const("loss"):
                return item
    return result


def _optimizers(result: Value, state: State, depth: int = 0) -> list[ObjectId]:
    """The optimizers in what `configure_optimizers` returns, in order."""
    if depth > 4:
        return []
    if isinstance(result, TupleValue):
        items: tuple[Value, ...] = result.items
    elif isinstance(result, Ref):
        thing = state.heap.get(result.oid)
        if isinstance(thing, OptimizerObject):
            return [result.oid]
        items = (thing.items or ()) if isinstance(thing, ListObject) else ()
    else:
        return []
    found = [oid for item in items for oid in _optimizers(item, state, depth + 1)]
    return list(dict.fromkeys(found))


__all__ = ["Hooked", "Owner", "returned", "trainable"]
