"""PEFT in the abstract state: what its calls do to mode, trainability, activity and identity.

`get_peft_model` changes its base in place, so the base is the holder: it has the `AdapterFacts`
and one part `$adapter:<name>` for each adapter, whose flag and trainable fact are the adapter's.
A PeftModel is a wrapper around the tuner, which is one around the base; a merged or unloaded
wrapper keeps nothing but that fact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from trainlint.core.events import (
    AdapterSaved,
    AdaptersInjected,
    DiscardedCall,
    Receiver,
)
from trainlint.core.facts import (
    AdapterFacts,
    Cause,
    Certainty,
    Mode,
    ModeFact,
    ModelFacts,
    Origin,
    Share,
    Site,
    TrainableFact,
)
from trainlint.core.late import dataclass
from trainlint.flow import ir
from trainlint.flow.arguments import Arguments
from trainlint.flow.idle_adapters import IdleAdapters, shown
from trainlint.flow.ir import spelled
from trainlint.flow.models import ADAPTER
from trainlint.flow.state import (
    Change,
    ContextObject,
    Decision,
    LibraryObject,
    ModuleObject,
    State,
)
from trainlint.flow.turns import next_in_turn
from trainlint.flow.values import (
    FALSE,
    NONE,
    TRUE,
    Const,
    External,
    Forward,
    ObjectId,
    Ref,
    TupleValue,
    Value,
    const,
)
from trainlint.libraries import LIBRARY
from trainlint.libraries import spec as sp

if TYPE_CHECKING:
    from trainlint.flow.frames import Evaluated, Frame
    from trainlint.flow.interpret import Interpreter

DEFAULT = "default"
_HEAD_TASKS = frozenset({"SEQ_CLS", "TOKEN_CLS"})
_HEADS = frozenset(
    "classifier score head out_proj dense fc classification_head summary lm_head all-linear".split()
)


@dataclass(frozen=True, slots=True)
class Config:
    """What is known of a PEFT config."""

    what: str = "the adapters' weights"
    inference: Certainty = Certainty.UNKNOWN
    origin: Origin | None = None
    sensitive: Certainty = Certainty.UNKNOWN
    prompt: bool = False
    partly: bool = False
    activates: bool = False
    trains_head: Certainty = Certainty.UNKNOWN
    targets: frozenset[str] | None = None
    kept: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a call stands."""

    state: State
    frame: Frame
    node: ir.Call


