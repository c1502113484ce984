"""Analyses one file: where execution starts, and what is known only at the end."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import field, replace

from trainlint.core.events import (
    AttributeAssigned,
    BackwardWithoutStep,
    BareReference,
    ContextNotCalled,
    DiscardedCall,
    Event,
    StepWithoutBackward,
)
from trainlint.core.facts import Certainty, Mode
from trainlint.core.late import dataclass
from trainlint.core.rule import Finding, Rule
from trainlint.flow import ir
from trainlint.flow.arguments import Arguments
from trainlint.flow.frames import MAX_DEPTH, MAX_STEPS, PATIENCE, BudgetExceeded, Frame
from trainlint.flow.hooked import trainable
from trainlint.flow.interpret import Interpreter
from trainlint.flow.numbering import NUMBERS
from trainlint.flow.project import ClassInfo, ModuleInfo, Project
from trainlint.flow.reach import Reach
from trainlint.flow.reading import bindings_of, receiver_of
from trainlint.flow.record import Recorder
from trainlint.flow.relevance import Relevance
from trainlint.flow.shape import SHAPE_EVENTS, look_at
from trainlint.flow.standins import forget_looks, thin
from trainlint.flow.state import InstanceObject, ModuleObject, State, join, parts_of
from trainlint.flow.statements import may_tell
from trainlint.flow.values import Func, Ref
from trainlint.flow.walk import attributes_of, calls_in, nodes_of
from trainlint.libraries import LIBRARY
from trainlint.libraries.spec import TrainerClass
from trainlint.libraries.trainers import LIGHTNING_LOOP, OWN_STEPS, TRAINED_CLASS
from trainlint.libraries.words import STEPS

MAX_PATHS = 64
"""Ways to an evaluation that are told: with few, what holds both ways looks like a condition."""


@dataclass(frozen=True, slots=True)
class Analysis:
    """What one file's analysis found, and which other files it read."""

    findings: list[Finding] = field(default_factory=list)
    depends_on: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)


MAX_STEPS_OF_FILE = 40_000
LONG = 20_000
"""Lines from which on a file takes so long to be parsed that less of it can be run."""
LIGHTNING_HOOKS = LIGHTNING_LOOP.hooks | frozenset(
    """forward test_step predict_step train_dataloader val_dataloader test_dataloader
    predict_dataloader optimizer_step optimizer_zero_grad backward configure_gradient_clipping
    lr_scheduler_step on_test_epoch_end validation_epoch_end test_epoch_end training_step_end
    on_fit_end on_train_end on_save_checkpoint on_load_checkpoint teardown
    """.split()
)


def analyse(
    module: ir.Module,
    project: Project,
    rules: Iterable[type[Rule[Event]]],
    semantics: Mapping[str, tuple[str, ...]] | None = None,
) -> Analysis:
    """Interpret a file from all its entries and return what the rules find.

    `semantics` holds the dotted names of the user's own helpers under the keys of
    `[tool.trainlint.semantics]`.
    """
    project.used.clear()
    info = project.modules.get(module.path) or project.add(module)
    recorder = Recorder.of(rules)
    run = Entries(info, project, recorder, _by_name(semantics or {}))
    if not SHAPE_EVENTS.issuperset(recorder.rules):
        run.everything()
    look_at(info, recorder)
    for memory in (parts_of, nodes_of, bindings_of):
        memory.cache_clear()  # its keys hold on to the code of this analysis
    depends = {p for p in project.used if p != module.path}
    return Analysis(recorder.findings(), depends, run.notes)


_SEMANTICS = {
    "train-mode-functions": "train",
    "eval-mode-functions": "eval",
    "no-grad-functions": "no_grad",
    "backward-functions": "backward",
    "model-factories": "factory",
}


