"""Calls: of the project's own code, of libraries and of what nobody knows."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from trainlint.core import late
from trainlint.core.events import (
    LossApplied,
    WrapperBypassed,
)
from trainlint.core.facts import (
    Certainty,
    Share,
)
from trainlint.flow import ir
from trainlint.flow.adapters import Place
from trainlint.flow.arguments import Arguments
from trainlint.flow.attributes import decorator_names
from trainlint.flow.bookkeeping import keeps_books, made_to, unwraps
from trainlint.flow.frames import MAX_DEPTH, Frame
from trainlint.flow.ir import spelled
from trainlint.flow.models import MADE
from trainlint.flow.naming import MODEL_NAME
from trainlint.flow.state import (
    ContextObject,
    GradMode,
    InstanceObject,
    LibraryObject,
    ListObject,
    ModuleObject,
    State,
)
from trainlint.flow.tensors import flattened
from trainlint.flow.values import (
    ClassValue,
    Const,
    External,
    Func,
    LibraryMethod,
    Method,
    ObjectId,
    Partial,
    Ref,
    Tensor,
    Value,
)
from trainlint.libraries.torch import CLASS_LOSSES
from trainlint.libraries.words import GRADIENTS_OFF

if TYPE_CHECKING:
    from trainlint.flow.frames import Evaluated
    from trainlint.flow.interpret import Interpreter


_TRAINS_NAME = late.pattern(r"backward|step|optim|update|train|learn|fit|scaler", re.IGNORECASE)
"""An unknown function of such a name may run backward on a loss that it is given."""
_CLASS_NAME = late.pattern(r"[A-Z][A-Za-z]*[a-z]|[A-Z]{2,}")
"""`UNet(...)` makes a model; `G(...)` and `netG(...)` run one."""
PROTOCOL_CALLS = frozenset(("step", "backward"))
"""Methods whose absence is judged, so that a call that was never reached has to be known."""
_KEEPING_METHODS = frozenset(
    """append add update extend add_batch add_scalar add_scalars log write print add_image insert
    put log_metrics record push imshow set_postfix set_description info debug warning log_dict
    add_histogram save format join write_scalar
    """.split()
)
_LOSS_NAME = late.pattern(
    r"loss|criterion|metric|_fn$|accuracy|score|tokeniz|transform", re.IGNORECASE
)
_LOSS_NAMES = {
    "cross_entropy": "CrossEntropyLoss",
    "nll": "NLLLoss",
    "bce": "BCELoss",
    "bce_with_logits": "BCEWithLogitsLoss",
}
_FACTORY_NAME = late.pattern(
    r"_?(get|build|create|make|load|init|define|setup|prepare)_"
    r"|\w*_(factory|builder|creator|maker|class|cls|type|ctor|constructor)$"
)


class Calls:
    """Calls: of the project's own code, of libraries and of what nobody knows."""

    def __init__(self, interpreter: Interpreter) -> None:
        self.run = interpreter

    def call_expression(self, e: ir.Call, state: State, frame: Frame) -> Evaluated:
        """Evaluate a call's function and arguments, then call."""
        results: Evaluated = []
        self.run.take_step()
        if isinstance(e.func, ir.Attribute) and e.func.attr in PROTOCOL_CALLS:
            self.run.reached.add(id(e))
        plain = tuple(a.value for a in e.args)
        for st, func in self.run.eval(e.func, state, frame):
            for st2, values in self.run.eval_all(plain, st, frame):
                arguments = self._arguments(e, values, st2)
                results.extend(self.call(func, arguments, st2, frame, e))
        return self.run.bounded(results)

    def _arguments(self, e: ir.Call, values: tuple[Value, ...], state: State) -> Arguments:
        positional: list[Value] = []
        keywords: list[tuple[str, Value]] = []
        complete = True
        spread: tuple[Value, ...] = ()
        hidden = False
        for argument, value in zip(e.args, values):
            if argument.star == 1:
                items = self.run.collections.known_items(value, state)
                if items is None:
                    complete = False
                    some = self.run.collections.some_of(value, state)
                    spread = (*spread, *some)
                    hidden |= not some
                    if isinstance(value, Tensor):
                        positional.append(value)
                else:
                    positional.extend(items)
            elif argument.star == 2:
                thing = state.heap.get(value.oid) if isinstance(value, Ref) else None
                known = isinstance(thing, ListObject) and thing.keys is not None
                if isinstance(thing, ListObject) and known and thing.items is not None:
                    keywords.extend(
                        (str(k.value), v)
                        for k, v in zip(thing.keys or (), thing.items)
                        if isinstance(k, Const)
                    )
                else:
                    complete, hidden = False, True
            elif argument.name is not None:
                keywords.append((argument.name, value))
            else:
                positional.append(value)
        spread = () if hidden else spread
        return Arguments(tuple(positional), tuple(keywords), complete, e.args, spread)

    def call(
        self, func: Value, arguments: Arguments, state: State, frame: Frame, node: ir.Call
    ) -> Evaluated:
        """Call any value."""
        match func:
            case External(path=path):
                return self.run.library.library_call(path, arguments, state, frame, node)
            case Func():
                return self.run.execution.invoke(func, arguments, state, frame, node)
            case Method(receiver=Ref(oid=oid), func=inner) if (
                func.receiver != frame.receiver
                and arguments.values
                and self._is_forward(oid, inner, state)
            ):
                return self.forward(oid, _without_forward(node), arguments, state, frame, node)
            case Method(receiver=receiver, func=inner):
                return self.run.execution.invoke(
                    inner, arguments.with_first(receiver), state, frame, node
                )
            case ClassValue(info=info):
                return self.run.execution.instantiate(info, arguments, state, frame, node)
            case LibraryMethod(receiver=receiver, name=name):
                return self.run.library.library_method(
                    receiver, name, arguments, state, frame, node
                )
            case Partial(func=inner, args=args, keywords=keywords):
                joined = Arguments(
                    (*args, *arguments.positional),
                    (*keywords, *arguments.keywords),
                    arguments.complete,
                )
                return self.call(inner, joined, state, frame, node)
            case Ref(oid=oid):
                return self._call_object(oid, arguments, state, frame, node)
            case Tensor() if isinstance(node.func, ir.Attribute):
                # Not the `values` of an output but its method: `losses.values()` of a dict.
                return self.run.library.library_method(
                    func, node.func.attr, arguments, state, frame, node
                )
            case _:
                return self.unknown_call(arguments, state, frame, node)

    @staticmethod
    def _is_forward(oid: ObjectId, func: Func, state: State) -> bool:
        """Whether `model.forward(x)` is as good as `model(x)`: the class's own, not a parent's."""
        module = state.module(oid) if func.function.name == "forward" else None
        cls = module.cls if module is not None else None
        return cls is not None and cls.method("forward") == func

    def _call_object(
        self, oid: ObjectId, arguments: Arguments, state: State, frame: Frame, node: ir.Call
    ) -> Evaluated:
        thing = state.heap.get(oid)
        name = spelled(node.func)
        match thing:
            case ModuleObject(cls=cls, loss="") if cls is not None:
                return self._own_loss(oid, name, thing, arguments, state, frame, node)
            case ModuleObject(loss=loss) if loss is not None:
                result = self.loss(loss, arguments, state, frame, node, name)
                return [(state, self._through(oid, name, result, thing, state, frame, node))]
            case ModuleObject():
                return self.forward(oid, name, arguments, state, frame, node)
            case InstanceObject(cls=cls):
                method = cls.method("__call__")
                if method is not None:
                    place = ir.Attribute(node.func, "__call__", node.node)
                    return [
                        after
                        for st, bound in self.run.attributes.bound(oid, method, state, frame, place)
                        for after in self.call(bound, arguments, st, frame, node)
                    ]
            case LibraryObject(role="inferer"):
                network = arguments.get("network", 1)
                return self.run.library.runs(network, arguments, state, frame, node)
            case LibraryObject(role="loss", path=path):
                return [(state, self.loss(path, arguments, state, frame, node, name))]
            case LibraryObject(role="evaluator"):
                return self.run.trainers.measured(arguments, Place(state, frame, node))
            case None:
                return self._call_opaque(oid, name, arguments, state, frame, node)
            case _:
                pass
        return self.unknown_call(arguments, state, frame, node)

    def _call_opaque(
        self,
        oid: ObjectId,
        name: str,
        arguments: Arguments,
        state: State,
        frame: Frame,
        node: ir.Call,
    ) -> Evaluated:
        """Something unknown is called: a method of an unknown object, a model, a function."""
        if isinstance(oid, tuple) and len(oid) == 3 and oid[0] == "attr":
            owner, method = oid[1], oid[2]
            if isinstance(method, str):
                done = self.run.library.opaque_method(
                    owner, method, oid, arguments, state, frame, node
                )
                if done is not None:
                    return done
        for receiver in self._receivers(oid, state):
            self.run.escapes.havoc(receiver, state)
        last = name.rsplit(".", 1)[-1]
        if _makes(oid, last, frame):
            return self.made_elsewhere(last, arguments, state, frame, node)
        if (
            MODEL_NAME.search(last)
            and not _FACTORY_NAME.match(last)
            and not _CLASS_NAME.match(last)
            and not _LOSS_NAME.search(last)
            and arguments.values
        ):
            self.run.models.promote(oid, state)
            return self.forward(oid, name, arguments, state, frame, node)
        return self.unknown_call(arguments, state, frame, node, havoc=not made_to(oid))

    @staticmethod
    def _receivers(oid: ObjectId, state: State) -> list[Value]:
        """`{"train": model.train, "val": model.eval}[phase]()`: whose method it may be."""
        held = isinstance(oid, tuple) and len(oid) == 3 and oid[0] == "attr"
        thing = state.heap.get(oid[1]) if held else None  # type: ignore[index]
        if not isinstance(thing, ListObject):
            return []
        receivers: list[Value] = []
        for item in (*(thing.items or ()), *thing.summary):
            match item:
                case Method(receiver=receiver) | LibraryMethod(receiver=receiver):
                    receivers.append(receiver)
                case Ref(oid=("attr", owner, str())) if state.module(owner) is not None:
                    receivers.append(Ref(owner))
        return receivers

    def made_elsewhere(
        self, name: str, arguments: Arguments, state: State, frame: Frame, node: ir.Call
    ) -> Evaluated:
        """A class or factory that is not here is called: an object of a class has its own tag."""
        results = self.unknown_call(arguments, state, frame, node)
        if not _is_class_name(name):
            return results
        return [
            (st, v if isinstance(v, Tensor) else self.run.fresh(st, frame, node, MADE + name))
            for st, v in results
        ]

    def forward(
        self,
        oid: ObjectId,
        name: str,
        arguments: Arguments,
        state: State,
        frame: Frame,
        node: ir.Call,
    ) -> Evaluated:
        """A module is called."""
        module = state.module(oid)
        inputs = tuple(flattened(arguments.values))
        if module is not None and module.cls is not None and _is_loss_class(module, inputs, name):
            return self._own_loss(oid, name, module, arguments, state, frame, node)
        before = state.grad
        inner = state.module(self.run.models.base(oid, state))  # what DDP and PEFT wrap
        forward = inner.cls.method("forward") if inner is not None and inner.cls else None
        if forward is not None and decorator_names(forward.function) & GRADIENTS_OFF:
            origin = self.run.origin(frame, node, "its `forward` runs with gradients off")
            state.grad = GradMode(Certainty.NO, origin=origin)
        result = self.run.training.forward(oid, name, arguments.values, state, frame, node)
        state.grad = before
        return [(state, result)]

    def _own_loss(
        self,
        oid: ObjectId,
        name: str,
        module: ModuleObject,
        arguments: Arguments,
        state: State,
        frame: Frame,
        node: ir.Call,
    ) -> Evaluated:
        """A loss of the project: what its `forward` computes carries the graphs of all it got."""
        joined = self.run.tensors.combine(arguments.values, "loss", state)
        forward = module.cls.method("forward") if module.cls is not None else None
        results: Evaluated = [(state, joined)]
        if forward is not None and self.run.depth < MAX_DEPTH:
            # Not by `invoke`: what only computes on tensors matters here too.
            given = arguments.with_first(Ref(oid))
            results = self.run.execution.execute(forward, given, state, frame, node)
        return [
            (
                st,
                self._through(
                    oid, name, v if isinstance(v, Tensor) else joined, module, st, frame, node
                ),
            )
            for st, v in results
        ]

    def _through(
        self,
        oid: ObjectId,
        name: str,
        loss: Value,
        module: ModuleObject,
        state: State,
        frame: Frame,
        node: ir.Call,
    ) -> Value:
        """A loss of the project with weights of its own: its gradients pass through them."""
        if not isinstance(loss, Tensor) or module.cls is None:
            return loss
        off = module.cls.node.words & (GRADIENTS_OFF | {"set_grad_enabled"})
        own = self.run.models.reach(oid, state)
        if any(made.oid in own for made in loss.forwards):
            return loss
        parts = [state.module(part) for part in own if part != oid]
        network = any(p is not None and p.parametric and p.loss is None for p in parts)
        held = oid in {g.oid for _, o in state.optimizers() for g in o.groups or ()}
        if off or not (network or held) or self.run.models.share(oid, state).share is not Share.ALL:
            return loss
        made = self.run.training.forward(oid, name, (loss,), state, frame, node, record=False)
        return replace(loss, forwards=loss.forwards | made.forwards)

    def loss(
        self, kind: str, arguments: Arguments, state: State, frame: Frame, node: ir.Call, name: str
    ) -> Value:
        first = arguments.get("input", 0)
        if isinstance(first, Tensor) and kind:
            made = next(iter(first.forwards | first.references), None)
            self.run.recorder.raise_event(
                LossApplied(
                    site=self.run.site(frame, node),
                    when=self.run.when,
                    loss=_LOSS_NAMES.get(kind, kind),
                    activation=first.activation,
                    activation_origin=first.activation_origin,
                    model=made.facts.name if made else "",
                ),
                self.run.rounds,
                state.decisions,
            )
        given = arguments.values
        if _LOSS_NAMES.get(kind, kind) in CLASS_LOSSES and isinstance(first, Tensor):
            # Classes and their shares are no network's output: the graph is that of the input.
            given = tuple(v for v in given if isinstance(v, Tensor))
        result = self.run.tensors.combine(given, "loss", state)
        return replace(result, is_loss=True) if isinstance(result, Tensor) else result

    def unknown_call(
        self, arguments: Arguments, state: State, frame: Frame, node: ir.Node, havoc: bool = True
    ) -> Evaluated:
        """Nothing is known of the function: what it got is unknown, its result derived."""
        if havoc and isinstance(node, ir.Call) and unwraps(node.func):
            inside = [v for v in arguments.positional if isinstance(v, Ref)]
            if len(inside) == 1 and state.module(inside[0].oid) is not None:
                return [(state, inside[0])]
        if havoc and not (isinstance(node, ir.Call) and keeps_books(node.func)):
            trains = isinstance(node, ir.Call) and _TRAINS_NAME.search(spelled(node.func))
            for value in arguments.values:
                self.run.escapes.havoc(value, state)
                if trains and isinstance(value, Tensor):
                    self.run.training.perhaps_backward(value, state)
            state = self.run.execution.callbacks(arguments, state, frame, node)
        joined = self.run.tensors.combine(arguments.values, "call", state)
        if isinstance(joined, Tensor):
            if state.grad.on is Certainty.NO:
                return [(state, joined)]
            unsure = Certainty.UNKNOWN if joined.attached is Certainty.NO else joined.attached
            return [(state, replace(joined, attached=unsure, cut=None))]
        return [(state, self.run.fresh(state, frame, node, "result"))]

    def discarded(
        self, s: ir.Expression, call: ir.Call, result: Value, state: State, frame: Frame
    ) -> None:
        """A call stands alone as a statement."""
        if isinstance(result, Ref):
            self.run.adapters.dropped(call, state, frame)
            thing = state.heap.get(result.oid)
            if isinstance(thing, ContextObject):
                self.run.contexts.discarded_context(s, call, thing, state, frame)
                return
        if not isinstance(result, Tensor):
            return
        for made in result.forwards:
            seen = self.run.training.forwards.get(made.site)
            if seen is not None and seen.event.site.node == call.node:
                seen.event = replace(seen.event, result_used=Certainty.NO)
        attr = call.func.attr if isinstance(call.func, ir.Attribute) else ""
        if attr and attr not in _KEEPING_METHODS and attr != "backward" and not attr.endswith("_"):
            self.run.escapes.escape_arguments(call, state, frame)

    def on_backward(self, tensor: Tensor, state: State, frame: Frame, node: ir.Node) -> None:
        """After a backward, see whether a wrapper was bypassed."""
        for made in tensor.forwards:
            wrapper = made.bypasses
            if wrapper is None or state.module(wrapper) is None:
                continue
            if any(other.oid == wrapper for other in tensor.forwards):
                continue
            seen = self.run.training.forwards.get(made.site)
            if seen is None:
                continue
            self.run.recorder.raise_event(
                WrapperBypassed(
                    site=self.run.training.bypassed_at.get(made.site, seen.event.site),
                    when=self.run.when,
                    wrapper=self.run.names.name_of(wrapper, state),
                    model=made.facts,
                ),
                self.run.rounds,
                state.decisions,
            )


def _makes(oid: ObjectId, name: str, frame: Frame) -> bool:
    """Whether a name that nobody binds here is a class or a factory: it came by `import *`."""
    if not isinstance(oid, tuple) or oid[0] != "global" or name in frame.module.bindings:
        return False
    starred = bool(frame.module.stars)
    return _is_class_name(name) or starred or bool(_FACTORY_NAME.match(name))


def _is_class_name(name: str) -> bool:
    """`UNet`, `DeepLabV3`, `GPT`; not `G`, `G_A` or `netG`."""
    return _CLASS_NAME.match(name) is not None


def _without_forward(node: ir.Call) -> str:
    return spelled(node.func).removesuffix(".forward")


def _is_loss_class(module: ModuleObject, inputs: tuple[Value, ...], name: str) -> bool:
    assert module.cls is not None
    named = bool(_LOSS_NAME.search(name)) or "loss" in module.cls.name.lower()
    return named and any(isinstance(v, Tensor) for v in inputs)
