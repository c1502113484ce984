"""Calls, attributes and containers: what the library's tables say, done to the abstract state."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from trainlint.core.events import (
    AttributeAssigned,
    DiscardedCall,
    GraphKept,
    LossApplied,
    Receiver,
    WrapperBypassed,
)
from trainlint.core.facts import (
    Certainty,
    Cut,
    Mode,
    ModeFact,
    Share,
    TrainableFact,
)
from trainlint.flow import ir
from trainlint.flow.activation import SAME, output_activation
from trainlint.flow.adapters import Adapters, Place
from trainlint.flow.arguments import Arguments, bind
from trainlint.flow.epochs import Epochs
from trainlint.flow.ir import spelled
from trainlint.flow.models import EACH, MADE, UNGRAPHED, Models
from trainlint.flow.naming import MODEL_NAME
from trainlint.flow.project import ClassInfo, member
from trainlint.flow.sensitivity import own_sensitivity
from trainlint.flow.state import (
    ContextObject,
    GradMode,
    InstanceObject,
    LibraryObject,
    ListObject,
    ModuleObject,
    OptimizerObject,
    ParametersObject,
    ScalerObject,
    SchedulerObject,
    State,
    join_values,
)
from trainlint.flow.trainers import Trainers
from trainlint.flow.training import Training
from trainlint.flow.values import (
    FALSE,
    NONE,
    TRUE,
    ClassValue,
    Condition,
    Const,
    External,
    Forward,
    Func,
    LibraryMethod,
    Method,
    ObjectId,
    Package,
    ParameterValue,
    Partial,
    Ref,
    Super,
    Tensor,
    TupleValue,
    Value,
    const,
)
from trainlint.libraries import LIBRARY
from trainlint.libraries import spec as sp
from trainlint.libraries.torch import ACTIVATION_METHODS, RESHAPE_METHODS

if TYPE_CHECKING:
    from trainlint.flow.interpret import Evaluated, Frame, Interpreter

_TRAINS_NAME = re.compile(r"backward|step|optim|update|train|learn|fit|scaler", re.IGNORECASE)
"""An unknown function of such a name may run backward on a loss that it is given."""
_CLASS_NAME = re.compile(r"[A-Z][A-Za-z]*[a-z]|[A-Z]{2,}")
"""`UNet(...)` makes a model; `G(...)` and `netG(...)` run one."""
_OPTIMIZER_NAME = re.compile(r"opt(im|imizer|imiser)?([A-Z_0-9]|$|s?$)|optim", re.IGNORECASE)
_SCHEDULER_NAME = re.compile(r"sched|lr_|warmup", re.IGNORECASE)
_RUNNER_NAME = re.compile(
    r"trainer|agent|runner|engine|learner|solver|algo|experiment|pipeline|session|manager",
    re.IGNORECASE,
)
PROTOCOL_CALLS = frozenset(("step", "backward"))
"""Methods whose absence is judged, so that a call that was never reached has to be known."""
_KEEPING_METHODS = frozenset(
    """append add update extend add_batch add_scalar add_scalars log write print add_image insert
    put log_metrics record push imshow set_postfix set_description info debug warning log_dict
    add_histogram save format join write_scalar
    """.split()
)
_SELF_RETURNING = frozenset(
    "to cuda cpu half float double bfloat16 xpu type share_memory requires_grad_ to_empty"
    " apply_ compile_ ipu mps".split()
)
_TENSOR_CUTS = {
    "item": Cut.ITEM,
    "tolist": Cut.ITEM,
    "numpy": Cut.NUMPY,
    "detach": Cut.DETACH,
    "detach_": Cut.DETACH,
    "argmax": Cut.COMPARISON,
    "argmin": Cut.COMPARISON,
    "argsort": Cut.COMPARISON,
    "eq": Cut.COMPARISON,
    "ne": Cut.COMPARISON,
    "gt": Cut.COMPARISON,
    "lt": Cut.COMPARISON,
    "ge": Cut.COMPARISON,
    "le": Cut.COMPARISON,
    "bool": Cut.COMPARISON,
    "long": Cut.COMPARISON,
    "int": Cut.COMPARISON,
    "new_tensor": Cut.REBUILT,
}
_METRIC_METHODS = frozenset("argmax max topk eq item tolist numpy".split())
_KEEPS_ACTIVATION = RESHAPE_METHODS
_TENSOR_ACTIVATIONS = ACTIVATION_METHODS
UNORDERED = "unordered"
"""In place of a container's activation: which of its parts comes last is not known."""
_SHAPES = frozenset("shape size dim ndim numel device dtype is_cuda requires_grad grad_fn".split())


