"""Models in the abstract state: modes, trainability, parameters, parts and wrappers."""

from __future__ import annotations

import re
from collections.abc import Hashable
from dataclasses import replace
from typing import TYPE_CHECKING

from trainlint.core import late
from trainlint.core.events import AttributeAssigned, ParametersConsumed
from trainlint.core.facts import (
    Cause,
    Certainty,
    Mode,
    ModeFact,
    ModelFacts,
    Origin,
    PartFact,
    Share,
    TrainableFact,
)
from trainlint.flow import ir
from trainlint.flow.arguments import Arguments
from trainlint.flow.idle_adapters import shown
from trainlint.flow.layers import calls_attribute, contents
from trainlint.flow.naming import EACH, is_training_name, spoken
from trainlint.flow.project import ClassInfo
from trainlint.flow.state import (
    Change,
    LibraryObject,
    ListObject,
    ModuleObject,
    OptimizerObject,
    ParametersObject,
    State,
)
from trainlint.flow.values import (
    TRUE,
    Const,
    Method,
    ObjectId,
    ParameterName,
    ParameterSource,
    ParameterValue,
    Ref,
    TupleValue,
    Value,
    const,
)
from trainlint.libraries import LIBRARY

if TYPE_CHECKING:
    from trainlint.flow.frames import Frame
    from trainlint.flow.interpret import Interpreter

ADAPTER = "$adapter:"
"""What the attribute names of adapters begin with."""
MADE = "made:"
"""What the identity of an object begins with whose class is not here; its name follows."""
LOADED = "loaded"
"""What the identity of an unpickled object begins with."""
UNGRAPHED = "ungraphed"
"""What the identity of an input begins with that turns gradients off."""
MAX_PARTS = 48
MAX_CHANGES = 16
MAX_LAYERS = 6
_SELDOM_SENSITIVE = late.pattern(
    r"policy|actor|critic|dqn|q_?net|agent|value|ppo|gen|disc|gan|flow|loss|ema|teacher|target",
    re.IGNORECASE,
)
_UNKNOWN_PART = ModuleObject()
_NO_NETWORK = late.pattern(r"loss|crit|act|fn|func|metric|scheduler|transform", re.IGNORECASE)
"""What is called and is no network."""