class Adapters:
    """Operations of PEFT's surface."""

    def __init__(self, interpreter: Interpreter) -> None:
        self.run = interpreter
        self.unloaded: dict[int, tuple[ObjectId, str]] = {}
        self.idle = IdleAdapters(interpreter)
        self.saved: list[tuple[AdapterSaved, ObjectId, int, frozenset[Decision]]] = []
        self.whole_states: set[ObjectId] = set()
        self.emptied: set[ObjectId] = set()

    # --- facts -------------------------------------------------------------------------

    def holder(self, oid: ObjectId, state: State) -> ObjectId:
        """The module of a chain of wrappers that has the adapters, or None."""
        for _ in range(8):
            module = state.module(oid)
            if module is None:
                return None
            if module.adapters is not None:
                return oid
            if module.wraps is None:
                return None
            oid = module.wraps
        return None

    def is_peft(self, oid: ObjectId, state: State) -> bool:
        """Whether it is a PeftModel, whatever may have become of its adapters."""
        module = state.module(oid)
        return module is not None and module.wrapper in ("peft", "tuner")

    def is_instance(self, oid: ObjectId, cls: Value, state: State) -> bool | None:
        """Whether `isinstance(model, PeftModel)` is known."""
        classes = cls.items if isinstance(cls, TupleValue) else (cls,)
        module = state.module(oid)
        asked = [isinstance(c, External) and LIBRARY.is_adapter_model(c.path) for c in classes]
        if not any(asked) or module is None:
            return None
        if module.wrapper == "peft":
            return True
        known = bool(module.library) or module.cls is not None
        return False if known and all(asked) else None

    def parts(self, holder: ObjectId, state: State) -> list[tuple[str, ObjectId]]:
        """The adapters of a holder by name."""
        return [
            (name.removeprefix(ADAPTER), part)
            for name, part in self.run.models.children(holder, state)
            if name.startswith(ADAPTER)
        ]

    def facts(self, oid: ObjectId, state: State) -> AdapterFacts | None:
        """What rules see of a model's adapters, its own or those of a part of it."""
        holder = self.holder(oid, state)
        if holder is None:
            models = self.run.models
            holder = next((o for o in models.reach(oid, state) if self.holder(o, state) == o), None)
        module = state.module(holder)
        if module is None or module.adapters is None:
            return None
        if module.adapters.unloaded is not None:
            return module.adapters
        parts = self.parts(holder, state)
        base = self._base_trainable(holder, state)
        frozen = module.trainable.share is Share.NONE
        head = module.adapters.head_fresh_untrained
        return replace(
            module.adapters,
            names=tuple(shown(name) for name, _ in parts),
            active=tuple(
                shown(n) for n, p in parts if (m := state.module(p)) is not None and not m.inactive
            ),
            trainable=self._trainable(parts, state),
            base_trainable=base,
            head_fresh_untrained=head if frozen and base.share is not Share.SOME else None,
            input_grad_missing=module.reentrant if self._inputs_cut(module) else None,
        )

    @staticmethod
    def _inputs_cut(module: ModuleObject) -> bool:
        frozen = module.trainable.share is Share.NONE
        return module.checkpointing and module.pixels and frozen and not module.input_grads

    def _trainable(self, parts: list[tuple[str, ObjectId]], state: State) -> TrainableFact:
        found = [m for _, p in parts if (m := state.module(p)) is not None and not m.inactive]
        shares = {m.trainable.share for m in found}
        if len(shares) == 1:
            caused = [m.trainable for m in found if m.trainable.cause is not None]
            return caused[0] if caused else found[0].trainable
        return TrainableFact(Share.UNKNOWN if Share.UNKNOWN in shares or not shares else Share.SOME)

    def _base_trainable(self, holder: ObjectId, state: State) -> TrainableFact:
        kept = state.attrs.get((holder, "$kept"))
        names = (
            {i.value for i in kept.items if isinstance(i, Const)}
            if isinstance(kept, TupleValue)
            else set()
        )
        for part in self.run.models.reach(holder, state):
            module = state.module(part)
            if module is None or module.trainable.cause is not Cause.PEFT_BASE_UNFROZEN:
                continue
            if isinstance(part, tuple) and part[-1] in names:
                continue
            if module.trainable.share in (Share.ALL, Share.SOME):
                share = Share.ALL if part == holder else Share.SOME
                return replace(module.trainable, share=share)
        module = state.module(holder)
        return module.trainable if module is not None else TrainableFact()

    def cause(
        self, part: ObjectId, on: bool | None, whole: bool, cause: Cause, state: State
    ) -> Cause:
        """Why requires_grad is as it is after it was switched by hand in a model with adapters."""
        if cause is not Cause.EXPLICIT_CALL or on is None or not whole:
            return cause
        inside = part
        while inside is not None:
            module = state.module(inside)
            if module is not None and module.adapters is not None:
                break
            named = isinstance(inside, tuple) and len(inside) == 3 and inside[0] == "attr"
            inside = inside[1] if named and isinstance(inside, tuple) else None
        if inside is None:
            return cause
        if not on:
            return Cause.PEFT_FROZEN_BY_HAND
        is_adapter = isinstance(part, tuple) and str(part[-1]).startswith(ADAPTER)
        return cause if is_adapter else Cause.PEFT_BASE_UNFROZEN

    def forgotten(self, adapters: AdapterFacts | None, oid: ObjectId) -> AdapterFacts | None:
        """Something unknown had the model: it may have merged, switched or activated."""
        if adapters is None:
            return None
        self.idle.activated.add((oid, None))
        return replace(
            adapters,
            merged=Certainty.UNKNOWN,
            disabled=Certainty.UNKNOWN,
            head_fresh_untrained=None,
            unloaded=None,
        )

    # --- configs -----------------------------------------------------------------------

    def config(self, value: Value | None, state: State) -> Config:
        """What is known of the config that a call got."""
        thing = state.heap.get(value.oid) if isinstance(value, Ref) else None
        if not isinstance(thing, LibraryObject) or thing.role != "peft_config":
            return Config()
        assert isinstance(value, Ref)
        spec = LIBRARY.call(thing.path)
        if not isinstance(spec, sp.Settings):
            return Config()

        def get(name: str) -> Value | None:
            found = state.attrs.get((value.oid, name))
            return found if found is not None else thing.link(name)

        complete = thing.link("**") is None
        made = thing.link("$origin")
        origin = None
        if isinstance(made, TupleValue):
            path, node = (x.value for x in made.items if isinstance(x, Const))
            note = "the config is made for inference here"
            origin = Origin(Site(str(path), int(str(node))), note)
        targets = self._names(get("target_modules"), state)
        named = complete and get("$named") in (None, TRUE)
        inference = self._inference(get("inference_mode"), spec.saved, named)
        partly, word = spec.partly_if
        return Config(
            what=spec.what,
            inference=inference if spec.frozen_for_inference else Certainty.NO,
            partly=spec.partly or (bool(partly) and get(partly) == const(word)),
            origin=origin,
            sensitive=self._rates(get(spec.rate), complete and not spec.saved and bool(spec.rate)),
            prompt=spec.prompt,
            activates=spec.activates,
            trains_head=self._head(get, complete and not spec.saved, targets),
            targets=targets,
            kept=self._names(get("modules_to_save"), state) or frozenset(),
        )

    @staticmethod
    def _inference(given: Value | None, saved: bool, complete: bool) -> Certainty:
        if isinstance(given, Const):
            return Certainty.YES if given.value else Certainty.NO
        if given is not None or not complete:
            return Certainty.UNKNOWN
        return Certainty.YES if saved else Certainty.NO

    @staticmethod
    def _rates(dropout: Value | None, complete: bool) -> Certainty:
        if isinstance(dropout, Const):
            return Certainty.YES if dropout.value else Certainty.NO
        return Certainty.NO if dropout is None and complete else Certainty.UNKNOWN

    def _names(self, value: Value | None, state: State) -> frozenset[str] | None:
        """Literal names; None if they are not known."""
        if value is None or value == NONE:
            return frozenset()
        if isinstance(value, Const) and isinstance(value.value, str):
            return frozenset({value.value})
        items = self.run.collections.known_items(value, state)
        if items is None or not all(isinstance(i, Const) for i in items):
            return None
        return frozenset(str(i.value) for i in items if isinstance(i, Const))

    @staticmethod
    def _head(
        get: Callable[[str], Value | None], complete: bool, targets: frozenset[str] | None
    ) -> Certainty:
        """Whether the config trains a task head: by its task, by name, or as a target."""
        saved = get("modules_to_save")
        if not complete or targets is None or (saved is not None and saved != NONE):
            return Certainty.UNKNOWN
        if targets & _HEADS or any("*" in t or "|" in t or "\\" in t for t in targets):
            return Certainty.YES
        task = get("task_type")
        name = ""
        if isinstance(task, Const):
            name = str(task.value or "")
        elif isinstance(task, External):
            name = task.path.rsplit(".", 1)[-1]
        elif task is not None:
            return Certainty.UNKNOWN
        return Certainty.YES if name in _HEAD_TASKS else Certainty.NO

    # --- functions and classes ---------------------------------------------------------

    def library(
        self,
        spec: sp.Settings | sp.Inject | sp.LoadAdapters | sp.PrepareQuantised,
        path: str,
        arguments: Arguments,
        place: Place,
    ) -> Value:
        """Call a function or class of the tables that has to do with adapters."""
        match spec:
            case sp.Settings():
                return self._settings(spec, path, arguments, place)
            case sp.Inject():
                return self._inject(spec, path, arguments, place)
            case sp.LoadAdapters():
                return self._load(spec, path, arguments, place)
            case sp.PrepareQuantised():
                return self._prepare(arguments, place)

    def _settings(self, spec: sp.Settings, path: str, arguments: Arguments, place: Place) -> Value:
        ref = self.run.fresh(place.state, place.frame, place.node, "settings")
        place.state.attrs.clear_of(ref.oid)
        links = list(arguments.keywords)
        if not arguments.complete:
            links.append(("**", TRUE))
        site = self.run.site(place.frame, place.node)
        links.append(("$origin", TupleValue((const(site.path), const(site.node)))))
        if spec.saved:
            folder = arguments.get("pretrained_model_name_or_path", 0)
            links.append(("$named", const(isinstance(folder, Const))))
        place.state.heap[ref.oid] = LibraryObject(spec.role, path, tuple(links))
        return ref

    def _inject(self, spec: sp.Inject, path: str, arguments: Arguments, place: Place) -> Value:
        model = arguments.get("model", spec.model)
        config = arguments.get(spec.config_name, spec.config)
        if not isinstance(model, Ref):
            return self.run.fresh(place.state, place.frame, place.node)
        name = self._adapter_name(arguments.get("adapter_name", spec.name), place, spec.name)
        return self.inject(
            model,
            self.config(config, place.state),
            name,
            path,
            place,
            spec.wrapper if spec.wraps else "",
        )

    @staticmethod
    def _adapter_name(given: Value | None, place: Place, at: int) -> str:
        if given is None:
            return DEFAULT
        if isinstance(given, Const) and isinstance(given.value, str):
            return given.value
        named = next((a.value for a in place.node.args if a.name == "adapter_name"), None)
        written = named or next((a.value for a in place.node.args[at : at + 1]), None)
        return f"?{place.node.node}?{spelled(written) if written is not None else ''}"

    def inject(
        self, model: Ref, config: Config, name: str, callee: str, place: Place, wrapper: str
    ) -> Ref:
        """New adapters in a model, and the PeftModel around it if there is one."""
        state = place.state
        self._announce(callee, model, place)
        holder = self._hold(model, config, place)
        self._new_part(holder, name, config, place)
        if not wrapper:
            return model
        return (
            self._wrap(holder, wrapper, place)
            if not config.prompt
            else self._wrap_prompt(holder, model, place, state)
        )

    def _announce(self, callee: str, model: Ref, place: Place) -> None:
        self.run.models.promote(model.oid, place.state)
        if self.run.rounds > 1 and self.holder(model.oid, place.state) in self.emptied:
            # The loop takes its adapters out on another path: which round does, is not known.
            return
        name = self.run.names.name_of(model.oid, place.state)
        facts = self.run.models.facts(model.oid, name, place.state)
        self.run.recorder.raise_event(
            AdaptersInjected(
                site=self.run.site(place.frame, place.node),
                when=self.run.when,
                callee=callee,
                model=replace(facts, adapters=self._own(model.oid, place.state)),
                into_wrapper=self.holder(model.oid, place.state) != model.oid,
            ),
            self.run.rounds,
            place.state.decisions,
        )
        self.use(model.oid, "adapters are put in here", place)

    def _own(self, oid: ObjectId, state: State) -> AdapterFacts | None:
        holder = self.holder(oid, state)
        module = state.module(holder) if holder is not None else None
        if module is None or module.adapters is None or holder is None:
            return None
        return replace(module.adapters, names=tuple(n for n, _ in self.parts(holder, state)))

    def _hold(self, model: Ref, config: Config, place: Place) -> ObjectId:
        """Freeze a base and note on it that it has adapters now."""
        state = place.state
        models = self.run.models
        holder = models.base(model.oid, state)
        module = models.promote(holder, state)
        origin = self.run.origin(place.frame, place.node, "adapters are put in here")
        fresh_head = self._fresh_head(module, holder, config)
        had = module.adapters
        state.update(
            holder,
            adapters=replace(
                had or AdapterFacts(),
                injected=had.injected if had is not None else origin,
                nested=origin if had is not None else None,
                head_fresh_untrained=fresh_head if had is None else None,
            ),
        )
        self._freeze_base(holder, state, origin)
        if config.kept:
            kept = tuple(const(k) for k in sorted(config.kept))
            state.attrs[holder, "$kept"] = TupleValue(kept)
        return holder

    def _fresh_head(self, module: ModuleObject, holder: ObjectId, config: Config) -> Origin | None:
        if config.trains_head is not Certainty.NO or config.targets is None:
            return None
        for change in sorted(module.changes, key=lambda c: str(c.key)):
            name = str(change.key[1]) if isinstance(change.key, tuple) else ""
            if change.cause is Cause.HEAD_REPLACED and name in _HEADS:
                return None if name in config.targets else change.origin
        return module.fresh_head

    def _freeze_base(self, holder: ObjectId, state: State, origin: Origin) -> None:
        for part in self.run.models.reach(holder, state):
            if not self._is_adapter(part):
                fact = TrainableFact(Share.NONE, Cause.PEFT_INJECTION, origin)
                state.update(part, trainable=fact)

    @staticmethod
    def _is_adapter(part: ObjectId) -> bool:
        return isinstance(part, tuple) and len(part) == 3 and str(part[2]).startswith(ADAPTER)

    def _new_part(
        self, holder: ObjectId, name: str, config: Config, place: Place, inactive: bool = False
    ) -> ObjectId:
        """One adapter: its modules are in train mode whatever the base is in."""
        state = place.state
        origin = self.run.origin(place.frame, place.node, "adapters are put in here")
        part: ObjectId = ("attr", holder, ADAPTER + name)
        match config.inference:
            case Certainty.YES:
                fact = TrainableFact(Share.NONE, Cause.PEFT_INFERENCE_CONFIG, config.origin)
            case Certainty.NO:
                share = Share.SOME if config.partly else Share.ALL
                fact = TrainableFact(share, Cause.PEFT_INJECTION, origin)
            case _:
                fact = TrainableFact()
        if inactive:
            fact = TrainableFact(Share.NONE, Cause.PEFT_INJECTION, origin)
        state.heap[part] = ModuleObject(
            library="peft",
            flag=ModeFact(Mode.TRAIN, Cause.PEFT_INJECTION, origin),
            trainable=fact,
            sensitive=config.sensitive,
            fresh=True,
            inactive=inactive,
        )
        state.attrs[holder, ADAPTER + name] = Ref(part)
        key = (holder, ADAPTER + name, place.frame.module.path, place.node.node)
        made = self.run.origin(place.frame, place.node, f"{config.what} are made here")
        change = Change(key, config.what, Cause.PEFT_INJECTION, made, part)
        self.run.models.add_change(holder, change, state)
        return part

    def _wrap(self, holder: ObjectId, wrapper: str, place: Place) -> Ref:
        state = place.state
        base = state.module(holder)
        assert base is not None
        ref = self.run.fresh(state, place.frame, place.node)
        tuner = Ref(("attr", ref.oid, "base_model")) if wrapper == "peft" else ref
        shared = ModuleObject(flag=base.flag, sensitive=Certainty.NO, trainable=base.trainable)
        state.heap[tuner.oid] = replace(shared, wraps=holder, wrapper="tuner")
        state.attrs[tuner.oid, "model"] = Ref(holder)
        if wrapper == "peft":
            state.heap[ref.oid] = replace(shared, wraps=tuner.oid, wrapper="peft")
            state.attrs[ref.oid, "base_model"] = tuner
        return ref

    def _wrap_prompt(self, holder: ObjectId, model: Ref, place: Place, state: State) -> Ref:
        """Prompt learning has no tuner: `base_model` is the model itself."""
        base = state.module(holder)
        assert base is not None
        ref = self.run.fresh(state, place.frame, place.node)
        state.heap[ref.oid] = ModuleObject(
            flag=base.flag,
            sensitive=Certainty.NO,
            trainable=base.trainable,
            wraps=model.oid,
            wrapper="peft",
        )
        state.attrs[ref.oid, "base_model"] = model
        return ref

    def _load(self, spec: sp.LoadAdapters, path: str, arguments: Arguments, place: Place) -> Value:
        """`PeftModel.from_pretrained`: frozen and in eval mode unless it is to train."""
        state = place.state
        origin = self.run.origin(place.frame, place.node, "the adapters are loaded here")
        model = arguments.get("model", 0) if spec.onto else None
        if model is None or not isinstance(model, Ref):
            model = self.run.fresh(state, place.frame, place.node, "base")
            word = "`from_pretrained` returns the model in eval mode"
            state.heap[model.oid] = ModuleObject(
                library=path,
                flag=ModeFact(
                    Mode.EVAL, Cause.FACTORY, self.run.origin(place.frame, place.node, word)
                ),
                trainable=TrainableFact(Share.ALL),
                loaded=origin,
            )
        config = self.config(arguments.get("config"), state)
        asked = arguments.get("is_trainable", spec.trainable)
        name = self._adapter_name(arguments.get("adapter_name", spec.name), place, spec.name)
        trainable = self._asked(asked, arguments.complete)
        config = replace(config, inference=Certainty.NO, trains_head=Certainty.YES)
        stays_open = not spec.freezes or self._prompts_about(state)
        if isinstance(path, str) and spec.onto:
            self._announce(path, model, place)
        holder = self._hold(model, config, place)
        part = self._new_part(holder, name, config, place)
        wrapper = self._wrap(holder, "peft", place)
        state.update(holder, loaded=origin)
        self.idle.loaded(holder, state)
        unsure = Certainty.UNKNOWN if stays_open else trainable
        self._frozen_unless(unsure, [part], origin, state)
        if trainable is Certainty.NO:
            self._all_eval(wrapper.oid, Cause.PEFT_LOADED_FROZEN, "loading the adapters", place)
        elif trainable is Certainty.UNKNOWN:
            self._forget_flags(wrapper.oid, state)
        return wrapper

    @staticmethod
    def _prompts_about(state: State) -> bool:
        """Whether what is loaded may be a prompt, or all of it trains: loading freezes neither.

        The folder does not tell. What the program makes beside it does.
        """
        return any(
            isinstance(spec := LIBRARY.call(thing.path), sp.Settings)
            and not spec.frozen_for_inference
            for thing in state.heap.values()
            if isinstance(thing, LibraryObject) and thing.role == "peft_config"
        )

    @staticmethod
    def _asked(given: Value | None, complete: bool) -> Certainty:
        if isinstance(given, Const):
            return Certainty.YES if given.value else Certainty.NO
        return Certainty.NO if given is None and complete else Certainty.UNKNOWN

    def _frozen_unless(
        self, trainable: Certainty, parts: list[ObjectId], origin: Origin, state: State
    ) -> None:
        for part in parts:
            if trainable is Certainty.NO:
                fact = TrainableFact(Share.NONE, Cause.PEFT_LOADED_FROZEN, origin)
                state.update(part, trainable=fact)
            elif trainable is Certainty.UNKNOWN:
                state.update(part, trainable=TrainableFact())

    def _all_eval(self, oid: ObjectId, cause: Cause, what: str, place: Place) -> None:
        origin = self.run.origin(
            place.frame, place.node, f"{what} puts the whole model in eval mode"
        )
        for part in self.run.models.reach(oid, place.state):
            place.state.update(
                part, flag=ModeFact(Mode.EVAL, cause, origin), evaluated=False, trained=False
            )

    def _forget_flags(self, oid: ObjectId, state: State) -> None:
        for part in self.run.models.reach(oid, state):
            state.update(part, flag=ModeFact())

    def _prepare(self, arguments: Arguments, place: Place) -> Value:
        """`prepare_model_for_kbit_training`: everything is frozen, adapters too."""
        state = place.state
        model = arguments.get("model", 0)
        if not isinstance(model, Ref):
            return model if model is not None else NONE
        self.run.models.promote(model.oid, state)
        origin = self.run.origin(place.frame, place.node, "everything in the model is frozen here")
        inside = self.holder(model.oid, state) is not None
        cause = Cause.PEFT_KBIT_AFTER if inside else Cause.EXPLICIT_CALL
        for part in self.run.models.reach(model.oid, state):
            state.update(part, trainable=TrainableFact(Share.NONE, cause, origin))
        if arguments.get("use_gradient_checkpointing", 1) != FALSE:
            base = self.run.models.base(model.oid, state)
            state.update(base, checkpointing=True, input_grads=True)
        return model

    # --- methods -----------------------------------------------------------------------

    def method(
        self,
        oid: ObjectId,
        method: str,
        arguments: Arguments,
        state: State,
        frame: Frame,
        node: ir.Call,
        name: str,
    ) -> Evaluated | None:
        """A method of a model with adapters; None if it is not PEFT's."""
        place = Place(state, frame, node)
        module = state.module(oid)
        if module is None:
            return None
        if method == "state_dict":
            self._whole(oid, state)
            return None
        effect = None
        if self.is_peft(oid, state):
            effect = LIBRARY.adapter_method(method)
        elif method in ("merge_and_unload", "unload") or not module.library:
            return None
        else:
            effect = LIBRARY.native_method(module.library, method)
        if effect is None:
            return None
        value = self._effect(effect, oid, method, arguments, place, name)
        return [(state, value if value is not None else NONE)]

    def _effect(
        self,
        effect: str,
        oid: ObjectId,
        method: str,
        arguments: Arguments,
        place: Place,
        name: str,
    ) -> Value | None:
        holder = self.holder(oid, place.state)
        if effect == "native_add":
            self._native_add(oid, arguments, place)
            return None
        if effect == "native_load":
            self._native_load(oid, arguments, place)
            return None
        if effect == "native_load_to_train":
            given = arguments.get("adapter_name")
            named = None if given == NONE else given
            loaded = replace(Config(), inference=Certainty.NO, trains_head=Certainty.YES)
            self._one_more(Ref(oid), self._adapter_name(named, place, 1), loaded, place)
            return None
        if effect == "save":
            return self._save(oid, place)
        if effect == "base":
            return Ref(self.run.models.base(oid, place.state))
        if effect == "disable_within":
            ref = self.run.fresh(place.state, place.frame, place.node, "context")
            place.state.heap[ref.oid] = ContextObject("adapter:disable", target=oid)
            return ref
        if effect == "look" or holder is None:
            return self.run.fresh(place.state, place.frame, place.node, "result")
        if effect == "unload":
            return self._unload(oid, holder, method, place)
        self._on_holder(effect, oid, holder, arguments, place)
        return None

    def _on_holder(
        self, effect: str, oid: ObjectId, holder: ObjectId, arguments: Arguments, place: Place
    ) -> None:
        match effect:
            case "add":
                self._add(holder, arguments, place)
            case "load":
                self._load_more(oid, holder, arguments, place)
            case "activate":
                self._activate(holder, arguments, place)
            case "require":
                self._require(holder, arguments, place)
            case "delete":
                self._delete(holder, arguments, place)
            case "disable" | "enable":
                self._switch(holder, effect == "enable", place)
            case "merge" | "unmerge":
                self._merge(holder, effect == "merge", place)
            case "combine":
                self._new_part(holder, f"?{place.node.node}", Config(), place, inactive=True)

    def _change(self, holder: ObjectId, state: State, **changes: object) -> None:
        module = state.module(holder)
        assert module is not None
        assert module.adapters is not None
        state.update(holder, adapters=replace(module.adapters, **changes))  # type: ignore[arg-type]

    def _add(self, holder: ObjectId, arguments: Arguments, place: Place) -> None:
        """`PeftModel.add_adapter`: there, but inactive and frozen."""
        name = self._adapter_name(arguments.get("adapter_name", 0), place, 0)
        config = self.config(arguments.get("peft_config", 1), place.state)
        if config.activates:
            self._one_more(Ref(holder), name, config, place)
            return
        part = self._new_part(holder, name, config, place, inactive=True)
        if config.inference is not Certainty.YES:
            self._want(holder, part, name, "added here", place)

    def _want(self, holder: ObjectId, part: ObjectId, name: str, how: str, place: Place) -> None:
        called = shown(name)
        origin = self.run.origin(place.frame, place.node, f"adapter `{called}` is {how}")
        place.state.update(part, wanted=origin)

    def _load_more(
        self, oid: ObjectId, holder: ObjectId, arguments: Arguments, place: Place
    ) -> None:
        """`PeftModel.load_adapter`: the active adapter stays so, the mode may not."""
        state = place.state
        name = self._adapter_name(arguments.get("adapter_name", 1), place, 1)
        trainable = self._asked(arguments.get("is_trainable", 2), arguments.complete)
        origin = self.run.origin(place.frame, place.node, "the adapters are loaded here")
        if (holder, ADAPTER + name) not in state.attrs:
            part = self._new_part(holder, name, Config(), place, inactive=True)
            if trainable is Certainty.YES:
                state.update(part, trainable=TrainableFact(Share.ALL, None, origin))
                self._want(holder, part, name, "loaded to be trained", place)
            else:
                self._frozen_unless(trainable, [part], origin, state)
        if trainable is Certainty.NO:
            self._all_eval(oid, Cause.PEFT_LOAD_ADAPTER, "`load_adapter`", place)
        elif trainable is Certainty.UNKNOWN:
            self._forget_flags(oid, state)

    def _activate(self, holder: ObjectId, arguments: Arguments, place: Place) -> None:
        """`set_adapter`: what is named is active and trains, the others neither."""
        state = place.state
        given = arguments.get("adapter_name", 0)
        names = self._names(given, state) if given is not None else None
        origin = self.run.origin(place.frame, place.node, "the active adapter is set here")
        parts = self.parts(holder, state)
        self.idle.activated.update((holder, n) for n in names or (None,))
        self._change(holder, state, merged=Certainty.NO, merged_origin=None)
        frozen = self._asked(arguments.get("inference_mode", 1), True)
        if names is None:
            names = next_in_turn(given, parts, state)
        known = names is not None and names <= {n for n, _ in parts}
        for name, part in parts:
            module = state.module(part)
            assert module is not None
            if not known:
                state.update(part, inactive=False, trainable=TrainableFact(), wanted=None)
            elif name in (names or ()):
                self._activate_one(part, module, frozen, origin, state)
            else:
                # Whoever names another adapter has made a choice.
                fact = TrainableFact(Share.NONE, Cause.PEFT_ACTIVATION, origin)
                state.update(part, inactive=True, trainable=fact, wanted=None)

    @staticmethod
    def _activate_one(
        part: ObjectId, module: ModuleObject, frozen: Certainty, origin: Origin, state: State
    ) -> None:
        share = {Certainty.YES: Share.NONE, Certainty.NO: Share.ALL}.get(frozen, Share.UNKNOWN)
        fact = TrainableFact(share, Cause.PEFT_ACTIVATION, origin)
        if module.trainable.share is share and not module.inactive:
            fact = module.trainable
        state.update(part, inactive=False, trainable=fact, wanted=None)

    def _require(self, holder: ObjectId, arguments: Arguments, place: Place) -> None:
        """`set_requires_grad(names, on)`."""
        names = self._names(arguments.get("adapter_names", 0), place.state)
        on = self._asked(arguments.get("requires_grad", 1) or TRUE, True)
        share = {Certainty.YES: Share.ALL, Certainty.NO: Share.NONE}.get(on, Share.UNKNOWN)
        origin = self.run.origin(place.frame, place.node, "the adapters are switched here")
        for name, part in self.parts(holder, place.state):
            if names is None:
                place.state.update(part, trainable=TrainableFact())
            elif name in names:
                cause = Cause.PEFT_FROZEN_BY_HAND if share is Share.NONE else None
                fact = TrainableFact(share, cause, origin)
                place.state.update(part, trainable=fact, wanted=None)

    def _delete(self, holder: ObjectId, arguments: Arguments, place: Place) -> None:
        state = place.state
        names = self._names(arguments.get("adapter_name", 0), state)
        left = []
        for name, part in self.parts(holder, state):
            if names is None:
                state.update(part, inactive=False, trainable=TrainableFact(), wanted=None)
            elif name in names:
                state.attrs.pop((holder, ADAPTER + name), None)
                state.heap.pop(part, None)
            else:
                left.append(part)
        if left and all((m := state.module(part)) is not None and m.inactive for part in left):
            # The first that is left takes the place of the active one.
            state.update(left[0], inactive=False, trainable=TrainableFact(), wanted=None)

    def _switch(self, holder: ObjectId, on: bool, place: Place) -> None:
        """`disable_adapter_layers()` freezes what is active, `enable_...` lets it train."""
        word = "enabled" if on else "disabled"
        origin = self.run.origin(place.frame, place.node, f"the adapters are {word} here")
        self._change(holder, place.state, disabled=Certainty.NO if on else Certainty.YES)
        for _, part in self.parts(holder, place.state):
            module = place.state.module(part)
            assert module is not None
            share = Share.ALL if on else Share.NONE
            if module.inactive or module.trainable.share is share:
                continue
            fact = TrainableFact(share, Cause.PEFT_ACTIVATION, origin)
            place.state.update(part, trainable=fact)

    def _merge(self, holder: ObjectId, on: bool, place: Place) -> None:
        origin = self.run.origin(place.frame, place.node, "the adapters are merged here")
        self._change(
            holder,
            place.state,
            merged=Certainty.YES if on else Certainty.NO,
            merged_origin=origin if on else None,
        )

    def _unload(self, oid: ObjectId, holder: ObjectId, method: str, place: Place) -> Value:
        """The inner model, changed in place: no adapters, nothing that trains."""
        state = place.state
        origin = self.run.origin(place.frame, place.node, f"`{method}()` takes the adapters out")
        for name, part in self.parts(holder, state):
            state.attrs.pop((holder, ADAPTER + name), None)
            state.heap.pop(part, None)
            # Those put in next are others: an optimizer that has these does not have them.
            self.run.models.forget_change(holder, (holder, ADAPTER + name), state)
        state.update(holder, adapters=None)
        for part in self.run.models.reach(holder, state):
            fact = TrainableFact(Share.NONE, Cause.PEFT_UNMERGED_RESULT, origin)
            state.update(part, trainable=fact)
        self.unloaded[place.node.node] = (oid, method)
        self.emptied.add(holder)
        return Ref(holder)

    def _native_add(self, oid: ObjectId, arguments: Arguments, place: Place) -> None:
        """The `add_adapter(config, name)` of transformers and diffusers: added and active.

        Activating it unfreezes it, `inference_mode` or not.
        """
        state = place.state
        asked = self.config(arguments.get("adapter_config", 0), state)
        config = replace(asked, inference=Certainty.NO)
        given = arguments.get("adapter_name", 1)
        name = self._adapter_name(None if given == NONE else given, place, 1)
        self._one_more(Ref(oid), name, config, place)

    def _one_more(self, model: Ref, name: str, config: Config, place: Place) -> ObjectId:
        state = place.state
        before = self._own(model.oid, state)
        if before is None:
            holder = self._hold(model, config, place)
        else:
            holder = self.holder(model.oid, state)
            for other, part in self.parts(holder, state):
                if other != name:
                    origin = self.run.origin(place.frame, place.node, "another one is active now")
                    fact = TrainableFact(Share.NONE, Cause.PEFT_ACTIVATION, origin)
                    state.update(part, inactive=True, trainable=fact)
        return self._new_part(holder, name, config, place)

    def _native_load(self, oid: ObjectId, arguments: Arguments, place: Place) -> None:
        state = place.state
        given = arguments.get("adapter_name", 1)
        name = self._adapter_name(None if given == NONE else given, place, 1)
        config = replace(Config(), inference=Certainty.NO, trains_head=Certainty.YES)
        trainable = self._asked(arguments.get("is_trainable"), arguments.complete)
        part = self._one_more(Ref(oid), name, config, place)
        origin = self.run.origin(place.frame, place.node, "the adapters are loaded here")
        self._frozen_unless(trainable, [part], origin, state)
        if trainable is Certainty.NO:
            self._all_eval(oid, Cause.PEFT_LOAD_ADAPTER, "`load_adapter`", place)
        elif trainable is Certainty.UNKNOWN:
            self._forget_flags(oid, state)

    # --- saving ------------------------------------------------------------------------

    def _whole(self, oid: ObjectId, state: State) -> None:
        holder = self.holder(oid, state)
        if holder is not None:
            self.whole_states.add(holder)

    def _save(self, oid: ObjectId, place: Place) -> Value:
        self.use(oid, "it is saved here", place)
        self.save(oid, place)
        return self.run.fresh(place.state, place.frame, place.node, "result")

    def save(self, oid: ObjectId, place: Place) -> None:
        """Only the adapters of a model are saved; whether its whole state is, the end tells."""
        holder = self.holder(oid, place.state)
        module = place.state.module(holder) if holder is not None else None
        if module is None or module.adapters is None or module.adapters.unloaded is not None:
            return
        name = self.run.names.name_of(oid, place.state)
        event = AdapterSaved(
            site=self.run.site(place.frame, place.node),
            when=self.run.when,
            model=self.run.models.facts(oid, name, place.state),
        )
        self.saved.append((event, holder, self.run.rounds, place.state.decisions))

    # --- contexts and dropped results --------------------------------------------------

    def enter(self, context: ContextObject, state: State) -> None:
        """Enter `with model.disable_adapter()`."""
        holder = self.holder(context.target, state)
        if holder is not None:
            self._change(holder, state, disabled=Certainty.YES)

    def leave(self, context: ContextObject, state: State) -> None:
        """Leave `with model.disable_adapter()`."""
        holder = self.holder(context.target, state)
        if holder is not None:
            self._change(holder, state, disabled=Certainty.NO)

    def discarded(
        self, s: ir.Expression, call: ir.Call, context: ContextObject, state: State, frame: Frame
    ) -> None:
        """`model.disable_adapter()` as a statement."""
        owner = call.func.value if isinstance(call.func, ir.Attribute) else call.func
        self.run.recorder.raise_event(
            DiscardedCall(
                site=self.run.site(frame, call),
                callee="peft-model.disable_adapter",
                receiver=Receiver.PEFT_MODEL,
                name=spelled(owner),
            ),
            self.run.rounds,
            state.decisions,
        )

    def dropped(self, call: ir.Call, state: State, frame: Frame) -> None:
        """`model.merge_and_unload()` as a statement: the wrapper is empty from now on."""
        found = self.unloaded.get(call.node)
        if found is None or not isinstance(call.func, ir.Attribute):
            return
        oid, method = found
        if state.module(oid) is None or self.holder(oid, state) is not None:
            return
        name = spelled(call.func.value)
        origin = self.run.origin(frame, call, f"`{name}.{method}()` empties the wrapper here")
        state.update(oid, adapters=AdapterFacts(unloaded=origin))
        state.attrs[oid, "$dropped"] = TupleValue((const(name), const(method)))

    def use(self, oid: ObjectId, note: str, place: Place) -> None:
        """A model is saved, trained or given adapters: tell if it is an emptied wrapper."""
        module = place.state.module(oid)
        told = place.state.attrs.get((oid, "$dropped"))
        if module is None or module.adapters is None or module.adapters.unloaded is None:
            return
        if not isinstance(told, TupleValue):
            return
        name, method = (str(i.value) for i in told.items if isinstance(i, Const))
        self.run.recorder.raise_event(
            DiscardedCall(
                site=module.adapters.unloaded.site,
                callee=f"peft-model.{method}",
                receiver=Receiver.PEFT_MODEL,
                name=name,
                used_after=self.run.origin(place.frame, place.node, note),
            ),
            self.run.rounds,
            place.state.decisions,
        )

    # --- steps -------------------------------------------------------------------------

    def stepped(
        self,
        forwards: list[Forward],
        backward: Site,
        models: tuple[ModelFacts, ...],
        state: State,
    ) -> None:
        """A step trained: note a base that does, and an adapter left out that was to train."""
        for made in forwards:
            self.trained(made.oid, made.facts.name, backward, models, state)

    def trained(
        self,
        oid: ObjectId,
        name: str,
        backward: Site,
        models: tuple[ModelFacts, ...],
        state: State,
    ) -> None:
        """One model of a step."""
        for holder in self.run.models.reach(oid, state):
            module = state.module(holder)
            if module is None or module.adapters is None or module.adapters.unloaded:
                continue
            if self._base_trainable(holder, state).cause is Cause.PEFT_BASE_UNFROZEN:
                self._change(holder, state, base_trained=Origin(backward, "the base trains here"))
            self.idle.stepped(holder, name, backward, models, state)

    def finish(self) -> None:
        """Raise what is known only when everything has run."""
        self.idle.finish()
        for event, holder, rounds, decisions in self.saved:
            if holder not in self.whole_states:
                self.run.recorder.raise_event(event, rounds, decisions)
