"""Reading and writing attributes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from trainlint.core import late
from trainlint.core.events import (
    AttributeAssigned,
    Receiver,
)
from trainlint.core.facts import (
    Certainty,
    Cut,
    Mode,
)
from trainlint.flow import ir
from trainlint.flow.arguments import Arguments
from trainlint.flow.frames import Frame
from trainlint.flow.ir import spelled
from trainlint.flow.project import ClassInfo, member
from trainlint.flow.state import (
    ContextObject,
    InstanceObject,
    LibraryObject,
    ListObject,
    ModuleObject,
    OptimizerObject,
    ParametersObject,
    ScalerObject,
    SchedulerObject,
    State,
)
from trainlint.flow.values import (
    FALSE,
    NONE,
    TRUE,
    ClassValue,
    Condition,
    Const,
    External,
    Func,
    LibraryMethod,
    Method,
    ObjectId,
    Package,
    ParameterName,
    ParameterValue,
    Partial,
    Ref,
    Super,
    Tensor,
    TupleValue,
    Value,
)
from trainlint.flow.walk import nodes_outside_definitions
from trainlint.flow.written import updated_by_hand
from trainlint.libraries import LIBRARY

if TYPE_CHECKING:
    from trainlint.flow.frames import Evaluated
    from trainlint.flow.interpret import Interpreter


SHAPES = frozenset("shape size dim ndim numel device dtype is_cuda requires_grad grad_fn".split())
_PART_NAME = late.pattern(
    r"(layer|block|conv|bn|norm|fc|head|stem|stage|features|classifier|backbone|encoder|decoder"
    r"|trunk|body|transformer|embeddings|attention|downsample|roi_heads|rpn|bert|roberta|vit|model"
    r"|base_model|vision_model|text_model|lm_head|wte|wpe|h)(_?\d*)$"
)
LIBRARY_METHODS = frozenset(
    """train eval parameters named_parameters modules named_modules children named_children to cuda
    cpu half float double bfloat16 zero_grad state_dict load_state_dict requires_grad_ apply forward
    buffers named_buffers generate save_pretrained register_forward_hook add_module
    """.split()
)
_BUILTIN_DECORATORS = frozenset(
    "property cached_property staticmethod classmethod abstractmethod override wraps setter".split()
)


class Attributes:
    """Reading and writing attributes."""

    def __init__(self, interpreter: Interpreter) -> None:
        self.run = interpreter

    def attribute(
        self, thing: Value, attr: str, state: State, frame: Frame, e: ir.Attribute
    ) -> Evaluated:
        """Read `thing.attr`."""
        match thing:
            case External() | Package():
                found = self.run.scopes.imported(member(thing, attr, self.run.project), state)
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
                cls = self.class_of(receiver, state) or owner
                func = cls.method_after(owner, attr)
                if func is not None:
                    return [(state, Method(receiver, func))]
                return [(state, LibraryMethod(receiver, f"super().{attr}"))]
            case ParameterValue():
                return [(state, self._parameter_attribute(thing, attr, state))]
            case TupleValue(items=(values, indices)) if attr in ("values", "indices"):
                return [(state, values if attr == "values" else indices)]
            case _:
                return [(state, LibraryMethod(thing, attr))]

    def _class_attribute(self, info: ClassInfo, attr: str) -> Value:
        func = info.method(attr)
        if func is not None:
            kinds = decorator_names(func.function)
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

    def class_of(self, value: Value, state: State) -> ClassInfo | None:
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
        cls = self.class_of(Ref(oid), state)
        if cls is not None:
            func = cls.method(attr)
            if func is not None:
                return self.bound(oid, func, state, frame, e)
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
            case LibraryObject(role="accelerator") | None if attr == "sync_gradients":
                # Where it is false, `accumulate` lets a prepared optimizer's step do nothing.
                return [(state, TRUE)]
            case LibraryObject() | ListObject() | ContextObject():
                return [(state, LibraryMethod(Ref(oid), attr))]
            case _:
                return [(state, Ref(("attr", oid, attr)))]

    def bound(
        self, oid: ObjectId, func: Func, state: State, frame: Frame, e: ir.Attribute
    ) -> Evaluated:
        kinds = decorator_names(func.function)
        if kinds & {"property", "cached_property"}:
            return self.run.execution.invoke(func, Arguments((Ref(oid),)), state, frame, e)
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

        return Frame(self.run.scopes.module_frame(func.module), func.module)

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
        if attr == "data" and tensor.packed:
            return replace(tensor, packed=False)
        if attr == "data":
            return self.run.tensors.cut(tensor, Cut.DATA, frame, e)
        if attr in SHAPES:
            numbers = Ref(("attr", ("tensor", frame.module.path, e.node), attr))
            self.run.collections.hold_no_graph([(state, numbers)])
            return numbers
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

    def _parameter_attribute(self, parameter: ParameterValue, attr: str, state: State) -> Value:
        if attr == "grad":
            self.run.training.gradients_wanted(parameter.sources, state)
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
            self.run.training.clear_unknown(state)
            if value != NONE:
                self.run.training.filled_by_hand()
            return
        if attr == "data" and self.run.training.written_by_hand(thing, state):
            return
        module = state.module(thing.oid)
        if attr == "train" and module is not None:
            state.update(thing.oid, mode_fixed=True)
        if _is_flag(attr):
            if module is None:
                self.run.collections.wants_gradient(thing)
                self._assigned_on_unknown(thing, attr, value, state, frame, target, s, name)
            elif module.cls is None or module.cls.method(attr) is None:
                self.run.models.assigned_flag(thing.oid, attr, value, state, frame, s, target, name)
            if attr == "training":
                return
        if not isinstance(state.heap.get(thing.oid), LibraryObject):
            self.run.models.rebound(state.attrs.get((thing.oid, attr)), value, state, frame, s)
        part = isinstance(value, Ref) and state.module(value.oid) is not None
        if module is None and part and self.run.models.is_inside(thing.oid, state):
            module = self.run.models.promote(thing.oid, state)
        if module is not None and isinstance(value, Ref) and part:
            self.run.models.replace_part(thing.oid, attr, value, state, frame, s, name)
        else:
            state.attrs[thing.oid, attr] = value
        if isinstance(value, Ref) and isinstance(value.oid, tuple) and value.oid[0] != "attr":
            self.run.names.given.setdefault(value.oid, f"{name}.{attr}")

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
            self.run.training.cleared_parameters(parameter.sources, state)
            if value != NONE:
                self.run.training.filled_by_hand()
            return
        if attr == "data":
            updated_by_hand(self.run.training, parameter, state)
            if not _is_attribute(value):
                # Not a copy of the other's weights but their average with its own.
                self.run.training.moved_by_hand(parameter)
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
            origin = self.run.origin(frame, s, f"parameters are {word} here")
            if on is None and self._tells_by_name(s, state, frame):
                # Some are switched on and the others off.
                parameter = parameter._replace(whole=False)
                self.run.models.set_parameter(parameter, False, state, origin)
                on = True
            self.run.models.set_parameter(parameter, on, state, origin)

    def _tells_by_name(self, s: ir.Node, state: State, frame: Frame) -> bool:
        """`p.requires_grad = name.startswith("head")`: what a parameter is called decides."""
        values = (
            state.vars.get((self.run.scopes.scope_of(node.id, frame), node.id))
            for node in nodes_outside_definitions(getattr(s, "value", ()))
            if isinstance(node, ir.Name)
        )
        return any(isinstance(value, ParameterName) for value in values)

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
            self.run.scopes.store(target.value, self.made_leaf(tensor), state, frame, s)
        elif attr == "data":
            pass

    @staticmethod
    def made_leaf(tensor: Tensor) -> Tensor:
        if tensor.attached is Certainty.NO and tensor.cut is not None:
            return replace(tensor, leaf=True)
        return tensor

    def wrapped_again(
        self, tensor: Tensor, arguments: Arguments, frame: Frame, node: ir.Node
    ) -> Value:
        """`Variable(loss)` of what has a graph: the same values, without the graph."""
        if tensor.attached is not Certainty.YES:
            wrapped: Value = tensor
        else:
            wrapped = self.run.tensors.cut(tensor, Cut.REBUILT, frame, node)
        if isinstance(wrapped, Tensor) and arguments.get("requires_grad") == TRUE:
            return self.made_leaf(wrapped)
        return wrapped

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
                    case InstanceObject(cls=cls) if cls.method(attr) is not None:
                        own = not _own_property(cls, attr)
                        return Receiver.METHOD_OF_ITS_CLASS if own else Receiver.OTHER
                    case None if _is_flag(attr) and _is_parameter_place(expr):
                        return Receiver.PARAMETER
                    case None:
                        return Receiver.UNKNOWN
                    case _:
                        return Receiver.OTHER
            case _:
                return Receiver.OTHER


def is_library_method(name: str) -> bool:
    """Whether every torch.nn.Module has a method of that name."""
    return name in LIBRARY_METHODS


def _own_property(cls: ClassInfo, attr: str) -> bool:
    func = cls.method(attr)
    return func is not None and bool(decorator_names(func.function) & {"property"})


def decorator_names(function: ir.Function) -> set[str]:
    return {_last_word(d) for d in function.decorators}


def _is_builtin_decorator(decorator: ir.Expr) -> bool:
    return _last_word(decorator) in _BUILTIN_DECORATORS


def _last_word(decorator: ir.Expr) -> str:
    """`no_grad` of `@torch.no_grad()`."""
    return spelled(decorator).removesuffix("(...)").rsplit(".", 1)[-1]


def _is_flag(attr: str) -> bool:
    """`training`, or `requires_grad` in any spelling."""
    return attr == "training" or (attr.startswith("req") and ("gra" in attr or "gard" in attr))


def _is_parameter_place(e: ir.Expr) -> bool:
    """`model.fc.weight`, `layer.bias`."""
    return isinstance(e, ir.Attribute) and e.attr in ("weight", "bias")


def _is_attribute(value: Value) -> bool:
    return isinstance(value, Ref) and isinstance(value.oid, tuple) and value.oid[:1] == ("attr",)