class Models:
    """Operations on modules."""

    def __init__(self, interpreter: Interpreter) -> None:
        self.run = interpreter

    # --- identity and structure --------------------------------------------------------

    def promote(self, oid: ObjectId, state: State) -> ModuleObject:
        """Take an opaque object for a module; a part takes its whole's flag."""
        found = state.heap.get(oid)
        if isinstance(found, ModuleObject):
            return found
        module = ModuleObject()
        if isinstance(oid, tuple) and len(oid) == 3 and oid[0] == "attr":
            whole = state.module(oid[1])
            if whole is None and self.is_inside(oid[1], state):
                whole = self.promote(oid[1], state)
            if whole is not None:
                module = ModuleObject(flag=whole.flag, trainable=whole.trainable, uniform=True)
                state.attrs[oid[1], _part_name(oid[2])] = Ref(oid)
        state.heap[oid] = module
        return module

    def is_inside(self, oid: ObjectId, state: State) -> bool:
        """Whether an opaque object is an attribute, at some depth, of a module."""
        while isinstance(oid, tuple) and len(oid) == 3 and oid[0] == "attr":
            oid = oid[1]
            if state.module(oid) is not None:
                return True
        return False

    def children(self, oid: ObjectId, state: State) -> list[tuple[str, ObjectId]]:
        """Parts by attribute name."""
        thing = state.heap.get
        return [
            (name, value.oid)
            for name, value in state.attrs.of(oid)
            if type(value) is Ref and type(thing(value.oid)) is ModuleObject
        ]

    def reach(self, oid: ObjectId, state: State) -> list[ObjectId]:
        """The module, what it wraps, and all parts below."""
        seen: dict[ObjectId, None] = {}
        stack = [oid]
        while stack and len(seen) < 200:
            current = stack.pop()
            module = None if current in seen else state.module(current)
            if module is None:
                continue
            seen[current] = None
            if module.wraps is not None:
                stack.append(module.wraps)
            stack += [child for _, child in self.children(current, state)]
        return list(seen)

    def base(self, oid: ObjectId, state: State) -> ObjectId:
        """The innermost module that a chain of wrappers shares."""
        for _ in range(8):
            module = state.module(oid)
            if module is None or module.wraps is None:
                return oid
            oid = module.wraps
        return oid

    def overlap(self, first: ObjectId, second: ObjectId, state: State) -> bool:
        """Whether two modules share parameters."""
        a, b = self.base(first, state), self.base(second, state)
        if a == b:
            return True
        return a in self.reach(b, state) or b in self.reach(a, state) or _related(a, b)

    def retire(self, state: State, oid: ObjectId) -> None:
        """The constructor that made a module runs again: the earlier one becomes another."""
        old = ("old", oid)
        parts = [oid, *(c for c in self.reach(oid, state) if c != oid and _below(c, oid))]
        for part in parts:
            _rename(state, part, ("old", part) if part != oid else old)

    def retire_below(self, state: State, oid: ObjectId) -> None:
        """An unknown object is another one now, and so is what was found out about its parts."""
        parts = [p for p in state.heap if type(p) is tuple and p[0] == "attr" and _below(p, oid)]
        for part in parts:
            _rename(state, part, ("old", part))

    # --- mode --------------------------------------------------------------------------

    def set_mode(
        self,
        oid: ObjectId,
        mode: Mode,
        state: State,
        frame: Frame,
        node: ir.Node,
        *,
        cause: Cause = Cause.EXPLICIT_CALL,
        note: str = "",
        overrides: bool = True,
        top: bool = True,
        seen: frozenset[ObjectId] = frozenset(),
        done: dict[ObjectId, State] | None = None,
    ) -> list[State]:
        """`train(mode)` on a module and everything below it; overrides of `train` are run.

        `seen` are those above it, `done` those that it was called on already: one that stands in
        many places is not gone through again from each.
        """
        module = self.promote(oid, state)
        done = {} if done is None else done
        if oid in seen or module.mode_fixed or done.get(oid) is state:
            return [state]
        seen |= {oid}
        if overrides and module.cls is not None:
            override = module.cls.method("train")
            if override is not None and override not in self.run.active:
                argument = const(mode is not Mode.EVAL)
                results = self.run.execution.invoke(
                    override, Arguments((Ref(oid), argument)), state, frame, node
                )
                return [st for st, _ in results]
        word = {Mode.EVAL: "eval", Mode.TRAIN: "train"}.get(mode)
        origin = self.run.origin(frame, node, note or f"put in {word} mode here")
        by = f"{frame.name}()" if frame.name else ""
        is_part = top and self._is_part(oid, state)
        self._set_flag(oid, ModeFact(mode, cause, origin, by), state, is_part, origin)
        if is_training_name(frame.name):
            # What trains chooses its mode anew, whatever was evaluated before.
            state.update(oid, evaluated=False)
        below = [child for _, child in self.children(oid, state) if child not in seen]
        if module.wraps is not None:
            below.insert(0, module.wraps)
        states = [state]
        for child in below:
            states = self._each(states, child, mode, frame, node, cause, note, seen, done)
        if len(states) == 1 and states[0] is state:
            done[oid] = state
        return states

    def _each(
        self,
        states: list[State],
        child: ObjectId,
        mode: Mode,
        frame: Frame,
        node: ir.Node,
        cause: Cause,
        note: str,
        seen: frozenset[ObjectId],
        done: dict[ObjectId, State],
    ) -> list[State]:
        after: list[State] = []
        for st in states:
            after += self.set_mode(
                child,
                mode,
                st,
                frame,
                node,
                cause=cause,
                note=note,
                top=False,
                seen=seen,
                done=done,
            )
        return after

    def _is_part(self, oid: ObjectId, state: State) -> bool:
        """Whether it is a sub-module of a module, not a whole model."""
        if isinstance(oid, tuple) and oid[:1] == ("attr",) and state.module(oid[1]) is not None:
            return True
        return any(
            isinstance(value, Ref)
            and value.oid == oid
            and state.module(owner) is not None
            and (owner_module := state.module(owner)) is not None
            and owner_module.wraps != oid
            for (owner, _), value in state.attrs.items()
        )

    def _set_flag(
        self, oid: ObjectId, fact: ModeFact, state: State, is_part: bool, origin: Origin
    ) -> None:
        module = self.promote(oid, state)
        kept, part_eval = module.kept_eval, module.part_eval
        overridden, was = module.overridden, module.was_overridden
        if fact.mode is Mode.EVAL:
            if is_part:
                kept, part_eval, overridden, was = origin, True, None, False
                inner = self.run.loops[-1] if self.run.loops else None
                module = replace(
                    module,
                    kept_in=(inner.node, inner.round) if inner else None,
                    rests_with_all=False,
                )
            elif part_eval and module.evaluated:
                part_eval, kept = False, None  # it had been put in eval mode for just that
            elif part_eval:
                module = replace(module, rests_with_all=True)
        elif fact.mode is Mode.TRAIN:
            undone = part_eval and not is_part and kept is not None
            undone = undone and not self._kept_a_round_ago(module)
            # A part that was evaluated in between had been put in eval mode for that, unless all
            # were for an evaluation of the whole.
            if undone and kept is not None and (module.rests_with_all or not module.evaluated):
                overridden, was = (kept, origin), True
            if part_eval and is_part:
                overridden, was = None, False
            part_eval, kept = (part_eval and not is_part), (None if is_part else kept)
            part_eval = (part_eval and module.flag.mode is not Mode.EVAL) or (was and part_eval)
        else:
            overridden, was, kept, part_eval = None, False, None, False
        state.heap[oid] = replace(
            module,
            flag=fact,
            kept_eval=kept,
            part_eval=part_eval,
            overridden=overridden,
            was_overridden=was,
            evaluated=module.evaluated and fact.mode is module.flag.mode,
            trained=False,
            flag_assigned=None,
        )

    def _kept_a_round_ago(self, module: ModuleObject) -> bool:
        """Each round decides anew whether the part rests: `if epoch < warmup: part.eval()`."""
        if module.kept_in is None:
            return False
        node, number = module.kept_in
        return any(loop.node == node and loop.round > number for loop in self.run.loops)

    def recall_mode(self, key: Hashable, state: State) -> None:
        """A flag that was not known when it was read is false: eval mode is what there was."""
        match key:
            case ("training", oid) | ("truth", ("attr", oid, "training")):
                for part in self.reach(oid, state):
                    module = state.module(part)
                    if module is not None and module.flag.mode is Mode.EVAL:
                        state.update(part, flag=ModeFact())
            case _:
                pass

    @staticmethod
    def was_in_eval(oid: ObjectId, state: State) -> bool:
        """Whether a module had been found in eval mode before its mode was first set."""
        keys: tuple[Hashable, ...] = (("training", oid), ("truth", ("attr", oid, "training")))
        return any(state.assumed.get(key) is False for key in keys)

    def forget_mode(self, oid: ObjectId, state: State) -> None:
        """Somebody unknown had the module: its modes and what trains are unknown."""
        for part in self.reach(oid, state):
            module = state.module(part)
            assert module is not None
            state.update(
                part,
                flag=ModeFact(),
                trainable=TrainableFact(),
                part_eval=False,
                overridden=None,
                was_overridden=False,
                adapters=self.run.adapters.forgotten(module.adapters, part),
            )

    # --- facts -------------------------------------------------------------------------

    def facts(self, oid: ObjectId, name: str, state: State) -> ModelFacts:
        """What rules see of a module."""
        module = self.promote(oid, state)
        parts = self._parts(oid, state)
        share = self.share(oid, state)
        base = state.module(self.base(oid, state)) or module
        walked = self._walk(oid, state)
        overridden = tuple(
            (spoken(part) or name, *found.overridden)
            for part, _, found in walked
            if found.overridden is not None and found.flag.mode is Mode.TRAIN
        )
        return ModelFacts(
            name=name,
            mode=self._mode(oid, module, parts, state),
            trainable=share,
            sensitive=self.sensitivity(oid, state),
            layers=self._sensitive_layers(oid, state),
            parts=parts,
            overridden=overridden,
            adapters=self.run.adapters.facts(oid, state),
            flag_assigned=module.flag_assigned,
            managed=module.managed,
            evaluated=Certainty.YES if self._evaluated(walked, state) else Certainty.NO,
            trained=Certainty.YES if module.trained else Certainty.NO,
            loaded=module.loaded or base.loaded,
        )

    def _evaluated(self, walked: list[tuple[str, ObjectId, ModuleObject]], state: State) -> bool:
        """Whether a pass that trains nothing ran through it, or through a part that trains.

        `model.encode_image(x)` runs the parts alone. A frozen backbone runs without gradients in
        training too.
        """
        (_, whole, module), *parts = walked
        return module.evaluated or any(
            part.evaluated and self.share(oid, state).share is not Share.NONE
            for _, oid, part in parts
            if oid != whole
        )

    def _leaves(self, oid: ObjectId, state: State) -> list[tuple[str, ModuleObject]]:
        """Parts that have no known parts themselves, by dotted name."""
        found: list[tuple[str, ModuleObject]] = []
        stack: list[tuple[str, ObjectId]] = [("", oid)]
        seen: set[ObjectId] = set()
        while stack and len(found) < MAX_PARTS:
            name, current = stack.pop()
            module = state.module(current)
            if module is None or current in seen:
                continue
            seen.add(current)
            below = [
                (f"{name}.{_shown(attr)}" if name else _shown(attr), child)
                for attr, child in self.children(current, state)
                if not attr.startswith(ADAPTER) or not self._inactive(child, state)
            ]
            if module.wraps is not None:
                below = [(name, module.wraps), *[b for b in below if b[1] != module.wraps]]
            if module.adapters is not None and module.adapters.unloaded is None:
                found.append((f"{name}.base_model" if name else "base_model", module))
                stack.extend(reversed(below))
            elif below:
                stack.extend(reversed(below))
                if any(n.endswith(EACH) for n, _ in below) and len(below) == 1:
                    found.append((name, module))
            else:
                found.append((name, module))
        return found

    @staticmethod
    def _inactive(oid: ObjectId, state: State) -> bool:
        module = state.module(oid)
        return module is not None and module.inactive

    def _walk(self, oid: ObjectId, state: State) -> list[tuple[str, ObjectId, ModuleObject]]:
        """The module, what it wraps and all parts below, by dotted name, the outer ones first."""
        found: list[tuple[str, ObjectId, ModuleObject]] = []
        stack: list[tuple[str, ObjectId]] = [("", oid)]
        seen: set[ObjectId] = set()
        while stack and len(found) < 2 * MAX_PARTS:
            name, current = stack.pop()
            module = state.module(current)
            if module is None or current in seen:
                continue
            seen.add(current)
            found.append((name, current, module))
            below = [
                (f"{name}.{attr}" if name else attr, child)
                for attr, child in self.children(current, state)
            ]
            if module.wraps is not None:
                below.append((name, module.wraps))
            stack.extend(reversed(below))
        return found

    def _kept_in_eval(self, oid: ObjectId, state: State) -> dict[str, Origin]:
        """Parts that were put in eval mode by themselves and still are, by dotted name."""
        return {
            name: part.kept_eval
            for name, _, part in self._walk(oid, state)
            if part.part_eval and part.kept_eval is not None and part.flag.mode is Mode.EVAL
        }

    def _sensitive_layers(self, oid: ObjectId, state: State) -> tuple[str, ...]:
        """As `name: Class`, where the class is known."""
        found = []
        for name, part in self._leaves(oid, state):
            if part.sensitive is Certainty.YES and name and part.loss is None:
                kind = part.library.rsplit(".", 1)[-1] if part.library else ""
                found.append(f"{name}: {kind}" if kind else name)
        return tuple(found[:MAX_LAYERS])

    def _parts(self, oid: ObjectId, state: State) -> tuple[PartFact, ...]:
        leaves = self._leaves(oid, state)
        if len(leaves) == 1 and leaves[0][0] == "":
            return ()
        kept = self._kept_in_eval(oid, state)
        return tuple(
            PartFact(
                name=spoken(name),
                mode=part.flag,
                sensitive=part.sensitive,
                kept_eval=next(
                    (o for whole, o in kept.items() if f"{name}.".startswith(f"{whole}.")), None
                ),
                trainable=part.trainable.share,
            )
            for name, part in leaves
            if part.loss is None
        )

    def _mode(
        self, oid: ObjectId, module: ModuleObject, parts: tuple[PartFact, ...], state: State
    ) -> ModeFact:
        base = state.module(self.base(oid, state)) or module
        flags = [p.mode for p in parts] or [base.flag]
        if any(p.kept_eval is not None for p in parts) and not base.fresh:
            flags.append(base.flag)  # a part was singled out; parts that nobody named follow this
        modes = {f.mode for f in flags}
        if len(modes) == 1:
            latest = base.flag if base.flag.mode in modes else flags[0]
            return latest if latest.mode in modes else flags[0]
        if Mode.UNKNOWN in modes:
            known = [f for f in flags if f.mode is not Mode.UNKNOWN]
            return base.flag if base.flag.mode in modes and not known else ModeFact()
        injected = next((f for f in flags if f.cause is Cause.PEFT_INJECTION), None)
        stays = all(f.cause is not Cause.PEFT_LOAD_ADAPTER for f in flags)
        explained = next((f for f in flags if f.mode is Mode.EVAL), flags[0])
        explained = injected if injected is not None and stays else explained
        return ModeFact(Mode.MIXED, explained.cause, explained.origin, explained.by)

    def sensitivity(self, oid: ObjectId, state: State) -> Certainty:
        """Whether modes matter to a module or any of its parts."""
        seen: list[Certainty] = []
        for part in self.reach(oid, state):
            module = state.module(part)
            if module is not None and module.loss is None:
                seen.append(module.sensitive)
        if Certainty.YES in seen:
            return Certainty.YES
        return Certainty.UNKNOWN if Certainty.UNKNOWN in seen or not seen else Certainty.NO

    def share(self, oid: ObjectId, state: State) -> TrainableFact:
        """How much of a module trains."""
        leaves = [m for _, m in self._leaves(oid, state) if m.parametric and m.loss is None]
        leaves += self._rests(oid, state)
        base = state.module(self.base(oid, state))
        if not leaves:
            return base.trainable if base is not None else TrainableFact()
        shares = {m.trainable.share for m in leaves}
        if len(shares) == 1:
            share = shares.pop()
            if base is not None and base.trainable.share is share and base.trainable.origin:
                return base.trainable
            return next((m.trainable for m in leaves if m.trainable.origin), leaves[0].trainable)
        if Share.UNKNOWN in shares:
            return TrainableFact()
        frozen = next((m.trainable for m in leaves if m.trainable.share is Share.NONE), None)
        return TrainableFact(
            Share.SOME, frozen.cause if frozen else None, frozen.origin if frozen else None
        )

    def has_weights(self, oid: ObjectId, state: State) -> bool:
        """Whether a module has parameters, which one that is made of losses alone has not."""
        return any(
            contents(module.cls)[1] if module.cls is not None else module.parametric
            for part in self.reach(oid, state)
            if (module := state.module(part)) is not None
            and module.loss is None
            # A container is what is in it, as far as that is known.
            and not (LIBRARY.is_container(module.library) and self.children(part, state))
        )

    def _rests(self, oid: ObjectId, state: State) -> list[ModuleObject]:
        """Modules with parts that have parameters beside them.

        A library's model with some parts that are known stands for all its other parts, and a
        class of the project may have parameters of its own. What was
        given and is called may be a network, and nothing is known of it.
        """
        found = []
        for part in self.reach(oid, state):
            module = state.module(part)
            if module is None or module.wraps is not None:
                continue
            if module.cls is not None:
                if self.children(part, state):
                    found += [module] * module.cls.has_own_parameters
                    found += [_UNKNOWN_PART] * self._holds_unknown(part, module.cls, state)
                continue
            if not LIBRARY.is_container(module.library) and self.children(part, state):
                found.append(module)
        return found

    @staticmethod
    def _holds_unknown(oid: ObjectId, cls: ClassInfo, state: State) -> bool:
        """Whether a class calls what it was given and what is not known: maybe a network."""
        return any(
            isinstance(value, Ref)
            and value.oid not in state.heap
            and calls_attribute(cls, name)
            and not _NO_NETWORK.search(name)
            for name, value in state.attrs.of(oid)
        )

    def rebound(
        self, old: Value | None, new: Value, state: State, frame: Frame, node: ir.Node
    ) -> None:
        """A name that meant one model means another one from now on."""
        if not isinstance(old, Ref) or not isinstance(new, Ref) or old == new:
            return
        before, after = state.module(old.oid), state.module(new.oid)
        if before is not None and isinstance(new.oid, tuple) and new.oid[0] == LOADED:
            # What `torch.load` gives takes the place of a model: it is one.
            after = self.promote(new.oid, state)
        if before is None or after is None or after.replaces is not None:
            return
        if before.loss is not None or after.loss is not None:
            return
        if not self.overlap(old.oid, new.oid, state):
            origin = self.run.origin(frame, node, "the name means another model from here on")
            held = [g.oid for _, o in state.optimizers() for g in o.groups or ()]
            loose = not any(self.overlap(old.oid, h, state) for h in held)
            first = before.replaces if loose and before.replaces is not None else old.oid
            state.update(new.oid, replaces=first, replaced_at=origin)

    # --- requires_grad -----------------------------------------------------------------

    def set_trainable(
        self,
        oid: ObjectId,
        on: bool | None,
        whole: bool,
        state: State,
        origin: Origin,
        cause: Cause = Cause.EXPLICIT_CALL,
    ) -> None:
        """Switch requires_grad on a module's parameters, all of them or a subset."""
        for part in self.reach(oid, state):
            module = state.module(part)
            if module is None:
                continue
            before = module.trainable.share
            if on is None:
                share = Share.UNKNOWN
            elif whole:
                share = Share.ALL if on else Share.NONE
            else:
                same = before is (Share.ALL if on else Share.NONE)
                share = before if same else Share.SOME
            why = self.run.adapters.cause(part, on, whole, cause, state)
            if part == oid and before is Share.NONE and share is Share.ALL and why is cause:
                self._unfrozen(oid, state, origin)
            state.update(part, trainable=TrainableFact(share, why, origin))
        self.run.training.freezing(oid, on, state, origin)

    def _unfrozen(self, oid: ObjectId, state: State, origin: Origin) -> None:
        """What was frozen trains from here on, and no optimizer that there is has taken it."""
        groups = [optimizer.groups for _, optimizer in state.optimizers()]
        if not groups or None in groups:
            return
        if not any(self.overlap(g.oid, oid, state) for held in groups for g in held or ()):
            what = f"the unfrozen `{self.run.names.name_of(oid, state)}`"
            change = Change(("unfrozen", oid, origin.site), what, Cause.UNFROZEN, origin, oid)
            self.add_change(oid, change, state)

    def set_parameter(
        self, value: ParameterValue, on: bool | None, state: State, origin: Origin
    ) -> None:
        """`p.requires_grad = on` for one parameter of an iteration."""
        whole = value.whole and state.params_partial == 0
        for source in value.sources:
            if state.module(source.oid) is not None:
                self.set_trainable(source.oid, on, whole and source.whole, state, origin)

    # --- parameters --------------------------------------------------------------------

    def parameters(
        self, oid: ObjectId, state: State, frame: Frame, node: ir.Node, named: bool = False
    ) -> Ref:
        """`model.parameters()`: a fresh one-shot iterator."""
        ref = self.run.fresh(state, frame, node, "params")
        state.heap[ref.oid] = ParametersObject((ParameterSource(oid),), True, named)
        return ref

    def sources(self, value: Value | None, state: State) -> tuple[ParameterSource, ...] | None:
        """The parameters that a value holds, None if that is not known."""
        match value:
            case ParameterValue(sources=sources, whole=whole):
                return tuple(s._replace(whole=s.whole and whole) for s in sources)
            case Ref(oid=oid):
                return self._sources_of(oid, state)
            case TupleValue(items=items):
                return self._all_sources(items, state)
            case _:
                return None

    def _sources_of(self, oid: ObjectId, state: State) -> tuple[ParameterSource, ...] | None:
        thing = state.heap.get(oid)
        match thing:
            case ParametersObject(sources=sources, known=known):
                return sources if known else None
            case ListObject(keys=keys, items=items) if keys is not None and items is not None:
                for key, item in zip(keys, items):
                    if key == const("params"):
                        return self.sources(item, state)
                return None
            case ListObject(items=items) if items is not None:
                return self._all_sources(items, state)
            case ListObject(summary=summary) if summary:
                return self._all_sources(tuple(summary), state)
            case _:
                return None

    def _all_sources(
        self, items: tuple[Value, ...], state: State
    ) -> tuple[ParameterSource, ...] | None:
        found: list[ParameterSource] = []
        for item in items:
            inner = self.sources(item, state)
            if inner is None:
                return None
            found.extend(inner)
        return tuple(dict.fromkeys(found))

    def concatenate(
        self, values: tuple[Value, ...], state: State, frame: Frame, node: ir.Node
    ) -> Ref:
        """`list(a) + list(b)`, `[*a, *b]`, `chain(a, b)`."""
        return self.taken(self._all_sources(values, state), state, frame, node)

    def taken(
        self,
        sources: tuple[ParameterSource, ...] | None,
        state: State,
        frame: Frame,
        node: ir.Node,
    ) -> Ref:
        """A list of these parameters."""
        ref = self.run.fresh(state, frame, node, "params")
        state.heap[ref.oid] = ParametersObject(sources or (), sources is not None, one_shot=False)
        return ref

    def consume(
        self, value: Value, state: State, frame: Frame, node: ir.Node, name: str, by: str
    ) -> None:
        """An iterator of parameters is run to its end."""
        if not isinstance(value, Ref):
            return
        found = state.heap.get(value.oid)
        name = self.run.names.variable_of(value.oid, state) or name
        if not isinstance(found, ParametersObject):
            if isinstance(found, ListObject):
                for item in found.items or ():
                    if isinstance(item, Ref) and item != value:
                        self.consume(item, state, frame, node, name, by)
            return
        if not found.one_shot:
            return
        if found.used_up:
            self.run.recorder.raise_event(
                ParametersConsumed(
                    site=self.run.site(frame, node), name=name, earlier=found.consumed, by=by
                ),
                self.run.rounds,
                state.decisions,
            )
            return
        origin = self.run.origin(frame, node, f"used up here by {by}" if by else "used up here")
        state.update(value.oid, used_up=True, consumed=origin)

    def filtered(
        self, e: ir.Comprehension, iterable: Value, state: State, frame: Frame
    ) -> Value | None:
        """`[p for p in model.parameters() if p.requires_grad]` and the like."""
        if len(e.generators) != 1 or not self.is_parameters(iterable, state):
            return None
        target = e.generators[0].target
        names = [x.id for x in _leaf_names(target)]
        if e.kind is ir.ComprehensionKind.DICT or not isinstance(e.element, ir.Name | ir.Sequence):
            return None
        if not names or not any(x.id == names[-1] for x in _leaf_names(e.element)):
            return None
        sources = self.sources(iterable, state)
        self.consume(iterable, state, frame, e, "parameters", "this comprehension")
        if sources is None:
            result = ParametersObject((), False)
        else:
            conditions = e.generators[0].conditions
            only = any(_asks_requires_grad(c) for c in conditions)
            other = any(not _asks_requires_grad(c) for c in conditions)
            result = ParametersObject(
                tuple(
                    s._replace(only_trainable=s.only_trainable or only, whole=s.whole and not other)
                    for s in sources
                ),
                True,
                isinstance(e.element, ir.Sequence),
            )
        ref = self.run.fresh(state, frame, e, "params")
        one_shot = e.kind is ir.ComprehensionKind.GENERATOR
        state.heap[ref.oid] = replace(result, one_shot=one_shot)
        return ref

    def chosen(self, value: ParameterValue, state: State) -> ParameterValue:
        """A parameter that is put aside under a condition: `if p.requires_grad: kept.append(p)`."""
        asked = bool(self.run.tests) and _asks_requires_grad(self.run.tests[-1])
        only = asked and state.params_partial <= 1
        all_ = only or state.params_partial == 0
        sources = tuple(
            s._replace(only_trainable=s.only_trainable or only, whole=s.whole and all_)
            for s in value.sources
        )
        return value._replace(sources=sources)

    def is_parameters(self, value: Value, state: State) -> bool:
        """Whether iterating the value yields parameters."""
        return isinstance(value, Ref) and isinstance(state.heap.get(value.oid), ParametersObject)

    def element_of_parameters(self, value: Ref, state: State) -> Value:
        """What a loop over parameters binds."""
        found = state.heap[value.oid]
        assert isinstance(found, ParametersObject)
        depth = len(self.run.parameter_loops) + 1
        one = ParameterValue(found.sources, found.known, depth)
        return TupleValue((ParameterName(depth), one)) if found.named else one

    def capture(
        self, sources: tuple[ParameterSource, ...], state: State
    ) -> tuple[ParameterSource, ...]:
        """The sources with what they hold now: what an optimizer takes."""
        taken = []
        for source in sources:
            reached = self.reach(source.oid, state)
            keys = frozenset(
                c.key for oid in reached if (m := state.module(oid)) for c in m.changes
            )
            source = source._replace(changes=keys)
            if source.only_trainable:
                source = source._replace(
                    frozen_then=self._with_share(reached, Share.NONE, state),
                    partly_then=self._with_share(reached[:1], Share.SOME, state),
                )
            taken.append(source)
        return tuple(taken)

    @staticmethod
    def forget_change(oid: ObjectId, begins: tuple[Hashable, ...], state: State) -> None:
        """What a change put in is out again; who took it has something else."""
        module = state.module(oid)
        if module is not None:
            left = frozenset(c for c in module.changes if not _begins(c.key, begins))
            state.update(oid, changes=left)
        for optimizer, held in state.optimizers():
            groups = tuple(
                g._replace(changes=frozenset(k for k in g.changes if not _begins(k, begins)))
                for g in held.groups or ()
            )
            if held.groups and groups != held.groups:
                state.update(optimizer, groups=groups)

    @staticmethod
    def _with_share(oids: list[ObjectId], share: Share, state: State) -> frozenset[ObjectId]:
        return frozenset(
            oid for oid in oids if (m := state.module(oid)) and m.trainable.share is share
        )

    # --- attributes --------------------------------------------------------------------

    def replace_part(
        self,
        oid: ObjectId,
        attr: str,
        value: Ref,
        state: State,
        frame: Frame,
        node: ir.Node,
        name: str,
    ) -> None:
        """`model.head = nn.Linear(...)`: new parameters come to the model."""
        old = state.attrs.get((oid, attr))
        state.attrs[oid, attr] = value
        part = state.module(value.oid)
        if part is None or old == value:
            return
        if (
            part.wraps is not None
            and isinstance(old, Ref)
            and self.overlap(part.wraps, old.oid, state)
        ):
            return
        if isinstance(old, Ref) and self.overlap(old.oid, value.oid, state):
            if not self._adds_weights(value.oid, old.oid, state):
                return
        if self._constructing(oid, frame) or not part.parametric:
            return
        called = name if attr.startswith("$") else f"{name}.{attr}"
        change = Change(
            (oid, attr, frame.module.path, node.node),
            f"`{called}`",
            Cause.HEAD_REPLACED,
            self.run.origin(frame, node, f"`{called}` becomes a new module here"),
            value.oid,
        )
        self.add_change(oid, change, state)

    def _adds_weights(self, oid: ObjectId, old: ObjectId, state: State) -> bool:
        """Whether a module around an old one certainly has weights of its own."""
        inside = self.reach(old, state)
        added = [m for p in self.reach(oid, state) if p not in inside and (m := state.module(p))]
        return any(
            contents(m.cls)[1]
            if m.cls is not None
            else m.fresh and m.parametric and m.loss is None and not LIBRARY.is_container(m.library)
            for m in added
            if m.wraps is None
        )

    def add_change(self, oid: ObjectId, change: Change, state: State) -> None:
        """Note that new parameters came to a module."""
        module = self.promote(oid, state)
        if len(module.changes) < MAX_CHANGES:
            kept = frozenset(c for c in module.changes if c.key != change.key)
            state.update(oid, changes=kept | {change})

    def _constructing(self, oid: ObjectId, frame: Frame) -> bool:
        """Whether the object's own `__init__` is running."""
        current: Frame | None = frame
        while current is not None:
            if current.name == "__init__" and current.receiver == Ref(oid):
                return True
            current = current.caller
        return False

    def _has_parts(self, oid: ObjectId, state: State) -> Certainty:
        """Whether a module has sub-modules; a library's layer has none, a pretrained model has."""
        module = state.module(oid)
        if module is None:
            return Certainty.UNKNOWN
        if self.children(oid, state) or module.wraps is not None:
            return Certainty.YES
        if module.library.startswith("torch.nn.") and not LIBRARY.is_container(module.library):
            return Certainty.NO
        return Certainty.YES if module.library and module.cls is None else Certainty.UNKNOWN

    def assigned_flag(
        self,
        oid: ObjectId,
        attr: str,
        value: Value,
        state: State,
        frame: Frame,
        node: ir.Node,
        target: ir.Attribute,
        name: str,
    ) -> None:
        """`model.training = False`, `model.requires_grad = False`."""
        from trainlint.core.events import Receiver

        literal = str(value.value) if isinstance(value, Const) else ""
        inside = frame.receiver == Ref(oid) and frame.func is not None
        each = isinstance(oid, tuple) and oid[-1:] == (EACH,)
        deep = self._has_parts(oid, state)
        told = self.run.recorder.raise_event(
            AttributeAssigned(
                site=self.run.site(frame, node),
                receiver=Receiver.MODULE,
                name=name,
                attribute=attr,
                value=literal,
                inside_own_method=inside,
                over_all_modules=each,
                has_submodules=deep,
            ),
            self.run.rounds,
            state.decisions,
        )
        if told and attr == "requires_grad":
            self.run.slips.not_frozen(oid, state)
        if attr == "training" and not inside:
            origin = self.run.origin(frame, node, f"`{name}.training` is assigned here")
            if each or deep is Certainty.NO:
                mode = Mode.TRAIN if value == TRUE else Mode.EVAL
                self._set_flag(
                    oid, ModeFact(mode, Cause.EXPLICIT_CALL, origin), state, True, origin
                )
            else:
                state.update(oid, flag_assigned=origin)

    def loaded(self, oid: ObjectId, state: State, origin: Origin) -> None:
        """Trained weights came in."""
        for part in self.reach(oid, state):
            if (module := state.module(part)) is not None and module.adapters is not None:
                self.run.adapters.idle.loaded(part, state)
        state.update(oid, loaded=origin)
        self.as_made(oid, state)

    def as_made(self, oid: ObjectId, state: State) -> None:
        """A network of a class that is not here, not yet switched, is in train mode.

        Networks that act or generate often have no layer that cares, so theirs stays unknown.
        """
        base = self.base(oid, state)
        tag = base[0] if isinstance(base, tuple) and isinstance(base[0], str) else ""
        if not tag.startswith(MADE) or _SELDOM_SENSITIVE.search(tag.removeprefix(MADE)):
            return
        for part in self.reach(base, state):
            module = state.module(part)
            if module is not None and module.flag == ModeFact() and not module.wraps:
                state.update(part, flag=ModeFact(Mode.TRAIN))


