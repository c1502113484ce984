"""Calls of library functions and classes, as the tables tell them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from trainlint.core.facts import (
    Certainty,
    Cut,
    Mode,
    ModeFact,
    Share,
    TrainableFact,
)
from trainlint.flow import builtin_calls, ir, methods
from trainlint.flow.adapters import Place
from trainlint.flow.arguments import Arguments
from trainlint.flow.frames import Frame
from trainlint.flow.ir import spelled
from trainlint.flow.models import LOADED, UNGRAPHED
from trainlint.flow.state import (
    LibraryObject,
    ListObject,
    ModuleObject,
    ParametersObject,
    ScalerObject,
    SchedulerObject,
    SharedSampler,
    State,
)
from trainlint.flow.tensors import UNORDERED
from trainlint.flow.values import (
    FALSE,
    NONE,
    TRUE,
    Const,
    External,
    Func,
    Method,
    ObjectId,
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


class LibraryCalls:
    """Calls of library functions and classes, as the tables tell them."""

    def __init__(self, interpreter: Interpreter) -> None:
        self.run = interpreter

    def library_call(
        self, path: str, arguments: Arguments, state: State, frame: Frame, node: ir.Call
    ) -> Evaluated:
        """Call something of a library by its dotted path."""
        handled = builtin_calls.call(self.run, path, arguments, state, frame, node)
        if handled is not None:
            return handled
        spec = LIBRARY.call(path)
        if spec is None:
            return self._unlisted(path, arguments, state, frame, node)
        return self._listed(spec, path, arguments, state, frame, node)

    def _unlisted(
        self, path: str, arguments: Arguments, state: State, frame: Frame, node: ir.Call
    ) -> Evaluated:
        if path in self.run.semantics:
            return self._user_semantics(self.run.semantics[path], arguments, state, frame, node)
        if LIBRARY.is_harmless(path):
            state = self.run.execution.callbacks(arguments, state, frame, node)
            made = self.run.calls.unknown_call(arguments, state, frame, node, havoc=False)
            if LIBRARY.gives_numbers(path):
                self.run.collections.hold_no_graph(made)
            return made
        if path.startswith("torch.") and not path.startswith("torch.nn.utils"):
            computed = self.run.tensors.combine(arguments.values, "call", state)
            function = path.count(".") == 1 or path.startswith("torch.nn.functional.")
            data = function and self.run.collections.is_data(computed)
            if data or isinstance(computed, Tensor):
                return [(state, computed)]
            return self.run.calls.unknown_call(arguments, state, frame, node, havoc=False)
        return self.run.calls.made_elsewhere(path.rsplit(".", 1)[-1], arguments, state, frame, node)

    def _user_semantics(
        self, kind: str, arguments: Arguments, state: State, frame: Frame, node: ir.Call
    ) -> Evaluated:
        first = arguments.get("model", 0)
        match kind:
            case "train" | "eval" if isinstance(first, Ref):
                mode = Mode.TRAIN if kind == "train" else Mode.EVAL
                return [
                    (st, first)
                    for st in self.run.models.set_mode(first.oid, mode, state, frame, node)
                ]
            case "backward" if first is not None:
                self.run.training.backward(first, "loss", state, frame, node)
                return [(state, NONE)]
            case "no_grad":
                return [(state, self.run.contexts.context("no_grad", None, state, frame, node))]
            case "factory":
                return [(state, self._factory(sp.Factory(), "", state, frame, node))]
            case _:
                return self.run.calls.unknown_call(arguments, state, frame, node)

    def _factory(
        self, spec: sp.Factory, path: str, state: State, frame: Frame, node: ir.Node
    ) -> Ref:
        ref = self.run.fresh(state, frame, node)
        word = "eval" if spec.mode is Mode.EVAL else "train"
        short = path.rsplit(".", 1)[-1]
        origin = self.run.origin(frame, node, f"`{short}` returns the model in {word} mode")
        state.heap[ref.oid] = ModuleObject(
            library=path,
            flag=ModeFact(spec.mode, spec.cause, origin),
            trainable=TrainableFact(spec.trainable),
            sensitive=spec.sensitive,
            loaded=origin if spec.pretrained and spec.mode is Mode.EVAL else None,
        )
        return ref

    def _note_class(
        self,
        oid: ObjectId,
        spec: sp.Factory,
        path: str,
        arguments: Arguments,
        state: State,
        frame: Frame,
        node: ir.Node,
    ) -> None:
        """What the class's name and the arguments tell of a factory's model."""
        cls = path.rsplit(".", 2)[-2] if path.count(".") > 1 else ""
        state.update(oid, pixels=bool(spec.pixels) and cls.endswith(spec.pixels))
        checkpoint = arguments.get("pretrained_model_name_or_path", 0)
        name = str(checkpoint.value).lower() if isinstance(checkpoint, Const) else ""
        asked = any(arguments.get(a) is not None for a in spec.head_arguments)
        fresh = bool(spec.heads) and cls.endswith(spec.heads) and asked
        fresh = fresh and not any(word in name for word in spec.trained_heads)
        if fresh or self._is_resized(spec, arguments):
            origin = self.run.origin(frame, node, "its head is made anew here")
            state.update(oid, fresh_head=origin)

    @staticmethod
    def _is_resized(spec: sp.Factory, arguments: Arguments) -> bool:
        """Whether pretrained weights get a head of a size that no checkpoint has.

        A model of the hub may have been trained with a head of just that size.
        """
        name = arguments.get("model_name", 0)
        hub = isinstance(name, Const) and "hub:" in str(name.value)
        if not spec.stock_heads or hub or arguments.get("pretrained", 1) != TRUE:
            return False
        given = [arguments.get(a) for a in spec.head_arguments]
        sizes = [g.value for g in given if isinstance(g, Const) and isinstance(g.value, int)]
        return bool(sizes) and not any(size in spec.stock_heads for size in sizes)

    def _listed(
        self,
        spec: sp.Spec,
        path: str,
        arguments: Arguments,
        state: State,
        frame: Frame,
        node: ir.Call,
    ) -> Evaluated:
        match spec:
            case sp.Layer():
                return [(state, self._layer(spec, path, arguments, state, frame, node))]
            case sp.Factory():
                made = self._factory(spec, path, state, frame, node)
                self._note_class(made.oid, spec, path, arguments, state, frame, node)
                return [(state, made)]
            case sp.Settings() | sp.Inject() | sp.LoadAdapters() | sp.PrepareQuantised():
                place = Place(state, frame, node)
                return [(state, self.run.adapters.library(spec, path, arguments, place))]
            case sp.TrainerClass():
                place = Place(state, frame, node)
                return [(state, self.run.trainers.construct(spec, path, arguments, place))]
            case sp.Wrapper():
                return [(state, self._wrap(spec, path, arguments, state, frame, node))]
            case sp.OptimizerClass():
                return [(state, self._optimizer(spec, path, arguments, state, frame, node))]
            case sp.SchedulerClass(argument=argument, warns=warns):
                target = arguments.get(argument, 0)
                if (
                    target is None
                    or not isinstance(target, Ref)
                    or state.optimizer(target.oid) is None
                ):
                    target = next(
                        (
                            v
                            for v in arguments.values
                            if isinstance(v, Ref) and state.optimizer(v.oid)
                        ),
                        target,
                    )
                ref = self.run.fresh(state, frame, node)
                oid = target.oid if isinstance(target, Ref) and warns else None
                state.heap[ref.oid] = SchedulerObject(oid, path.rsplit(".", 1)[-1])
                return [(state, ref)]
            case sp.ScalerClass():
                enabled = arguments.get("enabled")
                certain = Certainty.UNKNOWN
                if enabled in (None, TRUE, FALSE):
                    certain = Certainty.NO if enabled == FALSE else Certainty.YES
                ref = self.run.fresh(state, frame, node)
                state.heap[ref.oid] = ScalerObject(certain)
                return [(state, ref)]
            case sp.Context(kind=kind):
                first = arguments.get("mode", 0)
                # `@torch.no_grad` on a function, called as `torch.no_grad(f)`.
                if isinstance(first, Func):
                    return [(state, replace(first, contexts=(*first.contexts, External(path))))]
                return [(state, self.run.contexts.context(kind, first, state, frame, node))]
            case sp.LossClass(name=name):
                ref = self.run.fresh(state, frame, node)
                state.heap[ref.oid] = ModuleObject(
                    library=path,
                    flag=ModeFact(Mode.TRAIN),
                    sensitive=Certainty.NO,
                    parametric=False,
                    loss=name or path.rsplit(".", 1)[-1],
                )
                return [(state, ref)]
            case sp.LossFunction(name=name):
                kind = name or path.rsplit(".", 1)[-1]
                return [(state, self.run.calls.loss(kind, arguments, state, frame, node, path))]
            case sp.Same(ungraphed=flag) if flag and arguments.get(flag) == TRUE:
                return [(state, self.run.fresh(state, frame, node, UNGRAPHED))]
            case sp.Same(argument=position, ungraphed=flag):
                same = (
                    arguments.positional[position]
                    if position < len(arguments.positional)
                    else (arguments.values[0] if arguments.values else NONE)
                )
                if arguments.get("requires_grad") == TRUE:
                    self.run.collections.wants_gradient(same, certainly_tensor=bool(flag))
                if flag and isinstance(same, Tensor):
                    same = self.run.attributes.wrapped_again(same, arguments, frame, node)
                return [(state, same)]
            case sp.Copy():
                return [(state, self._copy(arguments, state, frame, node))]
            case sp.Cuts(how=how):
                joined = self.run.tensors.combine(arguments.values, "call", state)
                if isinstance(joined, Tensor):
                    severed = self.run.tensors.cut(joined, how, frame, node)
                    if how is Cut.REBUILT and isinstance(severed, Tensor):
                        severed = replace(severed, leaf=arguments.get("requires_grad") == TRUE)
                    return [(state, severed)]
                numbers = self.run.calls.unknown_call(arguments, state, frame, node, havoc=False)
                if arguments.get("requires_grad") in (None, FALSE):
                    self.run.collections.hold_no_graph(numbers)
                elif how is Cut.REBUILT and arguments.get("requires_grad") == TRUE:
                    self.run.collections.leaves_are(numbers)
                return numbers
            case sp.Creates():
                made = self.run.fresh(state, frame, node, "result")
                if arguments.get("requires_grad") in (None, FALSE):
                    self.run.collections.hold_no_graph([(state, made)])
                elif arguments.get("requires_grad") == TRUE:
                    self.run.collections.leaves_are([(state, made)])
                return [(state, made)]
            case sp.Clip(argument=argument):
                return self._clip(argument, arguments, state, frame, node)
            case sp.BackwardFunction(fills=fills):
                return self._backward_function(fills, arguments, state, frame, node)
            case sp.Role(role=role, keeps=keeps):
                ref = self.run.fresh(state, frame, node)
                links = tuple((n, v) for n, p in keeps if (v := arguments.get(n, p)) is not None)
                if role == "accelerator" and not arguments.complete and not links:
                    # `Accelerator(**settings)`: how many micro-batches is not known.
                    links = tuple((name, Ref(("hidden", ref.oid, name))) for name, _ in keeps)
                if role == "distributed_sampler":
                    state.heap[ref.oid] = SharedSampler(role, path, links)
                    self.run.epochs.made(ref.oid)
                else:
                    state.heap[ref.oid] = LibraryObject(role, path, links)
                return [(state, ref)]
            case sp.Activation(name=name):
                joined = self.run.tensors.combine(
                    arguments.positional[:1] or arguments.values, "call", state
                )
                if isinstance(joined, Tensor):
                    origin = self.run.origin(frame, node, f"{name} is applied here")
                    joined = replace(joined, activation=name, activation_origin=origin)
                return [(state, joined)]
            case sp.Packs():
                joined = self.run.tensors.combine(arguments.values[:1], "call", state)
                if isinstance(joined, Tensor):
                    joined = replace(joined, packed=True)
                return [(state, joined)]
            case sp.Reshape():
                joined = self.run.tensors.combine(
                    arguments.positional[:1] or arguments.values, "call"
                )
                first = arguments.get("input", 0)
                if isinstance(joined, Tensor) and isinstance(first, Tensor):
                    joined = replace(
                        joined,
                        activation=first.activation,
                        activation_origin=first.activation_origin,
                    )
                return [(state, joined)]
            case sp.Harmless() | sp.DropoutFunction():
                return self.run.calls.unknown_call(arguments, state, frame, node, havoc=False)
            case sp.Runs(argument=name, position=position):
                network = arguments.get(name, position)
                return self.runs(network, arguments, state, frame, node)
            case sp.Operation(name=name):
                return self._operation(name, path, arguments, state, frame, node)

    def _operation(
        self, name: str, path: str, arguments: Arguments, state: State, frame: Frame, node: ir.Call
    ) -> Evaluated:
        first = arguments.values[0] if arguments.values else NONE
        match name:
            case "spawn":
                state = self.run.execution.callbacks(arguments, state, frame, node)
                return [(state, NONE)]
            case "engine":
                return [(state, self.run.engines.initialize(arguments, Place(state, frame, node)))]
            case "lightning_cli":
                return self.run.hooked.command_line(arguments, Place(state, frame, node))
            case "is_grad_enabled" if state.grad.on is not Certainty.UNKNOWN:
                return [(state, const(state.grad.on is Certainty.YES))]
            case "load":
                return [(state, self.run.fresh(state, frame, node, LOADED))]
            case "restored":
                if isinstance(first, Ref) and state.module(first.oid) is not None:
                    note = "adapters are loaded here"
                    self.run.models.loaded(first.oid, state, self.run.origin(frame, node, note))
                return [(state, self.run.fresh(state, frame, node, "result"))]
            case "same_all":
                if len(arguments.positional) > 1:
                    return [(state, TupleValue(arguments.positional[:2]))]
                return [(state, first)]
            case "scale_loss":
                ref = self.run.fresh(state, frame, node, "context")
                state.heap[ref.oid] = LibraryObject("scaled_loss", links=(("loss", first),))
                return [(state, ref)]
            case "average":
                return [(state, self._average(arguments, state, frame, node))]
            case "functional_call" | "checkpoint":
                if isinstance(first, Ref) and state.module(first.oid) is not None:
                    made = self.run.training.forward(
                        first.oid,
                        self.run.names.name_of(first.oid, state),
                        arguments.values[1:],
                        state,
                        frame,
                        node,
                        record=False,
                    )
                    return [(state, made)]
                if isinstance(first, Func | Method):
                    rest = Arguments(arguments.positional[1:], (), arguments.complete)
                    return self.run.calls.call(first, rest, state, frame, node)
                return self.run.calls.unknown_call(arguments, state, frame, node, havoc=False)
            case "master_params":
                ref = self.run.fresh(state, frame, node, "params")
                optimizer = state.optimizer(first.oid) if isinstance(first, Ref) else None
                groups = optimizer.groups if optimizer is not None else None
                state.heap[ref.oid] = ParametersObject(groups or (), groups is not None)
                return [(state, ref)]
            case "parameter":
                leaves = self.run.calls.unknown_call(arguments, state, frame, node, havoc=False)
                self.run.collections.leaves_are(leaves)
                return leaves
            case _:
                return self.run.calls.unknown_call(arguments, state, frame, node, havoc=False)

    def runs(
        self,
        network: Value | None,
        arguments: Arguments,
        state: State,
        frame: Frame,
        node: ir.Call,
    ) -> Evaluated:
        """A library runs the network that it was handed, or the function around one."""
        others = tuple(v for v in arguments.values if v != network)
        match network:
            case Ref(oid=oid) if state.module(oid) is not None:
                name = self.run.names.name_of(oid, state)
                return self.run.calls.forward(oid, name, Arguments(others), state, frame, node)
            case Func() | Method():
                inputs = Arguments(others[:1], (), False)
                return self.run.calls.call(network, inputs, state, frame, node)
            case _:
                return self.run.calls.unknown_call(arguments, state, frame, node, havoc=False)

    def _average(self, arguments: Arguments, state: State, frame: Frame, node: ir.Call) -> Ref:
        copy = self._copy(arguments, state, frame, node)
        if isinstance(copy, Ref) and state.module(copy.oid) is not None:
            unknown = TrainableFact(Share.UNKNOWN)
            state.update(copy.oid, follows=True, copy_of=None, trainable=unknown)
            return copy
        return self.run.fresh(state, frame, node)

    def _copy(self, arguments: Arguments, state: State, frame: Frame, node: ir.Node) -> Value:
        first = arguments.values[0] if arguments.values else NONE
        if not isinstance(first, Ref):
            return first
        thing = state.heap.get(first.oid)
        if thing is not None and not isinstance(thing, ModuleObject):
            return first
        ref = self.run.fresh(state, frame, node)
        if thing is None:
            return ref
        # a copy of this call's own earlier result (`net = deepcopy(net)` in a loop): retired above
        source = first.oid if state.module(first.oid) is not None else ("old", first.oid)
        self._copy_module(source, ref.oid, state, 0)
        if ref.oid in state.heap:
            state.update(ref.oid, copy_of=source)
        return ref

    def _copy_module(self, old: ObjectId, new: ObjectId, state: State, depth: int) -> None:
        module = state.module(old)
        if module is None or depth > 6:
            return
        flag = module.flag
        if flag.mode is Mode.TRAIN:  # what was asked of the original was not asked of the copy
            flag = replace(flag, cause=None)
        state.heap[new] = replace(module, changes=frozenset(), copy_of=old, flag=flag)
        for name, child in self.run.models.children(old, state):
            twin = ("attr", new, name)
            self._copy_module(child, twin, state, depth + 1)
            state.attrs[new, name] = Ref(twin)
            if module.wraps == child:
                state.update(new, wraps=twin)
        for name, value in state.attrs.of(old):
            state.attrs.setdefault((new, name), value)

    def _layer(
        self,
        spec: sp.Layer,
        path: str,
        arguments: Arguments,
        state: State,
        frame: Frame,
        node: ir.Node,
    ) -> Ref:
        ref = self.run.fresh(state, frame, node)
        sensitive = Certainty.YES if spec.sensitive else Certainty.NO
        if spec.sensitive and spec.only_if:
            given = arguments.get(spec.only_if)
            if given is None or given in (FALSE, const(0), const(0.0)):
                sensitive = Certainty.NO
        if spec.sensitive and spec.unless_zero:
            given = arguments.get(spec.unless_zero, 0 if spec.unless_zero == "p" else None)
            if isinstance(given, Const) and given.value == 0:
                sensitive = Certainty.NO
        if spec.rates and not any(_drops(arguments, *rate) for rate in spec.rates):
            sensitive = Certainty.NO if arguments.complete else Certainty.UNKNOWN
        activation = spec.activation
        if spec.unless_given[0] and (
            arguments.get(*spec.unless_given) is not None or not arguments.complete
        ):
            activation = ""
        state.heap[ref.oid] = ModuleObject(
            library=path,
            flag=ModeFact(Mode.TRAIN),
            trainable=TrainableFact(Share.ALL),
            sensitive=sensitive,
            parametric=spec.parametric or spec.container,
            activation=activation,
            fresh=True,
        )
        if spec.container:
            state.attrs.clear_of(ref.oid)
            self.add_parts(ref.oid, arguments, state, frame, node)
        return ref

    def add_parts(
        self, oid: ObjectId, arguments: Arguments, state: State, frame: Frame, node: ir.Node
    ) -> None:
        values = list(arguments.positional)
        unordered = False
        if len(values) == 1:
            inner = self.run.collections.known_items(values[0], state)
            if inner is not None:
                values = list(inner)
            elif isinstance(values[0], Ref):
                thing = state.heap.get(values[0].oid)
                if isinstance(thing, ListObject) and thing.summary:
                    values = sorted(thing.summary, key=str)
                    unordered = len(values) > 1
        unknown = not (arguments.complete or arguments.spread)
        values += arguments.spread
        last = values[-1] if values else None
        unordered |= not arguments.complete and (
            not arguments.exprs or bool(arguments.exprs[-1].star)
        )
        if unordered or (values and not isinstance(last, Ref)):
            state.update(oid, activation=UNORDERED)
        for i, value in enumerate(values):
            if isinstance(value, Ref) and state.module(value.oid) is not None:
                state.attrs[oid, str(i)] = value
            elif isinstance(value, Ref):
                self.run.models.promote(value.oid, state)
                state.attrs[oid, str(i)] = value
                unknown = True
        if unknown:
            state.update(oid, sensitive=Certainty.UNKNOWN)

    def _wrap(
        self,
        spec: sp.Wrapper,
        path: str,
        arguments: Arguments,
        state: State,
        frame: Frame,
        node: ir.Node,
    ) -> Value:
        inner = arguments.get(spec.argument, 0)
        if not isinstance(inner, Ref):
            return inner if inner is not None else self.run.fresh(state, frame, node)
        self.run.models.promote(inner.oid, state)
        if spec.keeps_object:
            return inner
        return self.wrap(inner, spec.kind, spec.attribute, state, frame, node)

    def wrap(
        self, inner: Ref, kind: str, attribute: str, state: State, frame: Frame, node: ir.Node
    ) -> Ref:
        """A module around another that shares its parameters."""
        ref = self.run.fresh(state, frame, node)
        module = self.run.models.promote(inner.oid, state)
        state.heap[ref.oid] = ModuleObject(
            flag=ModeFact(Mode.TRAIN) if kind in ("ddp", "dp", "fsdp") else module.flag,
            trainable=module.trainable,
            wraps=inner.oid,
            wrapper=kind,
            sensitive=Certainty.NO,
            fresh=module.fresh,
        )
        state.attrs[ref.oid, attribute] = inner
        return ref

    def _optimizer(
        self,
        spec: sp.OptimizerClass,
        path: str,
        arguments: Arguments,
        state: State,
        frame: Frame,
        node: ir.Call,
    ) -> Ref:
        ref = self.run.fresh(state, frame, node, "optimizer")
        parameters = arguments.get(spec.argument, 0)
        kind = path.rsplit(".", 1)[-1]
        if parameters is not None:
            self.run.models.consume(parameters, state, frame, node, "parameters", f"`{kind}`")
        self.run.training.create(
            ref.oid, kind, parameters, "the optimizer", state, frame, node, spec.closure
        )
        self.run.names.given.pop(ref.oid, None)
        return ref

    def _clip(
        self, argument: str, arguments: Arguments, state: State, frame: Frame, node: ir.Call
    ) -> Evaluated:
        parameters = arguments.get(argument, 0)
        if parameters is not None:
            expr = arguments.expr(argument, 0)
            self.run.models.consume(
                parameters, state, frame, node, spelled(expr), f"`{spelled(node.func)}`"
            )
            limit = arguments.expr("max_norm", 1)
            text = spelled(limit)
            infinite = "inf" in text or (
                isinstance(limit, ir.Call)
                and any(
                    isinstance(a.value, ir.Literal) and a.value.value == "inf" for a in limit.args
                )
            )
            self.run.training.clip(parameters, state, frame, node, infinite, _mentions_scale(limit))
        return [(state, self.run.fresh(state, frame, node))]

    def _backward_function(
        self, fills: bool, arguments: Arguments, state: State, frame: Frame, node: ir.Call
    ) -> Evaluated:
        first = arguments.values[0] if arguments.values else NONE
        if fills:
            self.run.training.backward(first, spelled(node.args[0].value), state, frame, node)
            return [(state, NONE)]
        for value in arguments.values:
            self.run.escapes.escape(value, state)
        joined = self.run.tensors.combine(arguments.values, "grad")
        return [(state, joined)]

    def library_method(
        self,
        receiver: Value,
        name: str,
        arguments: Arguments,
        state: State,
        frame: Frame,
        node: ir.Call,
    ) -> Evaluated:
        """Call a method that no class of the project defines."""
        return methods.call(self.run, receiver, name, arguments, state, frame, node)

    def opaque_method(
        self,
        owner: ObjectId,
        method: str,
        oid: ObjectId,
        arguments: Arguments,
        state: State,
        frame: Frame,
        node: ir.Call,
    ) -> Evaluated | None:
        """Call `owner.method(...)` where nothing is known of `owner`, or it is a module."""
        return methods.of_object(self.run, owner, method, arguments, state, frame, node)


def _drops(arguments: Arguments, name: str, position: int) -> bool:
    """Whether a dropout rate is given that is not 0."""
    given = arguments.get(name, position if position >= 0 else None)
    return given is not None and not (isinstance(given, Const) and given.value == 0)


def _mentions_scale(e: ir.Expr | None) -> bool:
    match e:
        case ir.BinOp(left=left, right=right):
            return _mentions_scale(left) or _mentions_scale(right)
        case ir.Call(func=ir.Attribute(attr=attr)):
            return attr == "get_scale"
        case ir.Name(id=name):
            return "scale" in name.lower()
        case _:
            return False