class Calls:
    """Everything the interpreter asks about a call, an attribute or a container."""

    def __init__(self, interpreter: Interpreter) -> None:
        self.run = interpreter
        self.models = Models(interpreter)
        self.training = Training(interpreter, self.models)
        self.adapters = Adapters(interpreter)
        self.trainers = Trainers(interpreter)
        self.epochs = Epochs(interpreter)
        self.names: dict[ObjectId, str] = {}
        self.kept_graphs: list[tuple[GraphKept, Tensor]] = []
        self.data_items: set[ObjectId] = set()

    # --- names -------------------------------------------------------------------------

    def name_of(self, oid: ObjectId, state: State) -> str:
        """How the user calls an object."""
        known = self.names.get(oid)
        if known is not None:
            return known
        for (_, name), value in state.vars.items():
            if value == Ref(oid) and not name.startswith("$"):
                return name
        if isinstance(oid, tuple) and len(oid) == 3 and oid[0] == "attr":
            return f"{self.name_of(oid[1], state)}.{oid[2]}"
        for (owner, name), value in state.attrs.items():
            if value == Ref(oid):
                return f"self.{name}" if owner != oid else name
        if isinstance(oid, tuple) and oid[:1] == ("param",):
            return str(oid[-1])
        return "the model"

    def variable_of(self, oid: ObjectId, state: State) -> str:
        """The variable or attribute that holds an object, empty if none does."""
        for (_, name), value in state.vars.items():
            if value == Ref(oid) and not name.startswith("$"):
                return name
        for (_, name), value in state.attrs.items():
            if value == Ref(oid):
                return f"self.{name}"
        return ""

    # --- attributes --------------------------------------------------------------------

    def attribute(
        self, thing: Value, attr: str, state: State, frame: Frame, e: ir.Attribute
    ) -> Evaluated:
        """Read `thing.attr`."""
        match thing:
            case External() | Package():
                found = self.run.imported(member(thing, attr, self.run.project), state)
                if found is None:
                    found = Ref(("global", getattr(thing, "path", ""), attr))
                return [(state, found)]
            case Ref(oid=oid):
                return self._object_attribute(oid, attr, state, frame, e)
            case Tensor():
                return [(state, self._tensor_attribute(thing, attr, state, frame, e))]
            case ClassValue(info=info):
                return [(state, self._class_attribute(info, attr))]
            case Super(receiver=receiver, owner=owner):
                cls = self._class_of(receiver, state) or owner
                func = cls.method_after(owner, attr)
                if func is not None:
                    return [(state, Method(receiver, func))]
                return [(state, LibraryMethod(receiver, f"super().{attr}"))]
            case ParameterValue():
                return [(state, self._parameter_attribute(thing, attr))]
            case TupleValue(items=(values, indices)) if attr in ("values", "indices"):
                return [(state, values if attr == "values" else indices)]
            case _:
                return [(state, LibraryMethod(thing, attr))]

    def _class_attribute(self, info: ClassInfo, attr: str) -> Value:
        func = info.method(attr)
        if func is not None:
            kinds = _decorator_names(func.function)
            return Method(ClassValue(info), func) if "classmethod" in kinds else func
        found = info.class_attribute(attr)
        if found is not None:
            value = found[0].static_value(found[1])
            if value is not None:
                return value
        for base in sorted(info.externals):
            if LIBRARY.call(f"{base}.{attr}") is not None:
                return LibraryMethod(ClassValue(info), f"{base}.{attr}")
        return LibraryMethod(ClassValue(info), attr)

    def _class_of(self, value: Value, state: State) -> ClassInfo | None:
        if isinstance(value, Ref):
            thing = state.heap.get(value.oid)
            if isinstance(thing, ModuleObject | InstanceObject):
                return thing.cls
        return value.info if isinstance(value, ClassValue) else None

    def _object_attribute(
        self, oid: ObjectId, attr: str, state: State, frame: Frame, e: ir.Attribute
    ) -> Evaluated:
        found = state.attrs.get((oid, attr))
        if found is not None:
            return [(state, found)]
        cls = self._class_of(Ref(oid), state)
        if cls is not None:
            func = cls.method(attr)
            if func is not None:
                return self._bound(oid, func, state, frame, e)
            fixed = cls.class_attribute(attr)
            value = fixed[0].static_value(fixed[1]) if fixed is not None else None
            if value is not None:
                return [(state, value)]
        thing = state.heap.get(oid)
        match thing:
            case ModuleObject() if attr == "training":
                return [(state, self._training_flag(oid, thing, state))]
            case ModuleObject(wraps=wraps, wrapper="peft" | "tuner") if (
                wraps is not None
                and not is_library_method(attr)
                and attr != "base_model"
                and LIBRARY.adapter_method(attr) is None
            ):
                return self._object_attribute(wraps, attr, state, frame, e)
            case ModuleObject(wraps=wraps, wrapper=kind) if (
                wraps is not None
                and attr
                in (
                    "module",
                    "_orig_mod",
                    "base_model",
                    "model",
                )
                and kind not in ("peft", "tuner")
            ):
                inner = Ref(wraps)
                state.attrs[oid, attr] = inner
                return [(state, inner)]
            case ModuleObject(wraps=wraps, wrapper=kind) if (
                wraps is not None
                and kind in ("compile", "prepared")
                and not is_library_method(attr)
            ):
                return self._object_attribute(wraps, attr, state, frame, e)
            case LibraryObject(role="trainer") if attr in ("model", "ref_model", "args"):
                linked = thing.link(attr)
                return [(state, linked if linked is not None else Ref(("attr", oid, attr)))]
            case OptimizerObject() | SchedulerObject() | ScalerObject() | ParametersObject():
                return [(state, LibraryMethod(Ref(oid), attr))]
            case LibraryObject(role="loader") if (held := thing.link(attr)) is not None:
                return [(state, held)]
            case LibraryObject() | ListObject() | ContextObject():
                return [(state, LibraryMethod(Ref(oid), attr))]
            case _:
                return [(state, Ref(("attr", oid, attr)))]

    def _bound(
        self, oid: ObjectId, func: Func, state: State, frame: Frame, e: ir.Attribute
    ) -> Evaluated:
        kinds = _decorator_names(func.function)
        if kinds & {"property", "cached_property"}:
            return self.invoke(func, Arguments((Ref(oid),)), state, frame, e)
        if "staticmethod" in kinds:
            return [(state, func)]
        contexts = [d for d in func.function.decorators if not _is_builtin_decorator(d)]
        if contexts:
            inner = replace(func, contexts=())
            home = self._home(func)
            results: Evaluated = []
            for st, value in self.run.decorated(inner, tuple(contexts), state, home):
                if isinstance(value, Func):
                    results.append((st, Method(Ref(oid), value)))
                else:
                    results.append((st, Partial(value, (Ref(oid),), ())))
            return results
        return [(state, Method(Ref(oid), func))]

    def _home(self, func: Func) -> Frame:
        from trainlint.flow.interpret import Frame as FrameClass

        return FrameClass(self.run.module_frame(func.module), func.module)

    def _training_flag(self, oid: ObjectId, module: ModuleObject, state: State) -> Value:
        match module.flag.mode:
            case Mode.TRAIN:
                return TRUE
            case Mode.EVAL:
                return FALSE
            case _:
                return Condition(("training", oid), True)

    def _tensor_attribute(
        self, tensor: Tensor, attr: str, state: State, frame: Frame, e: ir.Attribute
    ) -> Value:
        if attr == "data":
            return self.cut(tensor, Cut.DATA, frame, e)
        if attr in _SHAPES:
            return Ref(("attr", ("tensor", frame.module.path, e.node), attr))
        if attr in (
            "loss",
            "logits",
            "last_hidden_state",
            "pooler_output",
            "prediction_logits",
            "sample",
            "T",
            "mT",
            "values",
            "real",
            "losses",
            "hidden_states",
        ):
            return tensor
        return LibraryMethod(tensor, attr)

    def _parameter_attribute(self, parameter: ParameterValue, attr: str) -> Value:
        if attr in ("data", "grad"):
            return Ref(("attr", ("parameter", parameter), attr))
        if attr == "requires_grad":
            return Condition(("requires_grad", parameter.sources), True)
        return LibraryMethod(parameter, attr)

    def set_attribute(
        self,
        thing: Value,
        attr: str,
        value: Value,
        state: State,
        frame: Frame,
        target: ir.Attribute,
        s: ir.Node,
    ) -> None:
        """`thing.attr = value`."""
        name = spelled(target.value)
        if isinstance(thing, ParameterValue) or (
            isinstance(thing, LibraryMethod) and isinstance(thing.receiver, ParameterValue)
        ):
            parameter = thing if isinstance(thing, ParameterValue) else thing.receiver
            assert isinstance(parameter, ParameterValue)
            self._set_on_parameter(parameter, attr, value, state, frame, target, s, name)
            return
        if isinstance(thing, Tensor):
            self._set_on_tensor(thing, attr, value, state, frame, target, s, name)
            return
        if not isinstance(thing, Ref):
            return
        if attr == "grad":
            self.training.clear_unknown(state)
            if value != NONE:
                self.training.filled_by_hand()
            return
        module = state.module(thing.oid)
        if attr == "train" and module is not None:
            state.update(thing.oid, mode_fixed=True)
        if _is_flag(attr):
            if module is None:
                self._assigned_on_unknown(thing, attr, value, state, frame, target, s, name)
            elif module.cls is None or module.cls.method(attr) is None:
                self.models.assigned_flag(thing.oid, attr, value, state, frame, s, target, name)
            if attr == "training":
                return
        if not isinstance(state.heap.get(thing.oid), LibraryObject):
            self.models.rebound(state.attrs.get((thing.oid, attr)), value, state, frame, s)
        if module is not None and isinstance(value, Ref) and state.module(value.oid) is not None:
            self.models.replace_part(thing.oid, attr, value, state, frame, s, name)
        else:
            state.attrs[thing.oid, attr] = value
        if isinstance(value, Ref) and isinstance(value.oid, tuple) and value.oid[0] != "attr":
            self.names.setdefault(value.oid, f"{name}.{attr}")

    def _assigned_on_unknown(
        self,
        thing: Ref,
        attr: str,
        value: Value,
        state: State,
        frame: Frame,
        target: ir.Attribute,
        s: ir.Node,
        name: str,
    ) -> None:
        owner = state.heap.get(thing.oid)
        if isinstance(owner, InstanceObject | LibraryObject):
            return
        kind = Receiver.PARAMETER if _is_parameter_place(target.value) else Receiver.UNKNOWN
        if kind is Receiver.UNKNOWN and self._is_library_part(thing.oid, state):
            kind = Receiver.MODULE
        self.run.recorder.raise_event(
            AttributeAssigned(
                site=self.run.site(frame, s),
                receiver=kind,
                name=name,
                attribute=attr,
                value=str(value.value) if isinstance(value, Const) else "",
            ),
            self.run.rounds,
            state.decisions,
        )

    @staticmethod
    def _is_library_part(oid: ObjectId, state: State) -> bool:
        """`model.layer1` of a library's model: a module by its name."""
        if not (isinstance(oid, tuple) and len(oid) == 3 and oid[0] == "attr"):
            return False
        whole, name = state.module(oid[1]), oid[2]
        known = whole is not None and whole.cls is None and bool(whole.library or whole.wraps)
        return known and isinstance(name, str) and _PART_NAME.match(name) is not None

    def _set_on_parameter(
        self,
        parameter: ParameterValue,
        attr: str,
        value: Value,
        state: State,
        frame: Frame,
        target: ir.Attribute,
        s: ir.Node,
        name: str,
    ) -> None:
        if attr == "grad":
            self.training.cleared_parameters(parameter.sources, state)
            if value != NONE:
                self.training.filled_by_hand()
            return
        self.run.recorder.raise_event(
            AttributeAssigned(
                site=self.run.site(frame, s),
                receiver=Receiver.PARAMETER,
                name=name,
                attribute=attr,
                value=str(value.value) if isinstance(value, Const) else "",
            ),
            self.run.rounds,
            state.decisions,
        )
        if attr == "requires_grad":
            on = bool(value.value) if isinstance(value, Const) else None
            word = {True: "unfrozen", False: "frozen", None: "set"}[on]
            self.models.set_parameter(
                parameter, on, state, self.run.origin(frame, s, f"parameters are {word} here")
            )

    def _set_on_tensor(
        self,
        tensor: Tensor,
        attr: str,
        value: Value,
        state: State,
        frame: Frame,
        target: ir.Attribute,
        s: ir.Node,
        name: str,
    ) -> None:
        if attr == "requires_grad" and value == TRUE:
            self.run.store(target.value, self._made_leaf(tensor), state, frame, s)
        elif attr == "data":
            pass

    @staticmethod
    def _made_leaf(tensor: Tensor) -> Tensor:
        if tensor.attached is Certainty.NO and tensor.cut is not None:
            return replace(tensor, leaf=True)
        return tensor

    # --- tensors -----------------------------------------------------------------------

    def _wrapped_again(
        self, tensor: Tensor, arguments: Arguments, frame: Frame, node: ir.Node
    ) -> Value:
        """`Variable(loss)` of what has a graph: the same values, without the graph."""
        if tensor.attached is not Certainty.YES:
            wrapped: Value = tensor
        else:
            wrapped = self.cut(tensor, Cut.REBUILT, frame, node)
        if isinstance(wrapped, Tensor) and arguments.get("requires_grad") == TRUE:
            return self._made_leaf(wrapped)
        return wrapped

    def cut(self, value: Value, how: Cut, frame: Frame, node: ir.Node) -> Value:
        """The value without its graph."""
        if not isinstance(value, Tensor):
            return value
        origin = self.run.origin(frame, node, f"its graph is cut here by {how.value}")
        if how in (Cut.ITEM, Cut.COMPARISON, Cut.NUMPY):
            self.training.measured(value)
        if value.attached is Certainty.NO and value.cut is not None:
            return value
        return Tensor(
            attached=Certainty.NO,
            cut=how,
            cut_origin=origin,
            references=value.references | value.forwards,
            activation=value.activation,
            activation_origin=value.activation_origin,
        )

    def combine(self, values: tuple[Value, ...], op: str, state: State | None = None) -> Value:
        """What is computed from several values carries all their graphs.

        With gradients off in `state` it carries none; updates in place, which keep the graph of
        what they change, give no state.
        """
        tensors: list[Tensor] = []
        others = False
        for value in _flattened(self._unpacked(values, state)):
            if isinstance(value, Tensor):
                tensors.append(value)
            elif not isinstance(value, Const) and not self._is_data(value):
                others = True
        if not tensors:
            return Ref(("computed", op))
        attached = {t.attached for t in tensors}
        if Certainty.YES in attached:
            certain = Certainty.YES
        elif attached == {Certainty.NO} and not others:
            certain = Certainty.NO
        else:
            certain = Certainty.UNKNOWN
        if state is not None and state.grad.on is Certainty.NO:
            return self._computed_without_graph(tensors, state)
        first = tensors[0]
        return Tensor(
            forwards=frozenset(f for t in tensors for f in t.forwards),
            attached=certain,
            cut=first.cut if certain is Certainty.NO else None,
            cut_origin=first.cut_origin if certain is Certainty.NO else None,
            references=frozenset(f for t in tensors for f in t.references),
            fed=frozenset(f for t in tensors for f in t.fed),
            scaler=next((t.scaler for t in tensors if t.scaler is not None), None),
            divided=any(t.divided for t in tensors) or op == "/",
            leaf=any(t.leaf for t in tensors) and certain is Certainty.NO,
        )

    def _is_data(self, value: Value) -> bool:
        """What a data loader gave, or a part of it: it has no graph."""
        while isinstance(value, Ref) and isinstance(value.oid, tuple):
            if value.oid in self.data_items:
                return True
            if value.oid[0] != "attr":
                return False
            inner = value.oid[1]
            value = inner if isinstance(inner, Ref) else Ref(inner)
        return False

    @staticmethod
    def _unpacked(values: tuple[Value, ...], state: State | None) -> tuple[Value, ...]:
        """Lists give what is in them: `torch.stack(losses)`."""
        found: list[Value] = []
        for value in values:
            thing = state.heap.get(value.oid) if state and isinstance(value, Ref) else None
            if isinstance(thing, ListObject):
                found.extend(thing.items if thing.items is not None else thing.summary)
            else:
                found.append(value)
        return tuple(found)

    @staticmethod
    def _computed_without_graph(tensors: list[Tensor], state: State) -> Tensor:
        cut = next((t for t in tensors if t.attached is Certainty.NO and t.cut is not None), None)
        return Tensor(
            attached=Certainty.NO,
            cut=cut.cut if cut else Cut.NO_GRAD,
            cut_origin=cut.cut_origin if cut else state.grad.origin,
            references=frozenset(f for t in tensors for f in t.forwards | t.references),
            fed=frozenset(f for t in tensors for f in t.fed),
            divided=any(t.divided for t in tensors),
        )

    def activation_of(self, oid: ObjectId, state: State) -> str:
        """The last activation of a model's output, if it is certain."""
        module = state.module(oid)
        for _ in range(6):
            if module is None:
                return ""
            if module.wraps is not None:
                module = state.module(module.wraps)
                continue
            break
        if module is None:
            return ""
        if module.activation:
            return "" if module.activation == UNORDERED else module.activation
        base = self.models.base(oid, state)
        if module.library == "torch.nn.Sequential":
            return self._last_activation(base, state)
        if module.cls is not None:
            if module.cls.method("forward") is None:
                sequential = "torch.nn.Sequential" in module.cls.externals
                return self._last_activation(base, state) if sequential else ""
            return output_activation(
                module.cls, lambda name: self._part_activation(base, name, state)
            )
        return ""

    def _ordered_parts(self, oid: ObjectId, state: State) -> list[ObjectId]:
        """The parts of a list of modules in their order; empty if that is not known."""
        module = state.module(oid)
        parts = self.models.children(oid, state)
        added = any(n.startswith("$") and n != EACH for n, _ in parts)
        if added or (module is not None and module.activation == UNORDERED):
            return []
        return [o for _, o in sorted((int(n), o) for n, o in parts if n.isdigit())]

    def _last_activation(self, oid: ObjectId, state: State) -> str:
        for part in reversed(self._ordered_parts(oid, state)):
            found = self.activation_of(part, state)
            if found != SAME:
                return found
        return ""

    def _part_activation(self, oid: ObjectId, name: str, state: State) -> str:
        attr, _, index = name.partition(".")
        value = state.attrs.get((oid, attr))
        if not isinstance(value, Ref):
            return ""
        if not index:
            return self.activation_of(value.oid, state)
        parts, number = self._ordered_parts(value.oid, state), int(index)
        if not -len(parts) <= number < len(parts):
            return ""
        return self.activation_of(parts[number], state)

    # --- containers --------------------------------------------------------------------

    def new_list(self, values: tuple[Value, ...], state: State, frame: Frame, node: ir.Node) -> Ref:
        """A list of known items."""
        ref = self.run.fresh(state, frame, node, "list")
        state.heap[ref.oid] = ListObject(values)
        return ref

    def new_dict(
        self,
        keys: tuple[Value, ...] | None,
        values: tuple[Value, ...],
        state: State,
        frame: Frame,
        node: ir.Node,
    ) -> Ref:
        """A dict; with unknown keys only the values are kept."""
        ref = self.run.fresh(state, frame, node, "dict")
        if keys is not None:
            state.heap[ref.oid] = ListObject(values, keys=keys)
        else:
            state.heap[ref.oid] = ListObject(None, frozenset(values))
        return ref

    def new_summary(self, value: Value, state: State, frame: Frame, node: ir.Node) -> Ref:
        """A list of unknown length whose items all look like `value`."""
        ref = self.run.fresh(state, frame, node, "list")
        state.heap[ref.oid] = ListObject(None, frozenset({value}))
        return ref

    def distinct(self, value: Value, index: int, state: State) -> Value:
        """The `index`-th object that one expression made."""
        if index == 0 or not isinstance(value, Ref) or not isinstance(value.oid, tuple):
            return value
        if value.oid[:1] != ("new",) or value.oid not in state.heap:
            return value
        other = ("each", index, value.oid)
        state.heap[other] = state.heap[value.oid]
        for (owner, name), held in list(state.attrs.items()):
            if owner == value.oid:
                state.attrs[other, name] = held
        return Ref(other)

    def known_items(self, value: Value, state: State) -> tuple[Value, ...] | None:
        """The items of a list or tuple, if all are known."""
        match value:
            case TupleValue(items=items):
                return items
            case Ref(oid=oid):
                thing = state.heap.get(oid)
                if isinstance(thing, ListObject):
                    return thing.keys if thing.keys is not None else thing.items
                if isinstance(thing, LibraryObject) and thing.role in ("zip", "enumerate"):
                    return self._zipped(thing, state)
                if isinstance(thing, ModuleObject) and thing.library in (
                    "torch.nn.ModuleList",
                    "torch.nn.Sequential",
                ):
                    parts = [
                        (n, Ref(o)) for n, o in self.models.children(oid, state) if n.isdigit()
                    ]
                    if parts and (oid, EACH) not in state.attrs:
                        return tuple(r for _, r in sorted(parts, key=lambda p: int(p[0])))
        return None

    def _zipped(self, thing: LibraryObject, state: State) -> tuple[Value, ...] | None:
        if thing.role == "enumerate":
            items = self.known_items(thing.links[0][1], state)
            start = thing.link("start") or const(0)
            if items is None or not isinstance(start, Const) or not isinstance(start.value, int):
                return None
            return tuple(TupleValue((const(i), v)) for i, v in enumerate(items, start.value))
        columns = [self.known_items(v, state) for _, v in thing.links]
        if not columns or any(c is None for c in columns):
            return None
        return tuple(TupleValue(row) for row in zip(*(c or () for c in columns), strict=False))

    def iterates_parameters(self, value: Value, state: State) -> bool:
        """Whether a loop over the value visits parameters."""
        return self.models.is_parameters(value, state)

    @staticmethod
    def first_element(iterable: Value, element: Value, state: State) -> Value:
        """What a loop binds in its first round, where counting tells more."""
        thing = state.heap.get(iterable.oid) if isinstance(iterable, Ref) else None
        start = thing.link("start") if isinstance(thing, LibraryObject) else None
        if not isinstance(start, Const) or start.kind != "int":
            return element
        if isinstance(element, TupleValue):
            return TupleValue((start, *element.items[1:]))
        return start

    def element(self, value: Value, state: State, frame: Frame, node: ir.Node) -> Value:
        """What a loop binds in one of its rounds."""
        item = Ref(("item", frame.module.path, node.node, frame.id))
        match value:
            case Tensor():
                return value
            case Ref(oid=oid):
                thing = state.heap.get(oid)
                match thing:
                    case ParametersObject():
                        self.models.consume(
                            value, state, frame, node, "the parameters", "this loop"
                        )
                        return self.models.element_of_parameters(value, state)
                    case ListObject(items=items, summary=summary):
                        return self._any_of((*(items or ()), *sorted(summary, key=str)), item)
                    case LibraryObject(role="loader"):
                        self.data_items.add(item.oid)
                        return item
                    case LibraryObject(role="zip", links=links):
                        return TupleValue(
                            tuple(
                                self._column(v, i, state, frame, node)
                                for i, (_, v) in enumerate(links)
                            )
                        )
                    case LibraryObject(role="enumerate", links=links):
                        return TupleValue((item, self._column(links[0][1], 1, state, frame, node)))
                    case LibraryObject(role="modules", links=links):
                        part = links[0][1]
                        named = thing.path.startswith("named")
                        return TupleValue((Ref(("name", item.oid)), part)) if named else part
                    case _:
                        return item
            case _:
                return item

    def _column(self, value: Value, i: int, state: State, frame: Frame, node: ir.Node) -> Value:
        found = self.element(value, state, frame, node)
        if isinstance(found, Ref) and isinstance(found.oid, tuple) and found.oid[0] == "item":
            return Ref(("attr", found.oid, i))
        return found

    @staticmethod
    def _any_of(values: tuple[Value, ...], otherwise: Value) -> Value:
        distinct = list(dict.fromkeys(values))
        if len(distinct) == 1:
            return distinct[0]
        return join_values(distinct) or otherwise

    def item_of(self, value: Value, index: int, state: State, frame: Frame, node: ir.Node) -> Value:
        """The `index`-th part of a value that is unpacked."""
        match value:
            case Tensor():
                return value
            case TupleValue(items=items) if index < len(items):
                return items[index]
            case Ref(oid=oid):
                thing = state.heap.get(oid)
                if isinstance(thing, ListObject):
                    return self._any_of(
                        (*(thing.items or ()), *thing.summary), Ref(("attr", oid, index))
                    )
                if isinstance(thing, LibraryObject) and thing.role == "prepared":
                    return thing.links[index][1] if index < len(thing.links) else NONE
                return Ref(("attr", oid, index))
            case _:
                return Ref(("attr", value, index))

    def subscript(
        self, thing: Value, key: Value, state: State, frame: Frame, e: ir.Subscript
    ) -> Value:
        """`thing[key]`."""
        index = key.value if isinstance(key, Const) else None
        match thing:
            case Tensor():
                return replace(thing, activation="") if index is None else thing
            case TupleValue(items=items):
                if isinstance(index, int) and -len(items) <= index < len(items):
                    return items[index]
                return self._any_of(items, Ref(("attr", thing, key)))
            case External(path=path):
                return thing if path[-1:].isalpha() and "." in path else Ref(("attr", thing, key))
            case Ref() if isinstance(key, Tensor):
                return Tensor(references=key.forwards | key.references)
            case Ref(oid=oid):
                return self._object_item(oid, key, index, state)
            case _:
                return Ref(("attr", thing, key))

    def _object_item(self, oid: ObjectId, key: Value, index: object, state: State) -> Value:
        stored = state.attrs.get((oid, f"[{key}]"))
        if stored is not None:
            return stored
        thing = state.heap.get(oid)
        if isinstance(thing, ListObject):
            if thing.keys is not None and thing.items is not None:
                for known, item in zip(thing.keys, thing.items):
                    if known == key:
                        return item
            elif thing.items is not None and isinstance(index, int):
                if -len(thing.items) <= index < len(thing.items):
                    return thing.items[index]
            return self._any_of((*(thing.items or ()), *thing.summary), Ref(("attr", oid, key)))
        if isinstance(thing, ModuleObject):
            name = str(index) if index is not None else EACH
            held = state.attrs.get((oid, name))
            return held if held is not None else Ref(("attr", oid, name))
        return Ref(("attr", oid, key))

    @staticmethod
    def is_buffer(thing: Value, state: State) -> bool:
        """A tensor, or what a call returned and may be one: `targets = torch.zeros(n)`."""
        if isinstance(thing, Tensor):
            return True
        return (
            isinstance(thing, Ref)
            and isinstance(thing.oid, tuple)
            and thing.oid[0] == "result"
            and thing.oid not in state.heap
        )

    def set_item(
        self,
        thing: Value,
        key: Value,
        value: Value,
        state: State,
        frame: Frame,
        node: ir.Node,
    ) -> None:
        """`thing[key] = value`."""
        if not isinstance(thing, Ref):
            return
        found = state.heap.get(thing.oid)
        made = isinstance(value, Ref) and state.module(value.oid) is not None
        if found is None and made and self.models.is_inside(thing.oid, state):
            found = self.models.promote(thing.oid, state)
        if isinstance(found, ListObject):
            if found.keys is not None and found.items is not None and key in found.keys:
                items = tuple(value if k == key else v for k, v in zip(found.keys, found.items))
                state.heap[thing.oid] = replace(found, items=items)
            elif found.keys is not None and found.items is not None and isinstance(key, Const):
                state.heap[thing.oid] = ListObject((*found.items, value), keys=(*found.keys, key))
            else:
                both = frozenset(found.items or found.summary) | {value}
                state.heap[thing.oid] = ListObject(None, both)
        elif isinstance(found, ModuleObject) and isinstance(value, Ref):
            name = str(key.value) if isinstance(key, Const) else EACH
            if state.module(value.oid) is not None:
                self.models.replace_part(
                    thing.oid, name, value, state, frame, node, self.name_of(thing.oid, state)
                )
        elif isinstance(key, Const):
            state.attrs[thing.oid, f"[{key}]"] = value

    def extend(self, thing: Ref, value: Value, state: State) -> None:
        """`list += other`."""
        found = state.heap.get(thing.oid)
        if not isinstance(found, ListObject):
            return
        more = self.known_items(value, state)
        if found.items is not None and more is not None and len(found.items) < 12:
            state.heap[thing.oid] = ListObject((*found.items, *more))
        else:
            other = frozenset(more or ()) if more is not None else frozenset({value})
            state.heap[thing.oid] = ListObject(
                None, frozenset(found.items or found.summary) | other
            )

    def kept(
        self, s: ir.Node, name: str, old: Value, new: Value, state: State, frame: Frame
    ) -> None:
        """`total += loss` in a loop."""
        if (
            isinstance(new, Tensor)
            and new.attached is Certainty.YES
            and self.run.loops
            and state.grad.on is Certainty.YES
        ):
            self.kept_graphs.append(
                (GraphKept(site=self.run.site(frame, s), name="the loss", keeper=name), new)
            )

    # --- comparisons -------------------------------------------------------------------

    def compared(self, op: str, a: Value, b: Value, state: State) -> Value | None:
        """A comparison whose outcome is known, or that computes with tensors."""
        if isinstance(a, Const) and isinstance(b, Const):
            return _compare_constants(op, a, b)
        if op in ("is", "is not", "==", "!=") and NONE in (a, b):
            other = a if b == NONE else b
            known = not isinstance(other, Ref | Condition | LibraryMethod) or (
                isinstance(other, Ref) and other.oid in state.heap
            )
            if known:
                return TRUE if op in ("is not", "!=") else FALSE
            return None
        if op in ("in", "not in") and isinstance(a, Const):
            items = self.known_items(b, state)
            if items is not None and all(isinstance(i, Const) for i in items):
                inside = a in items
                return TRUE if inside is (op == "in") else FALSE
        if op in ("==", "!=", ">", "<", ">=", "<=") and (
            isinstance(a, Tensor) or isinstance(b, Tensor)
        ):
            for side in (a, b):
                if isinstance(side, Tensor):
                    self.training.measured(side)
            joined = join_values((a, b))
            assert isinstance(joined, Tensor)
            return Tensor(
                attached=Certainty.NO,
                cut=Cut.COMPARISON,
                references=joined.references | joined.forwards,
            )
        return None

    # --- escape ------------------------------------------------------------------------

    def escape(self, value: Value, state: State, depth: int = 0) -> None:
        """A value goes where the analysis does not: a backward may follow there."""
        match value:
            case Tensor():
                self.training.escaped(value)
            case TupleValue(items=items):
                for item in items:
                    self.escape(item, state, depth + 1)
            case Ref(oid=oid) if depth < 4:
                thing = state.heap.get(oid)
                if isinstance(thing, ListObject):
                    for item in (*(thing.items or ()), *thing.summary):
                        if item != value:
                            self.escape(item, state, depth + 1)
            case _:
                pass

    def havoc(self, value: Value, state: State, depth: int = 0) -> None:
        """Something unknown got the value: what was known of it is not known any more."""
        match value:
            case TupleValue(items=items):
                for item in items:
                    self.havoc(item, state, depth + 1)
            case Ref(oid=oid) if depth < 3:
                thing = state.heap.get(oid)
                match thing:
                    case ModuleObject(loss=None):
                        self.models.forget_mode(oid, state)
                    case OptimizerObject():
                        state.update(oid, escaped=True)
                        self.training.clear_unknown(state, [oid])
                    case ListObject():
                        for item in thing.items or ():
                            self.havoc(item, state, depth + 1)
                    case ParametersObject():
                        pass
                    case LibraryObject(role="loader" | "distributed_sampler"):
                        self.epochs.manages(value, state)
                    case _:
                        for (owner, _), held in list(state.attrs.items()):
                            if owner == oid:
                                self.havoc(held, state, depth + 1)
            case _:
                pass

    # --- receivers ---------------------------------------------------------------------

    def receiver(self, owner: Value, state: State, expr: ir.Expr, attr: str) -> Receiver:
        """What kind of thing stands before the dot."""
        match owner:
            case Tensor():
                return Receiver.TENSOR
            case ParameterValue():
                return Receiver.PARAMETER
            case Ref(oid=oid):
                match state.heap.get(oid):
                    case ModuleObject(cls=cls, wrapper=wrapper):
                        if cls is not None and _own_property(cls, attr):
                            return Receiver.OTHER
                        return Receiver.PEFT_MODEL if wrapper == "peft" else Receiver.MODULE
                    case OptimizerObject():
                        return Receiver.OPTIMIZER
                    case SchedulerObject():
                        return Receiver.SCHEDULER
                    case ScalerObject():
                        return Receiver.SCALER
                    case ParametersObject():
                        return Receiver.PARAMETERS
                    case None:
                        return Receiver.UNKNOWN
                    case _:
                        return Receiver.OTHER
            case _:
                return Receiver.OTHER

    # --- calls -------------------------------------------------------------------------

    def call_expression(self, e: ir.Call, state: State, frame: Frame) -> Evaluated:
        """Evaluate a call's function and arguments, then call."""
        results: Evaluated = []
        if isinstance(e.func, ir.Attribute) and e.func.attr in PROTOCOL_CALLS:
            self.run.reached.add(id(e))
        plain = tuple(a.value for a in e.args)
        for st, func in self.run.eval(e.func, state, frame):
            for st2, values in self.run.eval_all(plain, st, frame):
                arguments = self._arguments(e, values, st2)
                results.extend(self.call(func, arguments, st2, frame, e))
        return results

    def _arguments(self, e: ir.Call, values: tuple[Value, ...], state: State) -> Arguments:
        positional: list[Value] = []
        keywords: list[tuple[str, Value]] = []
        complete = True
        for argument, value in zip(e.args, values):
            if argument.star == 1:
                items = self.known_items(value, state)
                if items is None:
                    complete = False
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
                    complete = False
            elif argument.name is not None:
                keywords.append((argument.name, value))
            else:
                positional.append(value)
        return Arguments(tuple(positional), tuple(keywords), complete, e.args)

    def call(
        self, func: Value, arguments: Arguments, state: State, frame: Frame, node: ir.Call
    ) -> Evaluated:
        """Call any value."""
        match func:
            case External(path=path):
                return self.library_call(path, arguments, state, frame, node)
            case Func():
                return self.invoke(func, arguments, state, frame, node)
            case Method(receiver=receiver, func=inner):
                return self.invoke(inner, arguments.with_first(receiver), state, frame, node)
            case ClassValue(info=info):
                return self.instantiate(info, arguments, state, frame, node)
            case LibraryMethod(receiver=receiver, name=name):
                return self.library_method(receiver, name, arguments, state, frame, node)
            case Partial(func=inner, args=args, keywords=keywords):
                joined = Arguments(
                    (*args, *arguments.positional),
                    (*keywords, *arguments.keywords),
                    arguments.complete,
                )
                return self.call(inner, joined, state, frame, node)
            case Ref(oid=oid):
                return self._call_object(oid, arguments, state, frame, node)
            case _:
                return self.unknown_call(arguments, state, frame, node)

    def _call_object(
        self, oid: ObjectId, arguments: Arguments, state: State, frame: Frame, node: ir.Call
    ) -> Evaluated:
        thing = state.heap.get(oid)
        name = spelled(node.func)
        match thing:
            case ModuleObject(loss=loss) if loss is not None:
                result = self._loss(loss, arguments, state, frame, node, name)
                return [(state, self._through(oid, name, result, thing, state, frame, node))]
            case ModuleObject():
                return self.forward(oid, name, arguments, state, frame, node)
            case InstanceObject(cls=cls):
                method = cls.method("__call__")
                if method is not None:
                    place = ir.Attribute(node.func, "__call__", node.node)
                    return [
                        after
                        for st, bound in self._bound(oid, method, state, frame, place)
                        for after in self.call(bound, arguments, st, frame, node)
                    ]
            case LibraryObject(role="loss", path=path):
                return [(state, self._loss(path, arguments, state, frame, node, name))]
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
                done = self.opaque_method(owner, method, oid, arguments, state, frame, node)
                if done is not None:
                    return done
        last = name.rsplit(".", 1)[-1]
        if _makes(oid, last, frame):
            return self._made_elsewhere(last, arguments, state, frame, node)
        if (
            MODEL_NAME.search(last)
            and not _CLASS_NAME.match(last)
            and not _LOSS_NAME.search(last)
            and arguments.values
        ):
            self.models.promote(oid, state)
            return self.forward(oid, name, arguments, state, frame, node)
        return self.unknown_call(arguments, state, frame, node)

    def _made_elsewhere(
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
        inputs = tuple(_flattened(arguments.values))
        if module is not None and module.cls is not None and _is_loss_class(module, inputs, name):
            joined = self.combine(arguments.values, "loss", state)
            return [(state, self._through(oid, name, joined, module, state, frame, node))]
        before = state.grad
        forward = module.cls.method("forward") if module is not None and module.cls else None
        if forward is not None and _decorator_names(forward.function) & _GRADIENTS_OFF:
            origin = self.run.origin(frame, node, "its `forward` runs with gradients off")
            state.grad = GradMode(Certainty.NO, origin=origin)
        result = self.training.forward(oid, name, arguments.values, state, frame, node)
        state.grad = before
        return [(state, result)]

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
        """A loss of the project that runs a network of its own: its gradients pass through it."""
        if not isinstance(loss, Tensor) or module.cls is None:
            return loss
        off = module.cls.node.words & {"no_grad", "inference_mode", "set_grad_enabled"}
        parts = [state.module(part) for part in self.models.reach(oid, state) if part != oid]
        network = any(p is not None and p.parametric and p.loss is None for p in parts)
        if off or not network or self.models.share(oid, state).share is not Share.ALL:
            return loss
        made = self.training.forward(oid, name, (loss,), state, frame, node, record=False)
        return replace(loss, forwards=loss.forwards | made.forwards)

    def _loss(
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
        result = self.combine(arguments.values, "loss", state)
        return replace(result, is_loss=True) if isinstance(result, Tensor) else result

    def unknown_call(
        self, arguments: Arguments, state: State, frame: Frame, node: ir.Node, havoc: bool = True
    ) -> Evaluated:
        """Nothing is known of the function: what it got is unknown, its result derived."""
        if havoc:
            trains = isinstance(node, ir.Call) and _TRAINS_NAME.search(spelled(node.func))
            for value in arguments.values:
                self.havoc(value, state)
                if trains and isinstance(value, Tensor):
                    self.training.perhaps_backward(value, state)
            state = self.callbacks(arguments, state, frame, node)
        joined = self.combine(arguments.values, "call", state)
        if isinstance(joined, Tensor):
            unsure = Certainty.UNKNOWN if joined.attached is Certainty.NO else joined.attached
            return [(state, replace(joined, attached=unsure, cut=None))]
        return [(state, self.run.fresh(state, frame, node, "result"))]

    def callbacks(self, arguments: Arguments, state: State, frame: Frame, node: ir.Node) -> State:
        """Functions given to something unknown are called by it once."""
        for value in arguments.values:
            if isinstance(value, Func | Method):
                function = value.func.function if isinstance(value, Method) else value.function
                if function.name == "<lambda>" or not self.run.relevance.matters(
                    function, (value.func if isinstance(value, Method) else value).module
                ):
                    continue
                given = Arguments((value.receiver,)) if isinstance(value, Method) else Arguments()
                inner = value.func if isinstance(value, Method) else value
                for st, result in self.invoke(inner, given, state, frame, node)[:1]:
                    self.escape(result, st)
                    state = st
        return state

    # --- project functions -------------------------------------------------------------

    def invoke(
        self, func: Func, arguments: Arguments, state: State, frame: Frame, node: ir.Node
    ) -> Evaluated:
        """Run a function of the project with the caller's facts."""
        from trainlint.flow.interpret import MAX_DEPTH

        function = func.function
        if func.is_context or function.is_generator:
            ref = self.run.fresh(state, frame, node, "generator")
            role = "contextmanager" if func.is_context else "generator"
            keywords = tuple(arguments.keywords)
            state.heap[ref.oid] = LibraryObject(
                role, links=(("call", Partial(func, arguments.positional, keywords)),)
            )
            return [(state, ref)]
        recursive = self.run.active.count(function) >= 2
        if recursive or self.run.depth >= MAX_DEPTH:
            return self.unknown_call(arguments, state, frame, node)
        self.run.executed.add(id(function))
        if not self.run.relevance.matters(function, func.module) and not self._uses_up(
            arguments, state
        ):
            return self.unknown_call(arguments, state, frame, node, havoc=False)
        before = state.grad
        for context in func.contexts:
            self._enter_grad(context, state, frame, node)
        results = self._remembered(func, arguments, state, frame, node)
        if func.contexts:
            for st, _ in results:
                st.grad = before
        return results

    def _remembered(
        self, func: Func, arguments: Arguments, state: State, frame: Frame, node: ir.Node
    ) -> Evaluated:
        """Run a function, unless it is known to leave just such a state as it is."""
        try:
            before = (
                func,
                arguments.positional,
                arguments.keywords,
                frame.id,
                node.node,
                state.key(),
            )
            known = self.run.unchanged.get(before)
        except TypeError:
            return self.execute(func, arguments, state, frame, node)
        if known is not None:
            return [(state, known)]
        results = self.execute(func, arguments, state, frame, node)
        if len(results) == 1 and results[0][0].key() == before[-1]:
            self.run.unchanged[before] = results[0][1]
        return results

    @staticmethod
    def _uses_up(arguments: Arguments, state: State) -> bool:
        """Whether a one-shot iterator is given, of which the function may leave nothing."""
        things = [state.heap.get(v.oid) for v in arguments.values if isinstance(v, Ref)]
        return any(isinstance(t, ParametersObject) and t.one_shot for t in things)

    def execute(
        self,
        func: Func,
        arguments: Arguments,
        state: State,
        frame: Frame,
        node: ir.Node,
        yields: Callable[[list[State], Value | None], list[State]] | None = None,
    ) -> Evaluated:
        """Run a function's body in a frame of its own."""
        inner = self._enter(func, arguments, state, frame, node)
        inner.yields = yields
        self.run.entered[id(func.function)] = func.function.body
        self.run.depth += 1
        self.run.active.append(func.function)
        try:
            out = self.run.block(func.function.body, [state], inner)
        finally:
            self.run.active.pop()
            self.run.depth -= 1
        ends: list[tuple[State, Value]] = [(st, NONE) for st in out.on]
        for kind, st, value in out.jumps:
            if kind is ir.JumpKind.RETURN:
                ends.append((st, value if value is not None else NONE))
        return self._leave(ends, inner, func)

    def _enter(
        self, func: Func, arguments: Arguments, state: State, frame: Frame, node: ir.Node
    ) -> Frame:
        from trainlint.flow.interpret import Frame as FrameClass

        function = func.function
        frame_id = hash((frame.id, frame.module.path, node.node, id(function)))
        inner = FrameClass(
            frame_id,
            func.module,
            func,
            func.frame,
            function.locals,
            arguments.positional[0] if func.owner is not None and arguments.positional else None,
            frame,
            cls=func.owner,
        )
        self.run.frames[frame_id] = inner
        bound = bind(function, arguments)
        for parameter in function.parameters:
            value = bound.values.get(parameter.name)
            if parameter.kind is ir.ParameterKind.DOUBLE_STAR and arguments.complete:
                names = tuple(const(key) for key, _ in bound.extra)
                others = tuple(given for _, given in bound.extra)
                value = self.new_dict(names, others, state, frame, node)
            elif value is None:
                value = self._default(parameter, func, arguments, state, frame_id)
            state.vars[frame_id, parameter.name] = value
            if isinstance(value, Ref) and value.oid == ("param", frame_id, parameter.name):
                state.forget(value.oid)
        return inner

    def _default(
        self, parameter: ir.Parameter, func: Func, arguments: Arguments, state: State, frame_id: int
    ) -> Value:
        opaque = Ref(("param", frame_id, parameter.name))
        if parameter.default is None or not arguments.complete:
            return opaque
        found = func.module.static_value(parameter.default)
        return found if found is not None else opaque

    def _leave(self, ends: list[tuple[State, Value]], inner: Frame, func: Func) -> Evaluated:
        """Join the states that return; variables of a frame nobody closes over are dropped."""
        groups: dict[Value, list[State]] = {}
        closes = self.run.relevance.defines_functions(func.function)
        for st, value in ends:
            if not closes:
                for name in func.function.locals:
                    st.vars.pop((inner.id, name), None)
            groups.setdefault(value, []).append(st)
        if len(groups) > 1:
            groups = self._join_results(groups)
        return [(st, value) for value, states in groups.items() for st in self.run.join(states)]

    @staticmethod
    def _join_results(groups: dict[Value, list[State]]) -> dict[Value, list[State]]:
        """Results that are tensors or nothing known are one result."""
        tensors = [v for v in groups if isinstance(v, Tensor)]
        if len(tensors) < 2:
            return groups
        joined = join_values(tensors)
        assert joined is not None
        merged: dict[Value, list[State]] = {joined: []}
        for value, states in groups.items():
            if isinstance(value, Tensor):
                merged[joined].extend(states)
            else:
                merged.setdefault(value, []).extend(states)
        return merged

    def method(
        self,
        instance: Value,
        name: str,
        positional: tuple[Value, ...],
        keywords: tuple[tuple[str, Value], ...],
        state: State,
        frame: Frame,
        node: ir.Node,
    ) -> Evaluated:
        """Call a method of a project's instance by name."""
        cls = self._class_of(instance, state)
        func = cls.method(name) if cls is not None else None
        if func is None:
            return [(state, NONE)]
        return self.invoke(func, Arguments((instance, *positional), keywords), state, frame, node)

    def instantiate(
        self, info: ClassInfo, arguments: Arguments, state: State, frame: Frame, node: ir.Node
    ) -> Evaluated:
        """Make an instance of a class of the project."""
        self.run.instantiated.add(id(info.node))
        ref = self.run.fresh(state, frame, node)
        for key in [k for k in state.attrs if k[0] == ref.oid]:
            del state.attrs[key]
        if info.is_module:
            state.heap[ref.oid] = ModuleObject(
                cls=info,
                flag=ModeFact(Mode.TRAIN, None, None),
                trainable=TrainableFact(Share.ALL),
                sensitive=own_sensitivity(info),
                fresh=True,
                loss="" if info.name.lower().endswith(("loss", "criterion")) else None,
            )
        else:
            state.heap[ref.oid] = InstanceObject(info)
        constructor = info.method("__init__")
        if not info.is_module and isinstance(node, ir.Call):
            self.trainers.adopt(ref.oid, info, arguments, Place(state, frame, node))
        if constructor is None:
            if arguments.positional or not arguments.complete:
                # A dataclass: its defaults may have been overwritten.
                for name in _class_fields(info):
                    state.attrs[ref.oid, name] = Ref(("attr", ref.oid, name))
            for keyword, value in arguments.keywords:
                state.attrs[ref.oid, keyword] = value
            base = next((b for b in sorted(info.externals) if LIBRARY.call(b) is not None), None)
            if base is not None and info.is_module:
                self._add_parts(ref.oid, arguments, state, frame, node)
            return [(state, ref)]
        results = self.execute(constructor, arguments.with_first(ref), state, frame, node)
        self.run.executed.add(id(constructor.function))
        return [(st, ref) for st, _ in results]

    # --- decorators, generators and contexts -------------------------------------------

    def decorate(
        self, outer: Value, inner: Value, state: State, frame: Frame, node: ir.Expr
    ) -> Evaluated:
        """Apply a decorator to a function."""
        match outer:
            case External(path=path):
                spec = LIBRARY.call(path)
                if isinstance(spec, sp.Context) and isinstance(inner, Func):
                    return [(state, replace(inner, contexts=(*inner.contexts, outer)))]
                if path in ("contextlib.contextmanager", "contextlib.asynccontextmanager"):
                    if isinstance(inner, Func):
                        return [(state, replace(inner, is_context=True))]
                return [(state, inner)]
            case Ref(oid=oid) if isinstance(state.heap.get(oid), ContextObject):
                if isinstance(inner, Func):
                    return [(state, replace(inner, contexts=(*inner.contexts, outer)))]
                return [(state, inner)]
            case Func() | Method():
                call = ir.Call(node, (), node.node)
                results = self.call(outer, Arguments((inner,)), state, frame, call)
                return [
                    (st, v if isinstance(v, Func | Method | Partial | Ref) else inner)
                    for st, v in results
                ] or [(state, inner)]
            case _:
                return [(state, inner)]

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
            cls = self._class_of(value, state)
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
        from trainlint.flow.interpret import MAX_DEPTH

        if not isinstance(call, Partial) or not isinstance(call.func, Func):
            return body([state], None)
        func = call.func
        if self.run.depth >= MAX_DEPTH or self.run.active.count(func.function) >= 2:
            return body([state], None)
        self.run.executed.add(id(func.function))
        arguments = Arguments(call.args, call.keywords)
        before = state.grad
        for context in func.contexts:
            self._enter_grad(context, state, frame, node)
        results = self.execute(func, arguments, state, frame, node, body)
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
        return self._enter_grad(value, state, frame, s.context)

    def _enter_grad(self, value: Value, state: State, frame: Frame, node: ir.Node) -> Value:
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
                        self.adapters.enter(thing, state)
                        return value
                elif isinstance(thing, LibraryObject) and thing.role == "scaled_loss":
                    return thing.link("loss") or value
            case _:
                pass
        if kind is not None:
            self._apply_grad(kind, flag, state, frame, node, leaked=False)
        return value

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
                    self.adapters.leave(thing, state)
                    return
                if thing.kind != "neutral":
                    state.grad = before
        elif isinstance(value, External):
            state.grad = before

    # --- library calls -----------------------------------------------------------------

    def library_call(
        self, path: str, arguments: Arguments, state: State, frame: Frame, node: ir.Call
    ) -> Evaluated:
        """Call something of a library by its dotted path."""
        from trainlint.flow import builtin_calls

        handled = builtin_calls.call(self, path, arguments, state, frame, node)
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
            state = self.callbacks(arguments, state, frame, node)
            return self.unknown_call(arguments, state, frame, node, havoc=False)
        if path.startswith("torch.") and not path.startswith("torch.nn.utils"):
            computed = self.combine(arguments.values, "call", state)
            if isinstance(computed, Tensor):
                return [(state, computed)]
            return self.unknown_call(arguments, state, frame, node, havoc=False)
        return self._made_elsewhere(path.rsplit(".", 1)[-1], arguments, state, frame, node)

    def _user_semantics(
        self, kind: str, arguments: Arguments, state: State, frame: Frame, node: ir.Call
    ) -> Evaluated:
        first = arguments.get("model", 0)
        match kind:
            case "train" | "eval" if isinstance(first, Ref):
                mode = Mode.TRAIN if kind == "train" else Mode.EVAL
                return [
                    (st, first) for st in self.models.set_mode(first.oid, mode, state, frame, node)
                ]
            case "backward" if first is not None:
                self.training.backward(first, "loss", state, frame, node)
                return [(state, NONE)]
            case "no_grad":
                return [(state, self._context("no_grad", None, state, frame, node))]
            case "factory":
                return [(state, self._factory(sp.Factory(), "", state, frame, node))]
            case _:
                return self.unknown_call(arguments, state, frame, node)

    def _context(
        self, kind: str, grad: Value | None, state: State, frame: Frame, node: ir.Node
    ) -> Ref:
        ref = self.run.fresh(state, frame, node, "context")
        state.heap[ref.oid] = ContextObject(kind, grad)
        return ref

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
        if not (spec.heads and cls.endswith(spec.heads) and asked):
            return
        if not any(word in name for word in spec.trained_heads):
            origin = self.run.origin(frame, node, "its head is made anew here")
            state.update(oid, fresh_head=origin)

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
                return [(state, self.adapters.library(spec, path, arguments, place))]
            case sp.TrainerClass():
                place = Place(state, frame, node)
                return [(state, self.trainers.construct(spec, path, arguments, place))]
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
                return [(state, self._context(kind, first, state, frame, node))]
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
                return [(state, self._loss(kind, arguments, state, frame, node, path))]
            case sp.Same(ungraphed=flag) if flag and arguments.get(flag) == TRUE:
                return [(state, self.run.fresh(state, frame, node, UNGRAPHED))]
            case sp.Same(argument=position, ungraphed=flag):
                same = (
                    arguments.positional[position]
                    if position < len(arguments.positional)
                    else (arguments.values[0] if arguments.values else NONE)
                )
                if flag and isinstance(same, Tensor):
                    same = self._wrapped_again(same, arguments, frame, node)
                return [(state, same)]
            case sp.Copy():
                return [(state, self._copy(arguments, state, frame, node))]
            case sp.Cuts(how=how):
                joined = self.combine(arguments.values, "call", state)
                if isinstance(joined, Tensor):
                    severed = self.cut(joined, how, frame, node)
                    if how is Cut.REBUILT and isinstance(severed, Tensor):
                        severed = replace(severed, leaf=arguments.get("requires_grad") == TRUE)
                    return [(state, severed)]
                return self.unknown_call(arguments, state, frame, node, havoc=False)
            case sp.Clip(argument=argument):
                return self._clip(argument, arguments, state, frame, node)
            case sp.BackwardFunction(fills=fills):
                return self._backward_function(fills, arguments, state, frame, node)
            case sp.Role(role=role, keeps=keeps):
                ref = self.run.fresh(state, frame, node)
                links = tuple((n, v) for n, p in keeps if (v := arguments.get(n, p)) is not None)
                state.heap[ref.oid] = LibraryObject(role, path, links)
                if role == "distributed_sampler":
                    self.epochs.made(ref.oid)
                return [(state, ref)]
            case sp.Activation(name=name):
                joined = self.combine(arguments.positional[:1] or arguments.values, "call", state)
                if isinstance(joined, Tensor):
                    origin = self.run.origin(frame, node, f"{name} is applied here")
                    joined = replace(joined, activation=name, activation_origin=origin)
                return [(state, joined)]
            case sp.Reshape():
                joined = self.combine(arguments.positional[:1] or arguments.values, "call")
                first = arguments.get("input", 0)
                if isinstance(joined, Tensor) and isinstance(first, Tensor):
                    joined = replace(
                        joined,
                        activation=first.activation,
                        activation_origin=first.activation_origin,
                    )
                return [(state, joined)]
            case sp.Harmless() | sp.DropoutFunction():
                return self.unknown_call(arguments, state, frame, node, havoc=False)
            case sp.Operation(name=name):
                return self._operation(name, path, arguments, state, frame, node)

    def _operation(
        self, name: str, path: str, arguments: Arguments, state: State, frame: Frame, node: ir.Call
    ) -> Evaluated:
        first = arguments.values[0] if arguments.values else NONE
        match name:
            case "spawn":
                state = self.callbacks(arguments, state, frame, node)
                return [(state, NONE)]
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
                    made = self.training.forward(
                        first.oid,
                        self.name_of(first.oid, state),
                        arguments.values[1:],
                        state,
                        frame,
                        node,
                        record=False,
                    )
                    return [(state, made)]
                if isinstance(first, Func | Method):
                    rest = Arguments(arguments.positional[1:], (), arguments.complete)
                    return self.call(first, rest, state, frame, node)
                return self.unknown_call(arguments, state, frame, node, havoc=False)
            case "master_params":
                ref = self.run.fresh(state, frame, node, "params")
                optimizer = state.optimizer(first.oid) if isinstance(first, Ref) else None
                groups = optimizer.groups if optimizer is not None else None
                state.heap[ref.oid] = ParametersObject(groups or (), groups is not None)
                return [(state, ref)]
            case _:
                return self.unknown_call(arguments, state, frame, node, havoc=False)

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
        self._copy_module(first.oid, ref.oid, state, 0)
        state.update(ref.oid, copy_of=first.oid)
        return ref

    def _copy_module(self, old: ObjectId, new: ObjectId, state: State, depth: int) -> None:
        module = state.module(old)
        if module is None or depth > 6:
            return
        state.heap[new] = replace(module, changes=frozenset(), copy_of=old)
        for name, child in self.models.children(old, state):
            twin = ("attr", new, name)
            self._copy_module(child, twin, state, depth + 1)
            state.attrs[new, name] = Ref(twin)
            if module.wraps == child:
                state.update(new, wraps=twin)
        for (owner, name), value in list(state.attrs.items()):
            if owner == old and (new, name) not in state.attrs:
                state.attrs[new, name] = value

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
        state.heap[ref.oid] = ModuleObject(
            library=path,
            flag=ModeFact(Mode.TRAIN),
            trainable=TrainableFact(Share.ALL),
            sensitive=sensitive,
            parametric=spec.parametric or spec.container,
            activation=spec.activation,
            fresh=True,
        )
        if spec.container:
            for key in [k for k in state.attrs if k[0] == ref.oid]:
                del state.attrs[key]
            self._add_parts(ref.oid, arguments, state, frame, node)
        return ref

    def _add_parts(
        self, oid: ObjectId, arguments: Arguments, state: State, frame: Frame, node: ir.Node
    ) -> None:
        values = list(arguments.positional)
        unordered = False
        if len(values) == 1:
            inner = self.known_items(values[0], state)
            if inner is not None:
                values = list(inner)
            elif isinstance(values[0], Ref):
                thing = state.heap.get(values[0].oid)
                if isinstance(thing, ListObject) and thing.summary:
                    values = sorted(thing.summary, key=str)
                    unordered = len(values) > 1
        unknown = not arguments.complete
        last = values[-1] if values else None
        unordered |= unknown and (not arguments.exprs or bool(arguments.exprs[-1].star))
        if unordered or not isinstance(last, Ref):
            state.update(oid, activation=UNORDERED)
        for i, value in enumerate(values):
            if isinstance(value, Ref) and state.module(value.oid) is not None:
                state.attrs[oid, str(i)] = value
            elif isinstance(value, Ref):
                self.models.promote(value.oid, state)
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
        self.models.promote(inner.oid, state)
        if spec.keeps_object:
            return inner
        return self.wrap(inner, spec.kind, spec.attribute, state, frame, node)

    def wrap(
        self, inner: Ref, kind: str, attribute: str, state: State, frame: Frame, node: ir.Node
    ) -> Ref:
        """A module around another that shares its parameters."""
        ref = self.run.fresh(state, frame, node)
        module = self.models.promote(inner.oid, state)
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
        ref = self.run.fresh(state, frame, node)
        parameters = arguments.get(spec.argument, 0)
        kind = path.rsplit(".", 1)[-1]
        if parameters is not None:
            self.models.consume(parameters, state, frame, node, "parameters", f"`{kind}`")
        self.training.create(
            ref.oid, kind, parameters, "the optimizer", state, frame, node, spec.closure
        )
        self.names.pop(ref.oid, None)
        return ref

    def _clip(
        self, argument: str, arguments: Arguments, state: State, frame: Frame, node: ir.Call
    ) -> Evaluated:
        parameters = arguments.get(argument, 0)
        if parameters is not None:
            expr = arguments.expr(argument, 0)
            self.models.consume(
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
            self.training.clip(parameters, state, frame, node, infinite, _mentions_scale(limit))
        return [(state, self.run.fresh(state, frame, node))]

    def _backward_function(
        self, fills: bool, arguments: Arguments, state: State, frame: Frame, node: ir.Call
    ) -> Evaluated:
        first = arguments.values[0] if arguments.values else NONE
        if fills:
            self.training.backward(first, spelled(node.args[0].value), state, frame, node)
            return [(state, NONE)]
        for value in arguments.values:
            self.escape(value, state)
        joined = self.combine(arguments.values, "grad")
        return [(state, joined)]

    # --- library methods ---------------------------------------------------------------

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
        from trainlint.flow import methods

        return methods.call(self, receiver, name, arguments, state, frame, node)

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
        from trainlint.flow import methods

        return methods.of_object(self, owner, method, arguments, state, frame, node)

    # --- statements --------------------------------------------------------------------

    def discarded(
        self, s: ir.Expression, call: ir.Call, result: Value, state: State, frame: Frame
    ) -> None:
        """A call stands alone as a statement."""
        if isinstance(result, Ref):
            self.adapters.dropped(call, state, frame)
            thing = state.heap.get(result.oid)
            if isinstance(thing, ContextObject):
                self._discarded_context(s, call, thing, state, frame)
                return
        if not isinstance(result, Tensor):
            return
        for made in result.forwards:
            seen = self.training.forwards.get(made.site)
            if seen is not None and seen.event.site.node == call.node:
                seen.event = replace(seen.event, result_used=Certainty.NO)
        attr = call.func.attr if isinstance(call.func, ir.Attribute) else ""
        if attr and attr not in _KEEPING_METHODS and attr != "backward" and not attr.endswith("_"):
            self._escape_arguments(call, state, frame)

    def _escape_arguments(self, call: ir.Call, state: State, frame: Frame) -> None:
        """`runner.optimize(loss)` may run backward on what it is given."""
        for argument in call.args:
            if isinstance(argument.value, ir.Name):
                value = self.run.load_name(argument.value.id, state, frame)
                self.escape(value, state)
                if isinstance(value, Tensor):
                    self.training.perhaps_backward(value, state)

    def _discarded_context(
        self, s: ir.Expression, call: ir.Call, thing: ContextObject, state: State, frame: Frame
    ) -> None:
        if thing.kind == "set_grad_enabled":
            self._apply_grad(thing.kind, thing.grad, state, frame, call, leaked=True)
            return
        if thing.kind == "neutral" or thing.kind.startswith("adapter:"):
            if thing.kind.startswith("adapter:"):
                self.adapters.discarded(s, call, thing, state, frame)
            return
        self.run.recorder.raise_event(
            DiscardedCall(
                site=self.run.site(frame, call),
                callee=f"torch.{thing.kind}",
                name=spelled(call.func),
                followed_by_def=s.before_definition,
            )
        )

    # --- hooks of the step -------------------------------------------------------------

    def on_backward(self, tensor: Tensor, state: State, frame: Frame, node: ir.Node) -> None:
        """After a backward, see whether a wrapper was bypassed."""
        for made in tensor.forwards:
            wrapper = made.bypasses
            if wrapper is None or state.module(wrapper) is None:
                continue
            if any(other.oid == wrapper for other in tensor.forwards):
                continue
            seen = self.training.forwards.get(made.site)
            if seen is None:
                continue
            self.run.recorder.raise_event(
                WrapperBypassed(
                    site=seen.event.site,
                    when=self.run.when,
                    wrapper=self.name_of(wrapper, state),
                    model=made.facts,
                ),
                self.run.rounds,
                state.decisions,
            )

    def on_step(
        self, forwards: list[Forward], optimizer: OptimizerObject, state: State, frame: Frame
    ) -> None:
        """After a step that trained."""


_LOSS_NAME = re.compile(
    r"loss|criterion|metric|_fn$|accuracy|score|tokeniz|transform", re.IGNORECASE
)
_PART_NAME = re.compile(
    r"(layer|block|conv|bn|norm|fc|head|stem|stage|features|classifier|backbone|encoder|decoder"
    r"|trunk|body|transformer|embeddings|attention|downsample|roi_heads|rpn|bert|roberta|vit|model"
    r"|base_model|vision_model|text_model|lm_head|wte|wpe|h)(_?\d*)$"
)
_LOSS_NAMES = {
    "cross_entropy": "CrossEntropyLoss",
    "nll": "NLLLoss",
    "bce": "BCELoss",
    "bce_with_logits": "BCEWithLogitsLoss",
}
_LIBRARY_METHODS = frozenset(
    """train eval parameters named_parameters modules named_modules children named_children to cuda
    cpu half float double bfloat16 zero_grad state_dict load_state_dict requires_grad_ apply forward
    buffers named_buffers generate save_pretrained register_forward_hook add_module
    """.split()
)


_FACTORY_NAME = re.compile(r"_?(get|build|create|make|load|init|define|setup|prepare)_")


def _makes(oid: ObjectId, name: str, frame: Frame) -> bool:
    """Whether a name that nobody binds here is a class or a factory: it came by `import *`."""
    if not isinstance(oid, tuple) or oid[0] != "global" or name in frame.module.bindings:
        return False
    starred = bool(frame.module.stars)
    return _is_class_name(name) or starred or bool(_FACTORY_NAME.match(name))


def _is_class_name(name: str) -> bool:
    """`UNet`, `DeepLabV3`, `GPT`; not `G`, `G_A` or `netG`."""
    return _CLASS_NAME.match(name) is not None


def is_library_method(name: str) -> bool:
    """Whether every torch.nn.Module has a method of that name."""
    return name in _LIBRARY_METHODS


def _flattened(values: tuple[Value, ...]) -> list[Value]:
    found: list[Value] = []
    for value in values:
        if isinstance(value, TupleValue):
            found.extend(_flattened(value.items))
        else:
            found.append(value)
    return found


def _is_loss_class(module: ModuleObject, inputs: tuple[Value, ...], name: str) -> bool:
    assert module.cls is not None
    named = bool(_LOSS_NAME.search(name)) or "loss" in module.cls.name.lower()
    return named and any(isinstance(v, Tensor) for v in inputs)


def _own_property(cls: ClassInfo, attr: str) -> bool:
    func = cls.method(attr)
    return func is not None and bool(_decorator_names(func.function) & {"property"})


def _decorator_names(function: ir.Function) -> set[str]:
    return {spelled(d).rsplit(".", 1)[-1].removesuffix("(...)") for d in function.decorators}


_BUILTIN_DECORATORS = frozenset(
    "property cached_property staticmethod classmethod abstractmethod override wraps setter".split()
)


def _is_builtin_decorator(decorator: ir.Expr) -> bool:
    return spelled(decorator).rsplit(".", 1)[-1].removesuffix("(...)") in _BUILTIN_DECORATORS


def _is_flag(attr: str) -> bool:
    """`training`, or `requires_grad` in any spelling."""
    return attr == "training" or (attr.startswith("req") and ("gra" in attr or "gard" in attr))


def _is_parameter_place(e: ir.Expr) -> bool:
    """`model.fc.weight`, `layer.bias`."""
    return isinstance(e, ir.Attribute) and e.attr in ("weight", "bias")


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


def _compare_constants(op: str, a: Const, b: Const) -> Value | None:
    x, y = a.value, b.value
    try:
        match op:
            case "==" | "is":
                result: object = x == y
            case "!=" | "is not":
                result = x != y
            case "<":
                result = x < y  # type: ignore[operator]
            case ">":
                result = x > y  # type: ignore[operator]
            case "<=":
                result = x <= y  # type: ignore[operator]
            case ">=":
                result = x >= y  # type: ignore[operator]
            case "in":
                result = x in y  # type: ignore[operator]
            case "not in":
                result = x not in y  # type: ignore[operator]
            case _:
                return None
    except TypeError:
        return None
    return TRUE if result else FALSE


_GRADIENTS_OFF = frozenset({"no_grad", "inference_mode"})


def _class_fields(info: ClassInfo) -> list[str]:
    """The names that a class's body assigns."""
    return [
        target.id
        for statement in info.node.body
        if isinstance(statement, ir.Assign)
        for target in statement.targets
        if isinstance(target, ir.Name)
    ]


__all__ = ["Calls", "is_library_method"]
