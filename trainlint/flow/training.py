"""The step protocol: forward, backward, clearing, clipping, stepping, scheduling."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from trainlint.core.events import (
    AccumulationStep,
    Backward,
    Evaluation,
    Evidence,
    GradientsCleared,
    GradientsClipped,
    GradientsPileUp,
    OptimizerCreated,
    OptimizerStep,
    ReferenceForward,
    SchedulerStep,
    TrainStep,
)
from trainlint.core.facts import (
    Cause,
    Certainty,
    Cut,
    Gradients,
    LossFacts,
    Mode,
    ModelFacts,
    OptimizerFacts,
    Origin,
    ParameterGap,
    Share,
    Site,
)
from trainlint.core.late import dataclass
from trainlint.flow import ir
from trainlint.flow.accumulation import Accumulation
from trainlint.flow.idle_adapters import shown
from trainlint.flow.latecomers import Latecomers
from trainlint.flow.models import ADAPTER, UNGRAPHED, Models
from trainlint.flow.naming import is_evaluation_name, is_training_name, steps_itself
from trainlint.flow.outside import Outside, Use
from trainlint.flow.protocol import Protocol
from trainlint.flow.state import (
    Decision,
    GradMode,
    ModuleObject,
    OptimizerObject,
    ScalerObject,
    SchedulerObject,
    State,
)
from trainlint.flow.values import (
    Forward,
    ObjectId,
    ParameterSource,
    ParameterValue,
    Ref,
    Tensor,
    Value,
)
from trainlint.flow.written import written_to

if TYPE_CHECKING:
    from trainlint.flow.frames import Frame
    from trainlint.flow.interpret import Interpreter


@dataclass(slots=True)
class Seen:
    """A forward that may turn out to be an evaluation."""

    event: Evaluation
    oid: ObjectId
    rounds: int
    paths: list[frozenset[Decision]]
    loops: tuple[int, ...]
    use: Use
    trained: bool = False
    dropped: bool = False
    """Some state in which it ran is followed no further."""


@dataclass(slots=True)
class StepRecord:
    """What the whole analysis saw of one optimizer."""

    facts: OptimizerFacts
    backward: Origin | None = None
    in_loop: bool = False
    stepped: bool = False
    cleared: bool = False
    step_site: Site | None = None
    elsewhere: bool = False
    """Something unknown may have run backward."""
    ran: bool = False
    """A model that it holds was seen to run: a backward can be missing."""
    holds: frozenset[ObjectId] = frozenset()
    """The models whose parameters it stepped on."""
    fed: bool = False
    """Some step found gradients, or may have: another optimizer's backward is no help."""
    by_hand: bool = False
    """Its parameters are written in place: a step of one's own."""