def _begins(key: Hashable, begins: tuple[Hashable, ...]) -> bool:
    return isinstance(key, tuple) and key[: len(begins)] == begins


def _shown(attribute: str) -> str:
    return shown(attribute.removeprefix(ADAPTER))


def _related(a: ObjectId, b: ObjectId) -> bool:
    """One is an attribute, at any depth, of the other: `("attr", ("attr", m, "x"), "y")`."""
    return _below(a, b) or _below(b, a)


def _below(inner: ObjectId, outer: ObjectId) -> bool:
    while isinstance(inner, tuple) and inner[:1] == ("attr",):
        inner = inner[1]
        if inner == outer:
            return True
    return False


def _rename(state: State, old: ObjectId, new: ObjectId) -> None:
    """Give an object another identity everywhere."""

    def swap(value: Value) -> Value:
        if isinstance(value, Ref):
            return Ref(new) if value.oid == old else value
        if isinstance(value, Method) and value.receiver == Ref(old):
            return Method(Ref(new), value.func)
        if isinstance(value, TupleValue):
            return TupleValue(tuple(swap(v) for v in value.items))
        return value

    for table in (state.vars, state.attrs):
        for key, value in list(table.items()):
            swapped = swap(value)
            if swapped is not value:
                table[key] = swapped  # type: ignore[index]
    for name, value in state.attrs.of(old):
        state.attrs[new, name] = value
    state.attrs.clear_of(old)
    if old in state.heap:
        state.heap[new] = state.heap.pop(old)
    for oid, thing in list(state.heap.items()):
        match thing:
            case OptimizerObject(groups=groups) if groups:
                renamed = tuple(g._replace(oid=new) if g.oid == old else g for g in groups)
                state.heap[oid] = replace(thing, groups=renamed)
            case ParametersObject(sources=sources):
                renamed = tuple(g._replace(oid=new) if g.oid == old else g for g in sources)
                state.heap[oid] = replace(thing, sources=renamed)
            case ModuleObject(wraps=wraps, replaces=replaced) if old in (wraps, replaced):
                state.heap[oid] = replace(
                    thing,
                    wraps=new if wraps == old else wraps,
                    replaces=new if replaced == old else replaced,
                )
            case ListObject(items=items) if items:
                state.heap[oid] = replace(thing, items=tuple(swap(v) for v in items))
            case LibraryObject(links=links) if links:
                state.heap[oid] = replace(thing, links=tuple((k, swap(v)) for k, v in links))
            case _:
                pass


def _leaf_names(target: ir.Expr) -> list[ir.Name]:
    match target:
        case ir.Name():
            return [target]
        case ir.Sequence(items=items):
            return [n for item in items for n in _leaf_names(item)]
        case _:
            return []


def _asks_requires_grad(condition: ir.Expr) -> bool:
    match condition:
        case ir.Attribute(attr="requires_grad"):
            return True
        case ir.Compare(left=left, op=op, right=ir.Literal(value=True)) if op in ("==", "is"):
            return _asks_requires_grad(left)
        case ir.BoolOp(op="and", values=values):
            return any(_asks_requires_grad(v) for v in values)
        case _:
            return False


def _part_name(key: Hashable) -> str:
    """An attribute's name, an index, or any of the parts: `blocks[-3:]`, `blocks[i]`."""
    match key:
        case str():
            return key
        case int():
            return str(key)
        case Const(value=value):
            return str(value)
        case _:
            return EACH