def _by_name(semantics: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    return {
        name: _SEMANTICS[key]
        for key, names in semantics.items()
        if key in _SEMANTICS
        for name in names
    }


class Entries:
    """The roots of a file, one after the other."""

    def __init__(
        self, info: ModuleInfo, project: Project, recorder: Recorder, semantics: dict[str, str]
    ) -> None:
        self.info = info
        self.project = project
        self.recorder = recorder
        self.semantics = semantics
        self.relevance = Relevance()
        self.reach = Reach()
        self.executed: set[int] = set()
        self.instantiated: set[int] = set()
        self.notes: list[str] = []
        self.steps_left = _steps_for(info.module)

    def everything(self) -> None:
        """The module's top level, then what it did not reach."""
        # A script may well prepare its data for long before it trains, or only evaluate.
        self._root(self._top_level, patience=MAX_STEPS // 2)
        for statement in self.info.bindings.values():
            if isinstance(statement, ir.Class):
                self._class(self.info.class_info(statement))
        functions = [s for s in self.info.bindings.values() if isinstance(s, ir.Function)]
        # A function that another one calls is entered through that one, if it gets there.
        mentioned = {word for f in functions for word in f.words if word != f.name}
        for function in sorted(functions, key=lambda f: f.name in mentioned):
            self._function(Func(function, self.info))

    def _root(
        self,
        *starts: Callable[[Interpreter], None],
        max_depth: int = MAX_DEPTH,
        patience: int = PATIENCE,
    ) -> None:
        """Run the entries of one object, each from the same beginning, and judge them together."""
        if self.steps_left <= 0:
            return
        run = Interpreter(self.project, self.recorder, self.relevance, self.semantics)
        run.executed = self.executed
        run.instantiated = self.instantiated
        run.max_depth = max_depth
        complete = True
        for start in starts:
            run.allow(min(MAX_STEPS, self.steps_left), patience)
            before = run.steps
            try:
                start(run)
            except BudgetExceeded:
                complete = False
                note = f"{self.info.path}: the analysis stopped at its budget"
                if note not in self.notes:
                    self.notes.append(note)
            except RecursionError:
                complete = False
                self.notes.append(f"{self.info.path}: the code nests too deeply to be followed")
            self.steps_left -= run.steps - before
        finish(run, complete)
        run.let_go()
        forget_looks()
        NUMBERS.cache_clear()

    def _frame(self, run: Interpreter) -> Frame:
        frame = Frame(run.scopes.module_frame(self.info), self.info)
        run.frames[frame.id] = frame
        return frame

    def _top_level(self, run: Interpreter) -> None:
        frame = self._frame(run)
        body = self.info.module.body
        run.entered[id(body)] = body
        run.block(body, [State()], frame)

    def _function(self, func: Func) -> None:
        if id(func.function) in self.executed or func.function.name.startswith("test_"):
            return
        judged = self.reach.matters(func.function, self.info)
        if not judged and not may_tell(func.function):
            return
        if not self.relevance.matters(func.function, self.info):
            return
        if self.project.loader.mentioned_elsewhere(func.function.name, self.info.path):
            return

        def start(run: Interpreter) -> None:
            frame = self._frame(run)
            call = ir.Call(ir.Name(func.function.name), (), func.function.name_node)
            for state, value in run.decorated(func, func.function.decorators, State(), frame):
                target = value if isinstance(value, Func) else func
                if target.function.is_generator:
                    results = run.execution.execute(
                        target, Arguments(complete=False), state, frame, call
                    )
                else:
                    results = run.execution.invoke(
                        target, Arguments(complete=False), state, frame, call
                    )
                for st, result in results:
                    run.escapes.escape(result, st)

        self._root(start) if judged else self._statements([start])

    def _class(self, cls: ClassInfo) -> None:
        # What a base runs on its own instances is not yet run on those of this class.
        templates = [] if id(cls.node) in self.instantiated else _templates(cls)
        methods = [
            f
            for f in (*cls.methods.values(), *templates)
            if (id(f) not in self.executed or f in templates) and not f.name.startswith("__")
        ]
        if not methods:
            return
        if cls.is_lightning:
            self._lightning(cls)
            methods = [m for m in methods if m.name not in LIGHTNING_HOOKS]
        methods = self._trainer(cls, methods)
        entries = _entries(self._worth_running(cls, methods), methods, templates, cls)
        judged = [m for m in entries if self._is_judged(m, cls)]
        others = [m for m in entries if m not in judged]
        shown = _Instance(cls)
        self._statements([self._method(shown, method) for method in others])
        if not judged:
            return
        if _leaves_modes_alone(cls):
            instance = _Instance(cls)
            self._root(*(self._method(instance, m, m in templates) for m in judged))
        else:
            # Whoever calls these may switch the mode in between.
            for method in judged:
                self._root(self._method(_Instance(cls), method, method in templates))

    def _worth_running(self, cls: ClassInfo, methods: Sequence[ir.Function]) -> list[ir.Function]:
        """The methods that show anything; what is in a network's `forward`, by its statements."""
        if self.project.loader.mentioned_elsewhere(cls.name, self.info.path):
            methods = [m for m in methods if cls.is_module and m.name == "forward"]
        elif cls.is_module:
            methods = [m for m in methods if m.name not in ("train", "eval")]
        return [
            m
            for m in methods
            if (self._is_judged(m, cls) or may_tell(m))
            and (
                (cls.is_module and m.name == "forward") or self.relevance.matters(m, _home(cls, m))
            )
        ]

    def _is_judged(self, method: ir.Function, cls: ClassInfo) -> bool:
        if cls.is_module and method.name == "forward":
            return False
        return self.reach.matters(method, _home(cls, method))

    def _lightning(self, cls: ClassInfo) -> None:
        """A class that nothing here trains: its framework does, as it was made."""
        step = cls.method(LIGHTNING_LOOP.step)
        if not trainable(cls) or step is None or id(step.function) in self.executed:
            return
        if self.project.loader.mentioned_elsewhere(cls.name, self.info.path):
            return
        if any(cls is not other and cls in other.mro for other in self.info.classes.values()):
            return

        def start(run: Interpreter) -> None:
            frame = self._frame(run)
            made = _Instance(cls).copies(run, frame)
            if made:
                run.hooked.fit(made[0][1].oid, [st for st, _ in made])

        self._root(start)

    def _trainer(self, cls: ClassInfo, methods: list[ir.Function]) -> list[ir.Function]:
        """A trainer's class that nothing here trains with; the methods that are left."""
        own = [m for m in methods if m.name in OWN_STEPS]
        if not own or not any(isinstance(LIBRARY.call(p), TrainerClass) for p in cls.externals):
            return methods

        def start(run: Interpreter) -> None:
            frame = self._frame(run)
            for state, trainer in _Instance(cls).copies(run, frame):
                model = Ref(("param", frame.id, "model"))
                state.heap[model.oid] = ModuleObject(library=TRAINED_CLASS)
                state.attrs[trainer.oid, "model"] = model
                run.names.given[model.oid] = "model"
                run.trainers.steps(trainer, model, state)

        self._root(start)
        return [m for m in methods if m not in own]

    def _statements(self, starts: Sequence[Callable[[Interpreter], None]]) -> None:
        """Run functions for what their statements alone show; their calls are not followed."""
        if not starts:
            return
        heard = self.recorder
        self.recorder = heard.only(
            (AttributeAssigned, BareReference, ContextNotCalled, DiscardedCall)
        )
        try:
            self._root(*starts, max_depth=1)
        finally:
            self.recorder = heard

    def _method(
        self, made: _Instance, method: ir.Function, again: bool = False
    ) -> Callable[[Interpreter], None]:
        def start(run: Interpreter) -> None:
            if id(method) in self.executed and not again:
                return
            frame = self._frame(run)
            for state, instance in made.copies(run, frame):
                read = ir.Attribute(ir.Name("self"), method.name)
                for st, bound in run.attributes.attribute(
                    instance, method.name, state, frame, read
                ):
                    call = ir.Call(ir.Name(method.name), (), method.name_node)
                    for st2, result in run.calls.call(
                        bound, Arguments(complete=False), st, frame, call
                    ):
                        run.escapes.escape(result, st2)

        return start


def _entries(
    wanted: Sequence[ir.Function],
    methods: Sequence[ir.Function],
    templates: Sequence[ir.Function],
    cls: ClassInfo,
) -> Sequence[ir.Function]:
    """The wanted ones of a class's methods that no other one calls; all if each method is called.

    `methods` are all that nothing has run yet, `templates` those of bases.
    """
    if not wanted:
        return []
    every = (*cls.methods.values(), *templates)
    called = _called_on_self(every, {m.name for m in wanted})
    entries = [m for m in wanted if m.name not in called]
    names = {m.name for m in methods}
    return wanted if not entries and _called_on_self(every, names) >= names else entries


def _leaves_modes_alone(cls: ClassInfo) -> bool:
    """Whether no method of a class, its unknown bases included, switches a mode."""
    words = {w for each in cls.mro for f in each.methods.values() for w in f.words}
    return not cls.externals and not words & {"eval", "train"}


@dataclass(slots=True)
class _Instance:
    """An instance of a class that nobody here makes; its constructor runs once."""

    cls: ClassInfo
    made: list[tuple[State, Ref]] | None = None

    def copies(self, run: Interpreter, frame: Frame) -> list[tuple[State, Ref]]:
        """The states after the constructor, to be changed by whoever takes them."""
        if self.made is None:
            self.made = self._make(run, frame)
        return [(state.copy(), ref) for state, ref in self.made]

    def _make(self, run: Interpreter, frame: Frame) -> list[tuple[State, Ref]]:
        cls = self.cls
        call = ir.Call(ir.Name(cls.name), (), cls.node.name_node)
        made = run.execution.instantiate(cls, Arguments(complete=False), State(), frame, call)
        states, _ = thin(join(st for st, _ in made))
        refs = [ref for _, ref in made if isinstance(ref, Ref)]
        if not refs:
            ref = Ref(("self", cls.module.path, cls.node.node))
            fresh = State()
            fresh.heap[ref.oid] = ModuleObject(cls=cls) if cls.is_module else InstanceObject(cls)
            return [(fresh, ref)]
        return [(st, refs[0]) for st in states]


def _templates(cls: ClassInfo) -> list[ir.Function]:
    """Methods of the project's bases that call what the class defines: `run()` calls `train()`.

    A base of networks or of tokenizers has many that compute with what the class defines. Only
    those tell of this class in which it or its part of them trains.
    """
    found: dict[str, ir.Function] = {}
    own = cls.methods.keys()
    trains = any(map(_mentions_training, cls.methods.values()))
    for base in cls.mro[1:]:
        for method in base.methods.values():
            if method.name.startswith("__") or method.name in own:
                continue
            if own.isdisjoint(method.words) or not (trains or _mentions_training(method)):
                continue
            supplied = _called_on_self((method,), own)
            if supplied and not _only_computes(method, supplied, cls):
                found.setdefault(method.name, method)
    return list(found.values())


def _only_computes(method: ir.Function, supplied: set[str], cls: ClassInfo) -> bool:
    """Whether neither a method nor what it calls of the class mentions a step of training."""
    parts = (method, *(cls.methods[name] for name in supplied))
    return not any(map(_mentions_training, parts))


def _steps_for(module: ir.Module) -> int:
    return MAX_STEPS_OF_FILE * LONG // max(module.length, LONG)


def _mentions_training(function: ir.Function) -> bool:
    return not STEPS.isdisjoint(function.words)


def _home(cls: ClassInfo, method: ir.Function) -> ModuleInfo:
    """The file of a method, its own or a base's."""
    found = cls.method(method.name)
    return found.module if found is not None else cls.module


def _called_on_self(methods: Iterable[ir.Function], names: Collection[str]) -> set[str]:
    """Which of the names methods look up on their own instance."""
    return {
        name
        for method in methods
        if not method.words.isdisjoint(names)
        for name in attributes_of(method.body, receiver_of(method))
        if name in names
    }


def finish(run: Interpreter, complete: bool) -> None:
    """Raise the events that are known only when everything has run."""
    training = run.training
    trained = training.trained_models
    for event, oid, rounds, decisions in training.references:
        if (oid in trained and event.graduated is not Certainty.YES) or not complete:
            continue
        if oid in training.followers:
            event = replace(event, follows=Certainty.YES)
        run.recorder.raise_event(event, rounds, decisions)
    for pile, oid, rounds, decisions in training.pile_ups:
        if oid not in training.cleared_by_hand:
            run.recorder.raise_event(pile, rounds, decisions)
    if complete:
        training.protocol.finish(run.recorder)
        run.adapters.finish()
        _evaluations(run)
        _unused_optimizers(run)
        run.epochs.finish()
    for kept, tensor in run.collections.kept_graphs:
        seen = [training.forwards.get(f.site) for f in tensor.forwards]
        if complete and seen and all(s is not None and not s.trained for s in seen):
            run.recorder.raise_event(kept)


def _evaluations(run: Interpreter) -> None:
    training = run.training
    seen_at = {k: seen for k, seen in training.forwards.items() if isinstance(k, tuple)}
    trained = {k: seen.event.model.mode.mode for k, seen in seen_at.items() if seen.trained}
    same_place = {(key[:3], mode) for key, mode in trained.items()}
    same_function = {(key[0], key[2:5]) for key in trained}
    eval_trains = Mode.EVAL in trained.values()
    for key, seen in seen_at.items():
        if seen.trained or (seen.dropped and eval_trains) or run.acting.chose_an_action(seen):
            continue
        mode = seen.event.model.mode.mode
        if seen.event.grad is Certainty.YES:
            # The same call trains in that mode on another path: this one is its prefix.
            if (key[:3], mode) in same_place:
                continue
            # An attack or a saliency map: the function differentiates the model in eval mode.
            in_eval = seen.event.function and mode is Mode.EVAL
            if in_eval and (key[0], key[2:5]) in same_function:
                continue
        origin = training.trained_models.get(seen.oid) or training.trained_parts.get(seen.oid)
        event = replace(
            seen.event,
            site=seen.use.site,
            function=seen.use.function,
            model=replace(seen.event.model, name=seen.use.name),
            trained_elsewhere=origin,
        )
        for path in dict.fromkeys(seen.paths[:MAX_PATHS]):
            run.recorder.raise_event(event, seen.rounds, path)


def _missed(run: Interpreter, method: str) -> bool:
    """Whether a call of that method may have been lost with the disjuncts that were dropped."""
    if not run.truncated:
        return False
    return any(
        isinstance(call.func, ir.Attribute)
        and call.func.attr == method
        and id(call) not in run.reached
        for body in run.entered.values()
        for call in calls_in(body, method)
    )


def _unused_optimizers(run: Interpreter) -> None:
    if _missed(run, "step") or _missed(run, "backward"):
        return
    ran = {seen.oid for seen in run.training.forwards.values()}
    for record in run.training.records.values():
        idle = not record.stepped and not record.by_hand
        if record.backward is not None and record.in_loop and idle and record.cleared:
            run.recorder.raise_event(
                BackwardWithoutStep(site=record.backward.site, optimizer=record.facts)
            )
        if record.stepped and not record.fed and record.step_site is not None:
            # A model that runs later only, to be evaluated, was to be trained before.
            meant = record.ran or bool(record.holds & ran)
            if record.cleared and meant and not record.elsewhere:
                run.recorder.raise_event(
                    StepWithoutBackward(site=record.step_site, optimizer=record.facts)
                )


__all__ = ["Analysis", "analyse"]