class Training:
    """Operations on losses and optimizers."""

    def __init__(self, interpreter: Interpreter, models: Models) -> None:
        self.run = interpreter
        self.models = models
        self.forwards: dict[object, Seen] = {}
        self.trained_models: dict[ObjectId, Origin] = {}
        self.trained_parts: dict[ObjectId, Origin] = {}
        self.trained_in: dict[ObjectId, set[int]] = {}
        """The loops in which a model was trained."""
        self.records: dict[ObjectId, StepRecord] = {}
        self.references: list[tuple[ReferenceForward, ObjectId, int, frozenset[Decision]]] = []
        self.followers: set[ObjectId] = set()
        self.protocol = Protocol(interpreter)
        self.latecomers = Latecomers(interpreter)
        self.outside = Outside(interpreter)
        self.accumulation = Accumulation(interpreter)
        self.pile_ups: list[tuple[GradientsPileUp, ObjectId, int, frozenset[Decision]]] = []
        self.bypassed_at: dict[object, Site] = {}
        """Where forwards go past a wrapper."""
        self.cleared_by_hand: set[ObjectId] = set()
        """Networks whose gradients are cleared, or looked at, without an optimizer."""
        """Models whose own gradients somebody clears."""

    # --- forward -----------------------------------------------------------------------

    def forward(
        self,
        oid: ObjectId,
        name: str,
        inputs: tuple[Value, ...],
        state: State,
        frame: Frame,
        node: ir.Node,
        *,
        record: bool = True,
        result_used: Certainty = Certainty.UNKNOWN,
    ) -> Tensor:
        """A model runs: its result knows the model as it was."""
        facts = self.models.facts(oid, name, state)
        grad = state.grad
        if grad.on is Certainty.YES and any(_is_ungraphed(v) for v in inputs):
            grad = GradMode(Certainty.NO)
        stack = tuple(id(f.function) for f in self.run.active)
        key = (
            frame.module.path,
            node.node,
            stack,
            oid,
            facts.mode.mode,
            grad.on,
            facts.mode.origin.site if facts.mode.origin else None,
        )
        given = self.run.tensors.unpacked(tuple(inputs), state)
        joined = self.run.tensors.combine(given, "forward")
        through = joined if isinstance(joined, Tensor) else Tensor()
        carries = through.attached is Certainty.YES
        bypass = self._bypassed(oid, state)
        made = Forward(oid, key, facts, grad.on, grad.origin, grad.leaked, bypass, carries)
        if bypass is not None:
            self.bypassed_at[made.site] = self.outside.past(bypass, state, frame, node)
        if record:
            self._remember(key, made, state, frame, node, result_used)
        if grad.on is Certainty.NO or self._named_evaluation(frame, grad.on):
            for part in self.models.reach(oid, state):
                state.update(part, evaluated=True)
        activation, parts = self.run.tensors.output_of(oid, state)
        if grad.on is Certainty.NO:
            return Tensor(
                attached=Certainty.NO,
                cut=Cut.NO_GRAD,
                cut_origin=grad.origin,
                references=through.references | through.forwards | {made},
                activation=activation,
                activation_origin=self.run.origin(frame, node, "computed here"),
                parts=parts,
            )
        frozen = facts.trainable.share is Share.NONE
        attached = (
            Certainty.YES
            if not frozen
            else (Certainty.YES if through.attached is Certainty.YES else Certainty.UNKNOWN)
        )
        return Tensor(
            forwards=through.forwards | {made},
            attached=attached,
            references=through.references,
            fed=through.fed | through.forwards | through.references,
            activation=activation,
            activation_origin=self.run.origin(frame, node, "computed here"),
            parts=parts,
            packed=through.packed,
        )

    def _bypassed(self, oid: ObjectId, state: State) -> ObjectId:
        """The DDP wrapper around a module that was called directly, or a trained part of it."""
        for wrapper, module in state.modules():
            if module.wrapper != "ddp" or module.wraps is None or wrapper == oid:
                continue
            if module.wraps == oid:
                return wrapper
            part = oid in self.models.reach(module.wraps, state)
            if part and self.models.share(oid, state).share is not Share.NONE:
                return wrapper
        return None

    def _named_evaluation(self, frame: Frame, grad: Certainty) -> bool:
        """A loader or the function says so; with gradients off, also one of its callers.

        With gradients on, what an evaluation calls may be what selects an action in training.
        """
        if is_evaluation_name(frame.name) and not steps_itself(frame.func):
            return True
        if any(is_evaluation_name(name) for loop in self.run.loops for name in loop.loaders):
            return True
        caller = frame.caller if grad is Certainty.NO else None
        while caller is not None and not is_training_name(caller.name):
            if is_evaluation_name(caller.name):
                return True
            caller = caller.caller
        return False

    def _remember(
        self,
        key: object,
        made: Forward,
        state: State,
        frame: Frame,
        node: ir.Node,
        result_used: Certainty,
    ) -> None:
        evidence: set[Evidence] = set()
        grad = Certainty.UNKNOWN if self.run.slips.records_unmeant(frame) else made.grad
        if made.grad is Certainty.NO:
            evidence.add(Evidence.GRAD_OFF)
        if _is_asked(made.facts):
            evidence.add(Evidence.EVAL_ASKED)
        if self._named_evaluation(frame, made.grad):
            evidence.add(Evidence.NAME)
        seen = self.forwards.get(key)
        site = self.run.site(frame, node)
        self.run.recorder.reaches(site, self.run.open)
        if seen is None:
            event = Evaluation(
                site=site,
                when=self.run.when,
                model=made.facts,
                grad=grad,
                evidence=frozenset(evidence),
                function=frame.name,
                in_loop=any(loop.repeats for loop in self.run.loops),
                result_used=result_used,
            )
            # A wrapper's forward is one of the model that it wraps, and trains that.
            own = self.models.base(made.oid, state)
            loops = tuple(loop.node for loop in self.run.loops)
            use = self.outside.use(made.oid, made.facts.name, state, frame, node)
            self.run.recorder.reaches(use.site, self.run.open)
            self.forwards[key] = Seen(event, own, self.run.rounds, [state.decisions], loops, use)
            return
        self.run.recorder.reaches(seen.use.site, self.run.open)
        seen.paths.append(state.decisions)
        if self.run.rounds < seen.rounds:
            seen.rounds = self.run.rounds
            seen.event = replace(seen.event, when=self.run.when)

    def measured(self, tensor: Tensor) -> None:
        """Metrics are taken from a forward's result."""
        for made in (*tensor.forwards, *tensor.references):
            seen = self.forwards.get(made.site)
            if seen is not None and Evidence.METRICS not in seen.event.evidence:
                seen.event = replace(seen.event, evidence=seen.event.evidence | {Evidence.METRICS})

    def gives_losses(self, tensor: Tensor, state: State) -> None:
        """An output by names whose values are wanted: detectors give their losses in training only.

        A class of the project shows itself what it gives in which mode: its `forward` asks.
        """
        for made in (*tensor.forwards, *tensor.references):
            seen, module = self.forwards.get(made.site), state.module(made.oid)
            forward = module.cls.method("forward") if module is not None and module.cls else None
            asks = forward is not None and "training" in forward.function.words
            if seen is not None and module is not None and (module.cls is None or asks):
                seen.event = replace(seen.event, needs_train=True)

    def escaped(self, tensor: Tensor, *, dropped: bool = False) -> None:
        """A result goes where a backward may be: it is no evaluation for sure.

        Where only one of many states was dropped, the others tell about a model that was put in
        eval mode on purpose: what is done with its results does not hang on the state.
        """
        for made in tensor.forwards:
            seen = self.forwards.get(made.site)
            if seen is not None and dropped and _is_asked(made.facts):
                seen.dropped = True
            elif seen is not None:
                seen.trained = True

    # --- backward ----------------------------------------------------------------------

    def backward(
        self,
        loss: Value,
        name: str,
        state: State,
        frame: Frame,
        node: ir.Node,
        scaler: ObjectId = None,
    ) -> None:
        """`.backward()` on a loss."""
        site = self.run.site(frame, node)
        origin = Origin(site, "backward runs here")
        self.run.recorder.reaches(site, self.run.open)
        self.run.epochs.trains()
        tensor = loss if isinstance(loss, Tensor) else Tensor()
        opaque = not isinstance(loss, Tensor)
        facts = self.loss_facts(tensor, name)
        if facts.grad_leaked and state.grad.on is Certainty.YES:
            # Turned on again since: by hand, but around the forward alone.
            facts = replace(facts, grad_leaked=False)
        holders = self._holders(tensor, state)
        self.run.recorder.raise_event(
            Backward(
                site=site,
                when=self.run.when,
                loss=facts,
                optimizers=tuple(self.facts(o, state) for o in holders),
            ),
            self.run.rounds,
            state.decisions,
        )
        # What gave a loss that was cut by mistake was meant to train, not to be evaluated.
        self.escaped(replace(tensor, forwards=tensor.references) if facts.cut else tensor)
        self._refer(tensor, facts, state, site)
        self._fill(tensor, opaque, holders, state, origin, scaler or tensor.scaler)
        self.run.calls.on_backward(tensor, state, frame, node)

    def moved_by_hand(self, parameter: Value) -> None:
        """A parameter's values are written in place: its model follows another."""
        self.followers.update(source.oid for source in written_to(parameter))

    def perhaps_backward(self, tensor: Tensor, state: State) -> None:
        """Something unknown got a loss: it may have run backward."""
        for oid in self._holders(tensor, state) if tensor.forwards else ():
            optimizer = state.optimizer(oid)
            if optimizer is not None and optimizer.gradients is not Gradients.FRESH:
                self.clear_unknown(state, [oid])
            if oid in self.records:
                self.records[oid].elsewhere = True

    def filled_by_hand(self) -> None:
        """`p.grad = ...`: gradients come from somewhere else than a backward."""
        for record in self.records.values():
            record.elsewhere = True

    def loss_facts(self, tensor: Tensor, name: str) -> LossFacts:
        """What rules see of a loss."""
        cut = tensor.cut if tensor.attached is Certainty.NO or tensor.leaf else None
        grad_off, grad_leaked = None, False
        if cut is Cut.NO_GRAD:
            grad_off = tensor.cut_origin
            grad_leaked = any(f.grad_leaked for f in tensor.references if f.grad_origin == grad_off)
        return LossFacts(
            name=name,
            models=_unique(f.facts for f in _ordered(tensor.forwards)),
            references=_unique(f.facts for f in _ordered(tensor.references)),
            cut=cut,
            cut_origin=tensor.cut_origin,
            grad_off=grad_off,
            grad_leaked=grad_leaked,
        )

    def _refer(self, tensor: Tensor, facts: LossFacts, state: State, site: Site) -> None:
        values = frozenset(f for f in tensor.forwards if self._gives_values_only(f, state))
        learning = tensor.forwards - values
        students = [f.facts.name for f in _ordered(learning)]
        if not students or not self.run.recorder.listens(ReferenceForward):
            return
        trained = {f.oid for f in learning}
        for made in _ordered(tensor.references | values):
            seen = self.forwards.get(made.site)
            if seen is None:
                continue
            seen.trained = True
            if made in tensor.fed or any(
                self.models.overlap(made.oid, other, state) for other in trained
            ):
                continue
            module = state.module(made.oid)
            follows = module is not None and module.follows
            own = self.models.base(made.oid, state)
            event = ReferenceForward(
                site=seen.event.site,
                when=self.run.when,
                model=made.facts,
                student=students[0],
                backward=site,
                follows=Certainty.YES if follows else Certainty.UNKNOWN,
                graduated=self._graduated(own, seen, made),
            )
            self.references.append((event, own, self.run.rounds, state.decisions))

    def _graduated(self, own: ObjectId, seen: Seen, made: Forward) -> Certainty:
        """Whether a model that is frozen now was trained in another loop before."""
        loops = self.trained_in.get(own)
        frozen = made.facts.trainable.share is Share.NONE
        apart = loops is not None and loops.isdisjoint(seen.loops)
        return Certainty.YES if frozen and apart else Certainty.NO

    def _gives_values_only(self, made: Forward, state: State) -> bool:
        """A frozen model that no optimizer holds and that no gradient passes through."""
        if made.carries or made.facts.trainable.share is not Share.NONE or made.facts.adapters:
            return False
        seen = self.forwards.get(made.site)
        own = self.models.base(made.oid, state)
        if seen is not None and self._graduated(own, seen, made) is Certainty.YES:
            return True
        return not any(
            optimizer.groups is None
            or any(self.models.overlap(g.oid, made.oid, state) for g in optimizer.groups)
            for _, optimizer in state.optimizers()
        )

    def _holders(self, tensor: Tensor, state: State) -> list[ObjectId]:
        """Optimizers that hold, or may hold, parameters of a loss's models."""
        oids = {f.oid for f in tensor.forwards}
        return [
            oid
            for oid, optimizer in state.optimizers()
            if optimizer.groups is None
            or any(self.models.overlap(g.oid, m, state) for g in optimizer.groups for m in oids)
        ]

    def _fill(
        self,
        tensor: Tensor,
        opaque: bool,
        holders: list[ObjectId],
        state: State,
        origin: Origin,
        scaler: ObjectId,
    ) -> None:
        optimizers = list(state.optimizers())
        vague = opaque or not tensor.forwards
        if vague:
            targets = [oid for oid, _ in optimizers] if len(optimizers) == 1 else []
            for oid, _ in optimizers if len(optimizers) > 1 else ():
                state.update(oid, gradients=Gradients.UNKNOWN, pending=frozenset())
                if oid in self.records:
                    self.records[oid].elsewhere = True
        elif holders:
            targets = [*holders, *self._outdated(tensor, holders, state)]
        else:
            # No optimizer holds these models: what steps next steps on nothing, and one cause
            # (stale, missing, frozen) must come out of it, not a broken protocol.
            targets = [oid for oid, _ in optimizers]
        for oid in targets:
            optimizer = state.optimizer(oid)
            assert optimizer is not None
            self.protocol.filled(oid)
            sites = optimizer.pending_sites
            if optimizer.gradients is not Gradients.FRESH:
                sites = ()
            mixed = optimizer.gradients in (Gradients.CONSUMED, Gradients.MIXED_IN)
            again = not optimizer.this_round and any(s.site == origin.site for s in sites)
            state.update(
                oid,
                gradients=Gradients.MIXED_IN if mixed else Gradients.FRESH,
                backward=origin,
                this_round=True,
                pending=(optimizer.pending if sites else frozenset()) | {tensor},
                pending_sites=(*(s for s in sites if s != origin), origin)[-6:],
                scaler=scaler,
                scaled_origin=origin if scaler is not None else None,
                clipped=None,
                accumulated=optimizer.accumulated or again,
            )
            record = self.records.get(oid)
            if record is not None:
                record.backward = record.backward or origin
                record.in_loop |= bool(self.run.loops)

    def _outdated(self, tensor: Tensor, holders: list[ObjectId], state: State) -> list[ObjectId]:
        """Optimizers that hold what a model of the loss replaced: they wait for its gradients.

        A model that another optimizer trains, as the copy for one task of a meta-learner, takes
        nobody's place.
        """
        held = [g.oid for oid in holders for g in _groups(state.optimizer(oid))]
        loose = [
            made
            for made in tensor.forwards
            if not any(self.models.overlap(made.oid, other, state) for other in held)
        ]
        return [
            oid
            for oid, optimizer in state.optimizers()
            if oid not in holders and any(self._stands_in(made, optimizer, state) for made in loose)
        ]

    def _stands_in(self, made: Forward, optimizer: OptimizerObject, state: State) -> bool:
        base = self.models.base(made.oid, state)
        return self._replaced(made, base, optimizer, state) is not None

    # --- optimizers --------------------------------------------------------------------

    def create(
        self,
        oid: ObjectId,
        kind: str,
        parameters: Value | None,
        name: str,
        state: State,
        frame: Frame,
        node: ir.Node,
        closure: bool = False,
    ) -> None:
        """An optimizer takes its parameters."""
        sources = self.models.sources(parameters, state) if parameters is not None else None
        if sources is not None and any(state.module(s.oid) is None for s in sources):
            for source in sources:
                self.models.promote(source.oid, state)
        for source in sources or ():
            self.models.as_made(source.oid, state)
        groups = self.models.capture(sources, state) if sources is not None else None
        moves_tensors = parameters is not None and self.run.collections.is_leaf(parameters, state)
        state.heap[oid] = OptimizerObject(
            kind=kind,
            groups=groups,
            created=self.run.origin(frame, node, f"{_quoted(name)} takes its parameters here"),
            gradients=Gradients.ABSENT,
            has_stepped=Certainty.NO,
            closure=closure,
            own_tensors=moves_tensors,
        )
        self.run.names.given[oid] = name
        self.latecomers.taken(state)
        state.update(oid, given_frozen=self._frozen(groups, state)[0])
        facts = self.facts(oid, state)
        # Over an image or a perturbation it may only lend its `zero_grad` to an attack's own step.
        self.records.setdefault(oid, StepRecord(facts, by_hand=moves_tensors))
        self.run.recorder.raise_event(
            OptimizerCreated(
                site=self.run.site(frame, node),
                when=self.run.when,
                optimizer=facts,
                models=tuple(
                    self.models.facts(g.oid, self.run.names.name_of(g.oid, state), state)
                    for g in groups or ()
                ),
            ),
            self.run.rounds,
            state.decisions,
        )

    def promote(self, oid: ObjectId, state: State, name: str) -> OptimizerObject:
        """Take an opaque object for an optimizer of unknown parameters."""
        found = state.heap.get(oid)
        if isinstance(found, OptimizerObject):
            return found
        made = OptimizerObject()
        state.heap[oid] = made
        self.run.names.given.setdefault(oid, name)
        return made

    def facts(self, oid: ObjectId, state: State) -> OptimizerFacts:
        """What rules see of an optimizer."""
        optimizer = state.optimizer(oid)
        assert optimizer is not None
        frozen, origin = self._frozen(optimizer.groups, state)
        scaled = Certainty.YES if optimizer.scaler is not None else Certainty.NO
        scaler = state.heap.get(optimizer.scaler) if optimizer.scaler is not None else None
        if isinstance(scaler, ScalerObject) and scaler.enabled is Certainty.NO:
            scaled = Certainty.NO
        return OptimizerFacts(
            name=self.run.names.name_of(oid, state),
            kind=optimizer.kind,
            created=optimizer.created,
            frozen=frozen,
            frozen_origin=origin,
            given_frozen=optimizer.given_frozen,
            moves_frozen=optimizer.moves_frozen,
            gradients=optimizer.gradients,
            backward=optimizer.backward,
            cleared=optimizer.cleared,
            stepped=optimizer.stepped,
            backward_this_round=optimizer.this_round,
            scaled=scaled,
            scaled_origin=optimizer.scaled_origin,
            clipped=optimizer.clipped,
            uses_closure=optimizer.closure,
        )

    def _frozen(
        self, groups: tuple[ParameterSource, ...] | None, state: State
    ) -> tuple[Share, Origin | None]:
        if not groups:
            return Share.UNKNOWN, None
        shares: set[Share] = set()
        origin: Origin | None = None
        for source in groups:
            fact = self.models.share(source.oid, state)
            origin = origin or fact.origin
            match fact.share:
                case Share.NONE:
                    shares.add(
                        Share.ALL if source.whole or not source.only_trainable else Share.UNKNOWN
                    )
                case Share.ALL:
                    shares.add(Share.NONE)
                case Share.SOME:
                    shares.add(
                        Share.NONE
                        if source.only_trainable
                        else Share.SOME
                        if source.whole
                        else Share.UNKNOWN
                    )
                case Share.UNKNOWN:
                    shares.add(Share.UNKNOWN)
        if len(shares) == 1:
            return shares.pop(), origin
        if Share.UNKNOWN in shares:
            return Share.UNKNOWN, None
        return Share.SOME, origin

    def new_round(self, state: State) -> None:
        """A loop begins another round: gradients there are an earlier round's."""
        for oid, optimizer in state.optimizers():
            if optimizer.this_round:
                state.update(oid, this_round=False)

    def freezing(self, oid: ObjectId, on: bool | None, state: State, origin: Origin) -> None:
        """Parameters were frozen: an optimizer with gradients in them goes on moving them."""
        for key, optimizer in state.optimizers():
            if on is not False:
                if optimizer.moves_frozen is not None and any(
                    self.models.overlap(g.oid, oid, state) for g in optimizer.groups or ()
                ):
                    state.update(key, moves_frozen=None)
                continue
            filled = optimizer.gradients in (
                Gradients.FRESH,
                Gradients.CONSUMED,
                Gradients.MIXED_IN,
            )
            if (
                filled
                and optimizer.groups
                and any(self.models.overlap(g.oid, oid, state) for g in optimizer.groups)
            ):
                state.update(key, moves_frozen=origin)

    def clear(
        self,
        targets: list[ObjectId],
        state: State,
        frame: Frame,
        node: ir.Node,
        to_zero: bool = False,
    ) -> None:
        """`zero_grad()` reaches these optimizers."""
        origin = self.run.origin(frame, node, "gradients are cleared here")
        for oid in targets:
            optimizer = state.optimizer(oid)
            if optimizer is None:
                continue
            event = GradientsCleared(
                site=self.run.site(frame, node),
                when=self.run.when,
                optimizer=self.facts(oid, state),
            )
            self.protocol.cleared(event, oid, state)
            wiped = optimizer.gradients in (Gradients.FRESH, Gradients.MIXED_IN)
            kept = optimizer.gradients is Gradients.WIPED
            state.update(
                oid,
                gradients=Gradients.WIPED if wiped or kept else Gradients.CLEARED,
                cleared=origin if wiped or not kept else optimizer.cleared,
                pending=frozenset(),
                pending_sites=(),
                scaler=None,
                clipped=None,
                moves_frozen=optimizer.moves_frozen if to_zero else None,
                accumulated=False,
            )
            if oid in self.records:
                self.records[oid].cleared = True

    def cleared_parameters(self, sources: tuple[ParameterSource, ...], state: State) -> None:
        """`p.grad = None` for the parameters of some modules."""
        for source in sources:
            self.cleared_by_hand.add(self.models.base(source.oid, state))
            for oid in self.of_model(source.oid, state):
                self.clear_unknown(state, [oid])
                state.update(oid, moves_frozen=None)

    def written_by_hand(self, gradient: Value, state: State) -> bool:
        """`p.grad.add_(...)`: gradients come from somewhere else than a backward."""
        oid = gradient.oid if isinstance(gradient, Ref) else None
        while isinstance(oid, tuple) and len(oid) == 3 and oid[0] == "attr":
            if oid[2] == "grad":
                self._written(oid[1], state)
                return True
            oid = oid[1]
        return False

    def _written(self, owner: ObjectId, state: State) -> None:
        parameter = owner[1] if isinstance(owner, tuple) and owner[:1] == ("parameter",) else None
        targets = None
        if isinstance(parameter, ParameterValue):
            targets = [o for s in parameter.sources for o in self.of_model(s.oid, state)]
        self.clear_unknown(state, targets)
        self.filled_by_hand()

    def clear_unknown(self, state: State, oids: list[ObjectId] | None = None) -> None:
        """Something may have cleared gradients."""
        for oid, _ in state.optimizers():
            if oids is None or oid in oids:
                state.update(
                    oid,
                    gradients=Gradients.UNKNOWN,
                    pending=frozenset(),
                    pending_sites=(),
                    scaler=None,
                )

    def of_model(self, oid: ObjectId, state: State) -> list[ObjectId]:
        """Optimizers that hold, or may hold, a model's parameters."""
        return [
            key
            for key, optimizer in state.optimizers()
            if optimizer.groups is None
            or any(self.models.overlap(g.oid, oid, state) for g in optimizer.groups)
        ]

    def step(
        self,
        oid: ObjectId,
        state: State,
        frame: Frame,
        node: ir.Node,
        *,
        through_scaler: bool = False,
        closure: bool = False,
        seen: bool = False,
    ) -> None:
        """`optimizer.step()`; `seen`: its closure is known and has just been run once."""
        optimizer = state.optimizer(oid)
        if optimizer is None:
            return
        site = self.run.site(frame, node)
        self.run.recorder.reaches(site, self.run.open)
        facts = self.facts(oid, state)
        if seen:
            facts = replace(facts, uses_closure=False)
            if oid in self.records:
                self.records[oid].facts = replace(self.records[oid].facts, uses_closure=False)
        # Of a closure's round only this is certain: a backward added to what a step had used.
        piled = seen and optimizer.gradients is Gradients.MIXED_IN
        if not (closure or optimizer.closure or optimizer.managed) or piled:
            event = OptimizerStep(
                site=site,
                when=self.run.when,
                optimizer=facts,
                through_scaler=through_scaler,
                in_loop=bool(self.run.loops),
            )
            if self.protocol.stepped(event, oid, state):
                self.run.recorder.raise_event(event, self.run.rounds, state.decisions)
            self._accumulated(optimizer, facts, site, state)
        filled = optimizer.gradients in (Gradients.FRESH, Gradients.MIXED_IN)
        if filled and optimizer.pending and not optimizer.own_tensors:
            self._train(oid, optimizer, facts, state, frame, site)
        record = self.records.get(oid)
        if record is not None:
            record.stepped = True
            record.fed |= optimizer.gradients not in (Gradients.ABSENT, Gradients.CLEARED)
            record.step_site = site
            record.ran = record.ran or record.backward is not None or self._ran(optimizer, state)
            record.holds |= {self.models.base(g.oid, state) for g in optimizer.groups or ()}
        filled = optimizer.gradients in (Gradients.FRESH, Gradients.MIXED_IN, Gradients.CONSUMED)
        unknown = optimizer.gradients is Gradients.UNKNOWN
        state.update(
            oid,
            gradients=(
                Gradients.CONSUMED
                if filled or (unknown and optimizer.backward is not None)
                else optimizer.gradients
                if unknown or optimizer.gradients is Gradients.ABSENT
                else Gradients.CLEARED
            ),
            stepped=self.run.origin(frame, node, "the step uses the gradients here"),
            has_stepped=Certainty.YES,
            pending=frozenset(),
            pending_sites=(),
            clipped=None,
            scaler=None,
            accumulated=False,
        )

    def _ran(self, optimizer: OptimizerObject, state: State) -> bool:
        """Whether a forward of what it holds was seen; where that is unknown, it may have been."""
        if optimizer.groups is None:
            return True
        ran = {seen.oid for seen in self.forwards.values()}
        held = [group.oid for group in optimizer.groups]
        return any(self.models.overlap(oid, other, state) for oid in held for other in ran)

    def _accumulated(
        self, optimizer: OptimizerObject, facts: OptimizerFacts, site: Site, state: State
    ) -> None:
        if not optimizer.accumulated or optimizer.gradients is not Gradients.FRESH:
            return
        losses = optimizer.pending
        known = bool(losses) and all(t.forwards and not t.divided for t in losses)
        event = AccumulationStep(
            site=site,
            when=self.run.when,
            divided=Certainty.NO if known else Certainty.UNKNOWN,
            optimizer=facts,
        )
        self.run.recorder.raise_event(event, self.run.rounds, state.decisions)

    def _train(
        self,
        oid: ObjectId,
        optimizer: OptimizerObject,
        facts: OptimizerFacts,
        state: State,
        frame: Frame,
        site: Site,
    ) -> None:
        everyone = frozenset(f for t in optimizer.pending for f in t.forwards)
        learning = frozenset(f for f in everyone if not self._gives_values_only(f, state))
        forwards = _ordered(learning or everyone)
        backward = optimizer.pending_sites[-1].site if optimizer.pending_sites else site
        missing, stale = self.gaps(oid, optimizer, forwards, state)
        trained = [f for f in forwards if stale or not self._in_no_optimizer(f, state)]
        # What another optimizer holds takes part in the loss and does not move in this step.
        trained = [f for f in trained if stale or self._holds(optimizer, f, state)] or trained
        if optimizer.groups is None:
            # Of what may be trained, a network that was made to rest is there for its values.
            trained = [f for f in trained if f.facts.mode.by != "__init__()"] or trained
        models = _unique(self._now(f, state) for f in trained or forwards)
        losses = tuple(
            self.loss_facts(t, "loss") for t in sorted(optimizer.pending, key=_tensor_order)
        )
        owner = self.run.hooked.owner
        for made in forwards:
            base = self.models.base(made.oid, state)
            self.trained_models.setdefault(base, Origin(backward, "trained here"))
            self.trained_in.setdefault(base, set()).update(loop.node for loop in self.run.loops)
        self.run.recorder.raise_event(
            TrainStep(
                site=backward,
                when=self.run.when,
                step=site,
                models=models,
                optimizer=replace(facts, missing=missing, stale=stale),
                losses=losses,
                checkpointing=self._checkpointing(forwards, state),
                framework=owner.framework if owner is not None else None,
                modes_before=owner.before if owner is not None else frozenset(),
            ),
            self.run.rounds,
            self.run.branches.not_around(state.decisions),
        )
        self.run.adapters.stepped(forwards, backward, models, state)
        if not (stale or missing):
            self._pile_up(forwards, state, backward)
        for made in forwards:
            for part in self.models.reach(made.oid, state):
                state.update(part, trained=True)
                if self.models.share(part, state).share is not Share.NONE:
                    self.trained_parts.setdefault(part, Origin(backward, "trained here"))

    def _now(self, made: Forward, state: State) -> ModelFacts:
        """The model as it is now, with the modes it had when it ran."""
        if state.module(made.oid) is None:
            return made.facts
        now = self.models.facts(made.oid, made.facts.name, state)
        return replace(
            now,
            mode=made.facts.mode,
            parts=made.facts.parts,
            overridden=made.facts.overridden,
            flag_assigned=made.facts.flag_assigned,
            evaluated=made.facts.evaluated,
            trained=made.facts.trained,
        )

    def _checkpointing(self, forwards: list[Forward], state: State) -> Certainty:
        on = any(
            (m := state.module(part)) is not None and m.checkpointing
            for f in forwards
            for part in self.models.reach(f.oid, state)
        )
        return Certainty.YES if on else Certainty.NO

    def _in_no_optimizer(self, made: Forward, state: State) -> bool:
        """Whether a model gets gradients that no optimizer uses."""
        known = [o for _, o in state.optimizers()]
        if any(o.groups is None for o in known):
            return False
        held = [g.oid for o in known for g in o.groups or ()]
        module = state.module(made.oid)
        if module is None or module.loss or made.grad is not Certainty.YES:
            return False
        if any(self.models.overlap(made.oid, h, state) for h in held):
            return False
        return self.models.share(made.oid, state).share is not Share.NONE

    def _holds(self, optimizer: OptimizerObject, made: Forward, state: State) -> bool:
        groups = optimizer.groups
        return groups is None or any(self.models.overlap(g.oid, made.oid, state) for g in groups)

    def gradients_wanted(self, sources: tuple[ParameterSource, ...], state: State) -> None:
        """Somebody looks at a network's gradients, such as one who hands them to another."""
        self.cleared_by_hand.update(self.models.base(s.oid, state) for s in sources)

    def _pile_up(self, forwards: list[Forward], state: State, backward: Site) -> None:
        if not self.run.loops:
            return
        for made in forwards:
            certain = self.models.share(made.oid, state).share is Share.ALL
            certain = certain and self.models.has_weights(made.oid, state)
            if certain and self._in_no_optimizer(made, state):
                event = GradientsPileUp(
                    site=backward,
                    when=self.run.when,
                    model=self._now(made, state),
                    backward=backward,
                )
                base = self.models.base(made.oid, state)
                self.pile_ups.append((event, base, self.run.rounds, state.decisions))

    def gaps(
        self,
        oid: ObjectId,
        optimizer: OptimizerObject,
        forwards: list[Forward],
        state: State,
    ) -> tuple[tuple[ParameterGap, ...], tuple[ParameterGap, ...]]:
        """What trains and no optimizer holds; what the optimizer holds and nothing trains."""
        everyone = [o for _, o in state.optimizers()]
        if any(o.groups is None for o in everyone) or optimizer.groups is None:
            return (), ()
        sources = [g for o in everyone for g in o.groups or ()]
        missing: list[ParameterGap] = []
        stale: list[ParameterGap] = []
        for made in forwards:
            reached = self.models.reach(made.oid, state)
            base = self.models.base(made.oid, state)
            mine = [s for s in sources if self.models.overlap(s.oid, made.oid, state)]
            if not mine:
                gap = self._replaced(made, base, optimizer, state, forwards)
                if gap is not None:
                    stale.append(gap)
                else:
                    missing.extend(self.latecomers.gaps(made, sources, state))
                continue
            for part in reached:
                module = state.module(part)
                if module is not None:
                    missing.extend(self._missing(part, module, made, mine, state))
            missing.extend(self._came_late(made, mine, state))
            if not missing:
                missing.extend(self.latecomers.gaps(made, sources, state))
        return tuple(dict.fromkeys(missing)), tuple(dict.fromkeys(stale))

    def _came_late(
        self, made: Forward, mine: list[ParameterSource], state: State
    ) -> Iterator[ParameterGap]:
        """A part that is called by itself and came to its whole when the whole was taken."""
        held = {source.oid for source in mine}
        if held & set(self.models.reach(made.oid, state)):
            return
        if self.models.share(made.oid, state).share is Share.NONE:
            return
        wholes = dict.fromkeys(p for oid in held for p in self.models.reach(oid, state))
        changes = {c for p in wholes if (m := state.module(p)) is not None for c in m.changes}
        for change in sorted(changes, key=lambda c: str(c.key)):
            if change.part is None or any(change.key in s.changes for s in mine):
                continue
            new = self.models.reach(change.part, state)
            if made.oid in new and not held & set(new):
                yield ParameterGap(made.facts.name, change.what, change.cause, change.origin)

    def _missing(
        self,
        part: ObjectId,
        module: ModuleObject,
        made: Forward,
        mine: list[ParameterSource],
        state: State,
    ) -> list[ParameterGap]:
        found = []
        for change in sorted(module.changes, key=lambda c: str(c.key)):
            if any(change.key in s.changes for s in mine):
                continue
            if change.part is not None:
                new = state.module(change.part)
                if new is None or self.models.share(change.part, state).share is Share.NONE:
                    continue
                own = self.models.reach(change.part, state)
                if any(s.oid in own for s in mine):
                    continue
            found.append(ParameterGap(made.facts.name, change.what, change.cause, change.origin))
        fact = module.trainable
        for source in mine:
            late = part in source.frozen_then and fact.share in (Share.ALL, Share.SOME)
            late |= part in source.partly_then and fact.share is Share.ALL
            elsewhere = any(
                s is not source
                and part in self.models.reach(s.oid, state)
                and part not in s.frozen_then
                for s in mine
            )
            if late and fact.origin is not None and not elsewhere:
                what, cause = (
                    f"the unfrozen `{self.run.names.name_of(part, state)}`",
                    Cause.UNFROZEN,
                )
                if fact.cause is Cause.PEFT_ACTIVATION and isinstance(part, tuple):
                    what = f"adapter `{shown(str(part[-1]).removeprefix(ADAPTER))}`"
                    cause = Cause.PEFT_ACTIVATION
                found.append(ParameterGap(made.facts.name, what, cause, fact.origin))
        return found

    def _replaced(
        self,
        made: Forward,
        base: ObjectId,
        optimizer: OptimizerObject,
        state: State,
        beside: Sequence[Forward] = (),
    ) -> ParameterGap | None:
        """How a model came to stand where one stood that the optimizer holds, if it did.

        Not while the other gives the same loss `beside` it: the teacher may be a student's copy.
        """
        module = state.module(base)
        if module is None:
            return None
        for source in optimizer.groups or ():
            held = self.models.base(source.oid, state)
            if any(self.models.overlap(held, other.oid, state) for other in beside):
                continue
            for part in (*self._wrapped(made.oid, state), *self._wholes(made.oid, state)):
                if part.replaces is not None and self.models.overlap(part.replaces, held, state):
                    return ParameterGap(
                        made.facts.name, "the new model", Cause.REBUILT, part.replaced_at
                    )
            if held == ("old", base):
                origin = self._born(base, made)
                return ParameterGap(made.facts.name, "the new model", Cause.REBUILT, origin)
            for oid in (base, *self.models.reach(made.oid, state)):
                found = state.module(oid)
                copy = found.copy_of if found is not None else None
                if copy is not None and self.models.overlap(copy, held, state):
                    origin = self._born(oid, made)
                    return ParameterGap(made.facts.name, "the copy", Cause.COPIED, origin)
        return None

    def _wholes(self, oid: ObjectId, state: State) -> list[ModuleObject]:
        """The models that took another's place and that a module, called by itself, is part of."""
        new = [(o, m) for o, m in state.modules() if m.replaces is not None and o != oid]
        return [m for o, m in new if oid in self.models.reach(o, state)]

    @staticmethod
    def _wrapped(oid: ObjectId, state: State) -> list[ModuleObject]:
        """A module and what it wraps, from the outside in."""
        found: list[ModuleObject] = []
        module = state.module(oid)
        while module is not None and len(found) < 8:
            found.append(module)
            module = state.module(module.wraps) if module.wraps is not None else None
        return found

    def _born(self, oid: ObjectId, made: Forward) -> Origin | None:
        if isinstance(oid, tuple) and len(oid) == 4 and isinstance(oid[2], int):
            return Origin(Site(str(oid[1]), oid[2]), "the model in training is made here")
        return made.facts.mode.origin

    # --- clipping, scaling, scheduling -------------------------------------------------

    def clip(
        self,
        parameters: Value,
        state: State,
        frame: Frame,
        node: ir.Node,
        measures: bool = False,
        limit_scaled: bool = False,
    ) -> None:
        """Gradients of these parameters are clipped."""
        sources = self.models.sources(parameters, state)
        origin = self.run.origin(frame, node, "gradients are clipped here")
        for oid, optimizer in list(state.optimizers()):
            holds = (
                sources is not None
                and optimizer.groups is not None
                and any(
                    self.models.overlap(g.oid, s.oid, state)
                    for g in optimizer.groups
                    for s in sources
                )
            )
            only = sources is None and len(list(state.optimizers())) == 1
            if not (
                holds or only or (optimizer.groups is None and len(list(state.optimizers())) == 1)
            ):
                continue
            if sources is not None and self._means_another(oid, sources, state):
                continue
            self.run.recorder.raise_event(
                GradientsClipped(
                    site=self.run.site(frame, node),
                    when=self.run.when,
                    optimizer=self.facts(oid, state),
                    measures=measures,
                    limit_scaled=limit_scaled,
                ),
                self.run.rounds,
                state.decisions,
            )
            state.update(oid, clipped=origin)

    def _means_another(
        self, oid: ObjectId, sources: tuple[ParameterSource, ...], state: State
    ) -> bool:
        """Whether a choice of a model's parameters is that of an optimizer yet to step.

        Each of two optimizers holds some of one model, and clips its own before its own step.
        """
        waits = (Gradients.FRESH, Gradients.MIXED_IN)
        stepped = state.optimizer(oid)
        if stepped is None or stepped.gradients in waits or all(s.whole for s in sources):
            return False
        return any(
            other.gradients in waits
            and any(
                self.models.overlap(g.oid, s.oid, state) for g in _groups(other) for s in sources
            )
            for _, other in state.optimizers()
        )

    def unscale(self, oid: ObjectId, state: State) -> None:
        """`scaler.unscale_(optimizer)`."""
        if state.optimizer(oid) is not None:
            state.update(oid, scaler=None)

    def schedule(
        self,
        scheduler: SchedulerObject,
        name: str,
        state: State,
        frame: Frame,
        node: ir.Node,
        epoch_given: bool,
    ) -> None:
        """`scheduler.step()`."""
        optimizer = state.optimizer(scheduler.optimizer) if scheduler.optimizer else None
        if optimizer is None:
            return
        stepped = {
            Certainty.YES: Certainty.NO,
            Certainty.NO: Certainty.YES,
            Certainty.UNKNOWN: Certainty.UNKNOWN,
        }[optimizer.has_stepped]
        event = SchedulerStep(
            site=self.run.site(frame, node),
            when=self.run.when,
            name=name,
            optimizer=self.facts(scheduler.optimizer, state),
            before_optimizer=stepped,
            epoch_given=epoch_given,
        )
        self.protocol.scheduled(event, scheduler.optimizer, state)


def _groups(optimizer: OptimizerObject | None) -> tuple[ParameterSource, ...]:
    return (optimizer.groups or ()) if optimizer is not None else ()


def _quoted(name: str) -> str:
    return name if " " in name else f"`{name}`"


def _is_asked(model: ModelFacts) -> bool:
    """Somebody called `eval()` on it."""
    return model.mode.mode is Mode.EVAL and model.mode.cause is Cause.EXPLICIT_CALL


def _is_ungraphed(value: Value) -> bool:
    """`Variable(x, volatile=True)`, of the days before `no_grad`."""
    return isinstance(value, Ref) and isinstance(value.oid, tuple) and value.oid[0] == UNGRAPHED


def _ordered(forwards: frozenset[Forward]) -> list[Forward]:
    return sorted(
        forwards, key=lambda f: (f.facts.name, str(f.site[:2] if isinstance(f.site, tuple) else ""))
    )


def _tensor_order(tensor: Tensor) -> str:
    return ",".join(f.facts.name for f in _ordered(tensor.forwards))


def _unique(models: Iterable[ModelFacts]) -> tuple[ModelFacts, ...]:
    return tuple(dict.fromkeys(models))


__all__ = ["Training"]
