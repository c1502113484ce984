"""Trainers in the abstract state: objects that own the training loop of the model they got."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from trainlint.core.events import TrainStep
from trainlint.core.facts import (
    Cause,
    Certainty,
    Mode,
    ModeFact,
    ModelFacts,
    OptimizerFacts,
    Origin,
)
from trainlint.flow import ir
from trainlint.flow.adapters import Config, Place
from trainlint.flow.arguments import Arguments
from trainlint.flow.frames import Frame, Loop, Out
from trainlint.flow.hooked import returned
from trainlint.flow.project import ClassInfo
from trainlint.flow.state import LibraryObject, ListObject, ModuleObject, State
from trainlint.flow.values import (
    FALSE,
    NONE,
    TRUE,
    Const,
    Forward,
    Func,
    ObjectId,
    Ref,
    Tensor,
    TupleValue,
    Value,
    const,
)
from trainlint.libraries import LIBRARY
from trainlint.libraries import spec as sp
from trainlint.libraries.trainers import EVALUATION_SETTINGS, OWN_STEPS

if TYPE_CHECKING:
    from trainlint.flow.frames import Evaluated
    from trainlint.flow.interpret import Interpreter


class Trainers:
    """Construction and methods of trainers, and of the project's classes derived from them."""

    def __init__(self, interpreter: Interpreter) -> None:
        self.run = interpreter

    # --- construction ------------------------------------------------------------------

    def construct(
        self, spec: sp.TrainerClass, path: str, arguments: Arguments, place: Place
    ) -> Ref:
        """A trainer keeps what it is given; with a `peft_config` it puts adapters in."""
        links = self._links(spec, path, arguments, place)
        ref = self.run.fresh(place.state, place.frame, place.node, "trainer")
        place.state.heap[ref.oid] = LibraryObject("trainer", path, links)
        return ref

    def _links(
        self, spec: sp.TrainerClass, path: str, arguments: Arguments, place: Place
    ) -> tuple[tuple[str, Value], ...]:
        links = dict(arguments.keywords)
        model = arguments.get(spec.keyword, spec.model)
        args = arguments.get("args", spec.args)
        if args is not None:
            links["args"] = args
        if not arguments.complete:
            links["**"] = TRUE
        if isinstance(model, Ref):
            links["$name"] = const(self.run.names.name_of(model.oid, place.state))
        config = arguments.get("peft_config")
        if spec.injects and config is not None and config != NONE:
            model = self._injected(model, config, path, place)
        if model is not None:
            links["model"] = model
        return tuple(links.items())

    def _injected(self, model: Value | None, value: Value, path: str, place: Place) -> Value | None:
        config = self.run.adapters.config(value, place.state)
        if config == Config():
            # It may be None as well: nothing is known of what trains.
            if isinstance(model, Ref) and place.state.module(model.oid) is not None:
                self.run.models.forget_mode(model.oid, place.state)
            return model
        if not isinstance(model, Ref):
            model = self.run.fresh(place.state, place.frame, place.node, "base")
            place.state.heap[model.oid] = ModuleObject(library=path)
        return self.run.adapters.inject(model, config, "default", path, place, "peft")

    def base(self, cls: ClassInfo) -> str | None:
        """The library's trainer that a class of the project derives from."""
        for path in sorted(cls.externals):
            if isinstance(LIBRARY.call(path), sp.TrainerClass):
                return path
        return None

    def adopt(self, oid: ObjectId, cls: ClassInfo, arguments: Arguments, place: Place) -> None:
        """An instance of such a class gets its arguments."""
        path = self.base(cls)
        spec = LIBRARY.call(path) if path is not None else None
        if path is None or not isinstance(spec, sp.TrainerClass):
            return
        links = self._links(spec, path, arguments, place)
        if not any(name == "model" for name, _ in links) and ("trainer", oid) in place.state.heap:
            return
        own = (*links, ("$self", Ref(oid)))
        place.state.heap["trainer", oid] = LibraryObject("trainer", path, own)
        for name, value in links:
            if name in ("model", "args", "ref_model"):
                place.state.attrs[oid, name] = value

    # --- methods -----------------------------------------------------------------------

    def instance_method(
        self, oid: ObjectId, name: str, arguments: Arguments, place: Place
    ) -> Evaluated | None:
        """A method that an instance of the project's class has from the trainer it derives from."""
        thing = place.state.heap.get(("trainer", oid))
        if not isinstance(thing, LibraryObject):
            return None
        return self.method(("trainer", oid), thing, name, arguments, place)

    def method(
        self, oid: ObjectId, thing: LibraryObject, name: str, arguments: Arguments, place: Place
    ) -> Evaluated | None:
        """A method of a trainer; None if the object is none."""
        spec = LIBRARY.call(thing.path)
        if thing.role != "trainer" or not isinstance(spec, sp.TrainerClass):
            return None
        model = thing.link("model")
        state = place.state
        known = isinstance(model, Ref) and state.module(model.oid) is not None
        if not isinstance(model, Ref) or not known:
            return [(state, self.run.fresh(state, place.frame, place.node, "result"))]
        if name == spec.method:
            self._train(spec, thing, model, place)
        elif name in spec.evaluations:
            return self._evaluate(name, model, place)
        elif name in ("save_model", "push_to_hub"):
            self.run.adapters.use(model.oid, "it is saved here", place)
            self.run.adapters.save(model.oid, place)
        return [(state, self.run.fresh(state, place.frame, place.node, "result"))]

    def measured(self, arguments: Arguments, place: Place) -> Evaluated:
        """An evaluator of sentence-transformers is called: it encodes with the model it gets."""
        model = arguments.get("model", 0)
        if isinstance(model, Ref) and place.state.module(model.oid) is not None:
            return self._evaluate("encode", model, place)
        state = place.state
        return [(state, self.run.fresh(state, place.frame, place.node, "result"))]

    def _evaluate(self, name: str, model: Ref, place: Place) -> Evaluated:
        states = self.run.models.set_mode(
            model.oid,
            Mode.EVAL,
            place.state,
            place.frame,
            place.node,
            cause=Cause.FRAMEWORK,
            note=f"`{name}()` leaves the model in eval mode",
        )
        return [(st, self.run.fresh(st, place.frame, place.node, "result")) for st in states]

    # --- the loop ----------------------------------------------------------------------

    def _train(self, spec: sp.TrainerClass, thing: LibraryObject, model: Ref, place: Place) -> None:
        state = place.state
        self._checkpoint(spec, thing, model, place)
        self._activate(thing, model, place)
        facts = self._facts(spec, thing, model, state)
        site = self.run.site(place.frame, place.node)
        event = TrainStep(
            site=site,
            when=self.run.when,
            step=site,
            models=(facts,),
            optimizer=self._optimizer(thing, model, facts, state),
            framework=spec.framework,
            checkpointing=self._checkpoints(model, state),
        )
        self.run.recorder.raise_event(event, self.run.rounds, state.decisions)
        if thing.link("$self") is not None:
            self.steps(thing.link("$self"), model, state)
        self._after(model, facts, place, self._left(thing, state, place))

    def steps(self, trainer: Value | None, model: Ref, state: State) -> None:
        """What a trainer's class of the project does in a step, if it says so itself.

        The library puts the model in train mode, calls `training_step`, which calls
        `compute_loss`, runs backward on the result and steps.
        """
        cls = self.run.attributes.class_of(trainer, state) if trainer is not None else None
        own = next((m for name in OWN_STEPS if cls and (m := cls.method(name))), None)
        if own is None or not isinstance(trainer, Ref) or own in self.run.active:
            return
        loop = Loop("step", node=own.function.name_node)
        home = Frame(self.run.scopes.module_frame(own.module), own.module)

        def body(states: list[State]) -> Out:
            return Out([after for st in states for after in self._step(own, trainer, model, st)])

        self.run.iteration.rounds_of(loop, [state.copy()], body, home, lambda st: [st], None)

    def _step(self, own: Func, trainer: Ref, model: Ref, state: State) -> list[State]:
        run, function = self.run, own.function
        home = Frame(run.scopes.module_frame(own.module), own.module)
        node = ir.Call(ir.Name(function.name), (), function.name_node)
        after: list[State] = []
        for st in run.models.set_mode(
            model.oid, Mode.TRAIN, state, home, node, cause=Cause.FRAMEWORK
        ):
            run.executed.add(id(function))
            batch = run.collections.batch(own)
            given = Arguments((trainer, model, batch), (("return_outputs", FALSE),), False)
            for ended, result in run.execution.execute(own, given, st, home, node):
                self._judge(own, result, ended, home)
                after.append(ended)
        return after

    def _judge(self, own: Func, result: Value, state: State, home: Frame) -> None:
        """The loss that a step computed: its graph, and the modes that its models ran in."""
        loss = result.items[0] if isinstance(result, TupleValue) and result.items else result
        if not isinstance(loss, Tensor):
            return
        node = returned(own.function)
        if own.function.name == "compute_loss":
            self.run.training.backward(loss, "the loss", state, home, node)
        asked = [f for f in loss.forwards if f.facts.mode.cause is Cause.EXPLICIT_CALL]
        models = tuple(f.facts for f in asked if f.facts.mode.mode is Mode.EVAL)
        if models:
            site = self.run.site(home, node)
            event = TrainStep(site=site, when=self.run.when, step=site, models=models)
            self.run.recorder.raise_event(event, self.run.rounds, state.decisions)

    def _facts(
        self, spec: sp.TrainerClass, thing: LibraryObject, model: Ref, state: State
    ) -> ModelFacts:
        told = thing.link("$name")
        name = str(told.value) if isinstance(told, Const) else "the model"
        facts = self.run.models.facts(model.oid, name, state)
        if not spec.heals:
            return facts
        return replace(facts, managed=True, mode=ModeFact(Mode.TRAIN, Cause.FRAMEWORK))

    def _optimizer(
        self, thing: LibraryObject, model: Ref, facts: ModelFacts, state: State
    ) -> OptimizerFacts | None:
        """The facts of `optimizers=(optimizer, scheduler)`, if it is given."""
        given = thing.link("optimizers")
        items = self.run.collections.known_items(given, state) if given is not None else None
        if not items or not isinstance(items[0], Ref):
            return None
        training = self.run.training
        optimizer = state.optimizer(items[0].oid)
        if optimizer is None:
            return None
        forward = Forward(model.oid, ("trainer", model.oid), facts, Certainty.YES)
        missing, stale = training.gaps(items[0].oid, optimizer, [forward], state)
        return replace(training.facts(items[0].oid, state), missing=missing, stale=stale)

    def _checkpoint(
        self, spec: sp.TrainerClass, thing: LibraryObject, model: Ref, place: Place
    ) -> None:
        """Gradient checkpointing as the training arguments ask for it."""
        state = place.state
        base = self.run.models.base(model.oid, state)
        asked = self._argument(thing, "gradient_checkpointing", state)
        on = asked == TRUE or (asked is None and spec.checkpoints)
        if asked == FALSE or not on or state.module(base) is None:
            return
        options = self._argument(thing, "gradient_checkpointing_kwargs", state)
        reentrant = None
        found = state.heap.get(options.oid) if isinstance(options, Ref) else None
        if isinstance(found, ListObject) and found.keys and found.items:
            given = dict(zip(found.keys, found.items, strict=False)).get(const("use_reentrant"))
            if given == TRUE:
                reentrant = self.run.origin(place.frame, place.node, "checkpointing is reentrant")
        state.update(base, checkpointing=True, reentrant=reentrant)

    @staticmethod
    def _argument(thing: LibraryObject, name: str, state: State) -> Value | None:
        args = thing.link("args")
        found = state.heap.get(args.oid) if isinstance(args, Ref) else None
        if not isinstance(args, Ref) or not isinstance(found, LibraryObject):
            return None
        held = state.attrs.get((args.oid, name))
        return held if held is not None else found.link(name)

    def _checkpoints(self, model: Ref, state: State) -> Certainty:
        on = any(
            (m := state.module(part)) is not None and m.checkpointing
            for part in self.run.models.reach(model.oid, state)
        )
        return Certainty.YES if on else Certainty.NO

    def _activate(self, thing: LibraryObject, model: Ref, place: Place) -> None:
        """DPO's own names of adapters: the trainer activates them."""
        holder = self.run.adapters.holder(model.oid, place.state)
        for name in ("model_adapter_name", "ref_adapter_name"):
            given = self._argument(thing, name, place.state) or thing.link(name)
            if isinstance(given, Const):
                self.run.adapters.idle.activated.add((holder, str(given.value)))
            elif given is not None:
                self.run.adapters.idle.activated.add((holder, None))

    def _left(self, thing: LibraryObject, state: State, place: Place) -> ModeFact:
        """The mode that `train()` leaves: its last step's, or that of an evaluation after it."""
        args = thing.link("args")
        found = state.heap.get(args.oid) if isinstance(args, Ref) else None
        if not isinstance(found, LibraryObject) or found.link("**") is not None:
            return ModeFact()
        asked = [self._argument(thing, name, state) for name in EVALUATION_SETTINGS]
        strategies = [a for a in asked if a is not None]
        if not strategies:
            note = "the trainer leaves the model in train mode"
            origin = self.run.origin(place.frame, place.node, note)
            return ModeFact(Mode.TRAIN, Cause.FRAMEWORK, origin)
        if strategies == [const("epoch")]:
            note = "the trainer evaluates after each epoch and leaves the model in eval mode"
            origin = self.run.origin(place.frame, place.node, note)
            return ModeFact(Mode.EVAL, Cause.FRAMEWORK, origin)
        return ModeFact()

    def _after(self, model: Ref, facts: ModelFacts, place: Place, left: ModeFact) -> None:
        state, site = place.state, self.run.site(place.frame, place.node)
        run = self.run
        run.adapters.use(model.oid, "it is trained here", place)
        run.adapters.trained(model.oid, facts.name, site, (facts,), state)
        trained = Origin(site, "trained here")
        run.training.trained_models.setdefault(run.models.base(model.oid, state), trained)
        for part in run.models.reach(model.oid, state):
            if facts.managed:
                state.update(part, flag=left, part_eval=False, overridden=None)
            state.update(part, trained=True)
