"""Methods of library objects: modules, optimizers, schedulers, scalers, tensors, accelerators."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from trainlint.core import late
from trainlint.core.facts import Certainty, Cut, Mode
from trainlint.flow import ir
from trainlint.flow.adapters import Place
from trainlint.flow.arguments import Arguments
from trainlint.flow.attributes import LIBRARY_METHODS, SHAPES
from trainlint.flow.ir import spelled
from trainlint.flow.naming import EACH, MODEL_NAME
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
from trainlint.flow.tensors import UNORDERED
from trainlint.flow.values import (
    FALSE,
    NONE,
    TRUE,
    ClassValue,
    Condition,
    Const,
    Func,
    Method,
    ObjectId,
    ParameterValue,
    Ref,
    Tensor,
    TupleValue,
    Value,
    const,
)
from trainlint.flow.written import updated_by_hand
from trainlint.libraries.torch import ACTIVATION_METHODS, INDEXED_METHODS, RESHAPE_METHODS
from trainlint.libraries.trainers import LIGHTNING_FACTORY

if TYPE_CHECKING:
    from trainlint.flow.frames import Evaluated, Frame
    from trainlint.flow.interpret import Interpreter
    from trainlint.flow.project import ClassInfo

_SELF_RETURNING = frozenset(
    "to cuda cpu half float double bfloat16 xpu type share_memory requires_grad_ to_empty"
    " apply_ compile_ ipu mps".split()
)
_METRIC_METHODS = frozenset("argmax max topk eq item tolist numpy".split())
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
_OPTIMIZER_NAME = late.pattern(r"opt(im|imizer|imiser)?([A-Z_0-9]|$|s?$)|optim", re.IGNORECASE)
_SCHEDULER_NAME = late.pattern(r"sched|lr_|warmup", re.IGNORECASE)
_RUNNER_NAME = late.pattern(
    r"trainer|agent|runner|engine|learner|solver|algo|experiment|pipeline|session|manager",
    re.IGNORECASE,
)
_MODULE_WORDS = frozenset(
    """train eval parameters named_parameters zero_grad load_state_dict state_dict modules
    named_modules children named_children requires_grad_ forward
    """.split()
)

_FILLS = frozenset({"add_", "sub_", "copy_", "addcmul_", "addcdiv_", "lerp_"})
"""How gradients are made by hand: `p.grad.add_(p - q)`."""
_MOVES_WEIGHTS = frozenset({"mul_", "lerp_", "copy_"})
"""How averages of weights are written: `slow.data.mul_(decay).add_(fast)`."""


def call(
    run: Interpreter,
    receiver: Value,
    name: str,
    arguments: Arguments,
    state: State,
    frame: Frame,
    node: ir.Call,
) -> Evaluated:
    """Call `receiver.name(...)`."""
    if name == "set_epoch":
        run.epochs.set_on(receiver, state)
        return [(state, NONE)]
    if name in ("__enter__", "__exit__"):
        if run.contexts.entered_by_hand(receiver, name, state, frame, node):
            return [(state, NONE)]
    if name == "enter_context" and run.contexts.is_stack(receiver, state) and arguments.values:
        run.contexts.enter_grad(arguments.values[0], state, frame, node)
        return [(state, NONE)]
    if name in _FILLS and run.training.written_by_hand(receiver, state):
        return [(state, receiver)]
    if name in _FILLS:
        updated_by_hand(run.training, receiver, state)
    if name in _MOVES_WEIGHTS:
        run.training.moved_by_hand(receiver)
    if name.startswith("super()."):
        return _super_method(run, receiver, name[8:], arguments, state, frame, node)
    match receiver:
        case Tensor():
            return _tensor(run, receiver, name, arguments, state, frame, node)
        case Ref(oid=oid):
            done = of_object(run, oid, name, arguments, state, frame, node)
            if done is not None:
                return done
        case ParameterValue():
            return _parameter(run, receiver, name, arguments, state, frame, node)
        case ClassValue(info=info) if "." in name:
            return _inherited_factory(run, info, name, arguments, state, frame, node)
        case ClassValue(info=info) if name == LIGHTNING_FACTORY and info.is_lightning:
            # The rest of what the constructor gets stands in the checkpoint.
            made = Arguments((), arguments.keywords, complete=False)
            return run.execution.instantiate(info, made, state, frame, node)
        case ClassValue():
            return run.calls.unknown_call(arguments, state, frame, node, havoc=name != "apply")
        case Func() | Method() if name in ("apply", "__call__"):
            return run.calls.call(receiver, arguments, state, frame, node)
        case _:
            pass
    return run.calls.unknown_call(arguments, state, frame, node, havoc=False)


def _inherited_factory(
    run: Interpreter,
    info: ClassInfo,
    path: str,
    arguments: Arguments,
    state: State,
    frame: Frame,
    node: ir.Call,
) -> Evaluated:
    """`MyModel.from_pretrained(...)`: what the library returns is of the project's class."""
    results: Evaluated = []
    for st, value in run.library.library_call(path, arguments, state, frame, node):
        module = st.module(value.oid) if isinstance(value, Ref) else None
        if isinstance(value, Ref) and module is not None:
            st.update(value.oid, cls=info)
        results.append((st, value))
    return results


def _super_method(
    run: Interpreter,
    receiver: Value,
    name: str,
    arguments: Arguments,
    state: State,
    frame: Frame,
    node: ir.Call,
) -> Evaluated:
    """`super().train(mode)` in an override: the library's own method, without the override."""
    if isinstance(receiver, Ref):
        module = state.module(receiver.oid)
        if module is not None and name in ("train", "eval"):
            mode = _mode_of(name, arguments)
            states = run.models.set_mode(receiver.oid, mode, state, frame, node, overrides=False)
            return [(st, receiver) for st in states]
        if name == "__init__":
            thing = state.heap.get(receiver.oid)
            if isinstance(thing, InstanceObject):
                place = Place(state, frame, node)
                run.trainers.adopt(receiver.oid, thing.cls, arguments, place)
            if module is not None and arguments.positional:
                run.library.add_parts(receiver.oid, arguments, state, frame, node)
            return [(state, NONE)]
        done = of_object(run, receiver.oid, name, arguments, state, frame, node)
        if done is not None:
            return done
    return run.calls.unknown_call(arguments, state, frame, node, havoc=False)


def of_object(
    run: Interpreter,
    oid: ObjectId,
    name: str,
    arguments: Arguments,
    state: State,
    frame: Frame,
    node: ir.Call,
) -> Evaluated | None:
    """A method of an object in the heap, or of an opaque one if its name tells enough."""
    if name == "set_epoch":
        run.epochs.set_on(Ref(oid), state)
        return [(state, NONE)]
    match state.heap.get(oid):
        case ModuleObject():
            return _module(run, oid, name, arguments, state, frame, node)
        case OptimizerObject():
            return _optimizer(run, oid, name, arguments, state, frame, node)
        case SchedulerObject() as scheduler:
            return _scheduler(run, scheduler, name, arguments, state, frame, node)
        case ScalerObject():
            return _scaler(run, oid, name, arguments, state, frame, node)
        case ParametersObject():
            return _parameters(run, oid, name, arguments, state, frame, node)
        case ListObject() as container:
            return _list(run, oid, container, name, arguments, state, frame, node)
        case LibraryObject() as thing:
            return _role(run, oid, thing, name, arguments, state, frame, node)
        case InstanceObject():
            return _instance(run, oid, name, arguments, state, frame, node)
        case None:
            return _opaque(run, oid, name, arguments, state, frame, node)
        case _:
            return None


def _mode_of(name: str, arguments: Arguments) -> Mode:
    if name == "eval":
        return Mode.EVAL
    given = arguments.get("mode", 0)
    if given is None:
        return Mode.TRAIN if arguments.complete else Mode.UNKNOWN
    if isinstance(given, Const):
        return Mode.TRAIN if given.value else Mode.EVAL
    return Mode.UNKNOWN


# --- modules -------------------------------------------------------------------------------


def _module(
    run: Interpreter,
    oid: ObjectId,
    name: str,
    arguments: Arguments,
    state: State,
    frame: Frame,
    node: ir.Call,
) -> Evaluated | None:
    models = run.models
    spelled_name = _receiver_name(node)
    done = run.adapters.method(oid, name, arguments, state, frame, node, spelled_name)
    if done is not None:
        return done
    place = Place(state, frame, node)
    done = run.hooked.method(oid, name, arguments, place)
    if done is None:
        done = run.engines.method(oid, name, arguments, place)
    if done is not None:
        return done
    self_ref = Ref(oid)
    match name:
        case "train" | "eval":
            return _set_mode(run, oid, name, arguments, state, frame, node)
        case "requires_grad_":
            given = arguments.get("requires_grad", 0)
            on = True if given is None else bool(given.value) if isinstance(given, Const) else None
            word = {True: "unfrozen", False: "frozen", None: "set"}[on]
            origin = run.origin(frame, node, f"`{spelled_name}` is {word} here")
            models.set_trainable(oid, on, state.params_partial == 0, state, origin)
            return [(state, self_ref)]
        case "parameters" | "named_parameters":
            named = name.startswith("named")
            return [(state, models.parameters(oid, state, frame, node, named))]
        case "modules" | "named_modules" | "children" | "named_children":
            return [(state, _modules(run, oid, name, state, frame, node))]
        case "zero_grad":
            targets = run.training.of_model(oid, state)
            run.training.cleared_by_hand.add(models.base(oid, state))
            run.training.accumulation.cleared(targets, state, frame, node)
            run.training.clear(targets, state, frame, node, _sets_zero(arguments))
            return [(state, NONE)]
        case "apply" if arguments.positional:
            return _apply(run, oid, arguments.positional[0], state, frame, node)
        case "load_state_dict":
            models.loaded(oid, state, run.origin(frame, node, "weights are loaded here"))
            return [(state, run.fresh(state, frame, node))]
        case "forward" | "__call__":
            return run.calls.forward(oid, spelled_name, arguments, state, frame, node)
        case "add_module" | "register_module":
            return _add_module(run, oid, arguments, state, frame, node)
        case "append" | "extend" | "insert":
            return _append_part(run, oid, arguments, state, frame, node)
        case "gradient_checkpointing_enable" | "activation_checkpointing_enable":
            _checkpoint(run, oid, arguments, state, frame, node)
            return [(state, NONE)]
        case "gradient_checkpointing_disable" | "activation_checkpointing_disable":
            state.update(models.base(oid, state), checkpointing=False, reentrant=None)
            return [(state, NONE)]
        case "enable_input_require_grads" | "disable_input_require_grads":
            state.update(models.base(oid, state), input_grads=name.startswith("enable"))
            return [(state, NONE)]
        case "get_input_embeddings" | "get_output_embeddings" if not arguments.values:
            return [(state, Ref(("attr", models.base(oid, state), f"({name[4:]})")))]
        case "get_submodule" if arguments.positional:
            return [
                (
                    state,
                    run.collections.subscript(
                        self_ref,
                        arguments.positional[0],
                        state,
                        frame,
                        ir.Subscript(node.func, node.func, node.node),
                    ),
                )
            ]
        case "backward":
            first = arguments.values[0] if arguments.values else NONE
            run.training.backward(first, "loss", state, frame, node)
            return [(state, NONE)]
        case "step" if not arguments.values:
            run.training.clear_unknown(state)
            return [(state, NONE)]
        case "generate" | "sample" | "predict" | "encode" | "save_pretrained" | "push_to_hub":
            if name == "generate":
                for part in models.reach(oid, state):
                    state.update(part, evaluated=True)
            for value in arguments.values:
                run.escapes.escape(value, state)
            return [(state, run.fresh(state, frame, node, "result"))]
        case _ if name in _SELF_RETURNING or name in ("compile", "share_memory_", "to_device"):
            return [(state, self_ref)]
        case _ if name.startswith("get_") and not arguments.values:
            # `model.get_classifier()`, `model.get_input_embeddings()`: maybe a part of it.
            return [(state, Ref(("attr", oid, f"{name}()")))]
        case _ if name in LIBRARY_METHODS or name.startswith(("register_", "get_", "num_")):
            return [(state, run.fresh(state, frame, node, "result"))]
        case _:
            return _unknown_method(run, oid, name, spelled_name, arguments, state, frame, node)


def _checkpoint(
    run: Interpreter, oid: ObjectId, arguments: Arguments, state: State, frame: Frame, node: ir.Call
) -> None:
    """Gradient checkpointing; the kind that cuts frozen inputs only where it is asked for."""
    base = run.models.base(oid, state)
    options = arguments.get("gradient_checkpointing_kwargs", 0)
    reentrant = None
    thing = state.heap.get(options.oid) if isinstance(options, Ref) else None
    if isinstance(thing, ListObject) and thing.keys and thing.items:
        given = dict(zip(thing.keys, thing.items)).get(const("use_reentrant"))
        if given == TRUE:
            reentrant = run.origin(frame, node, "reentrant checkpointing is chosen here")
    state.update(base, checkpointing=True, reentrant=reentrant)


def _unknown_method(
    run: Interpreter,
    oid: ObjectId,
    name: str,
    spelled_name: str,
    arguments: Arguments,
    state: State,
    frame: Frame,
    node: ir.Call,
) -> Evaluated:
    """A method that nobody here defines: it computes with the model and leaves its mode alone."""
    for value in arguments.values:
        run.escapes.havoc(value, state)
    if not arguments.values or _is_mode_like(name):
        if _is_mode_like(name):
            run.models.forget_mode(oid, state)
        if name in _FREEZES_ALL:
            origin = run.origin(frame, node, "what it freezes is not seen")
            run.models.set_trainable(oid, None, True, state, origin)
        return [(state, run.fresh(state, frame, node, "result"))]
    made = run.training.forward(
        oid, spelled_name, arguments.values, state, frame, node, record=False
    )
    return [(state, replace(made, attached=Certainty.UNKNOWN, cut=None))]


_FREEZES_ALL = frozenset(
    {"freeze", "freeze_all", "freeze_weights", "freeze_params", "freeze_parameters"}
)
"""Not `freeze_bn`, `freeze_feature_encoder`: they leave the rest to train."""


def _is_mode_like(name: str) -> bool:
    """`set_train`, `switch_mode`, `freeze`: it changes something the analysis cannot see."""
    return any(w in name for w in ("train", "eval", "mode", "freeze", "fit", "setup", "merge"))


def _set_mode(
    run: Interpreter,
    oid: ObjectId,
    name: str,
    arguments: Arguments,
    state: State,
    frame: Frame,
    node: ir.Call,
) -> Evaluated:
    given = arguments.get("mode", 0) if name == "train" else None
    if given is None or isinstance(given, Const):
        mode = _mode_of(name, arguments)
        same = mode is Mode.EVAL and run.models.was_in_eval(oid, state)
        choices = [(state, Mode.UNKNOWN if same else mode)]
    elif _is_saved_flag(given, state):
        choices = [(state, Mode.UNKNOWN)]
    else:
        choices = [
            (st, Mode.TRAIN if truth else Mode.EVAL)
            for st, truth, _ in run.branches.truth_of(given, state)
        ]
    results = [
        after for st, mode in choices for after in run.models.set_mode(oid, mode, st, frame, node)
    ]
    if name == "eval":
        # Asked for anew, eval mode is for what follows, whatever was evaluated before.
        for after in results:
            for part in run.models.reach(oid, after):
                after.update(part, evaluated=False)
    return [(after, Ref(oid)) for after in results]


def _is_saved_flag(given: Value, state: State) -> bool:
    """A module's own flag, read when its mode was not known: it goes back to what it was."""
    match given:
        case Condition(key=("training", _), positive=True):
            return given.key not in state.assumed
        case Ref(oid=("attr", _, "training")):
            return True
        case _:
            return False


def _modules(
    run: Interpreter, oid: ObjectId, name: str, state: State, frame: Frame, node: ir.Node
) -> Ref:
    part: ObjectId = ("attr", oid, EACH)
    if state.module(part) is None:
        known = run.models.sensitivity(oid, state)
        run.models.promote(part, state)
        if known is Certainty.NO:  # it stands for the parts that there are
            state.update(part, sensitive=known)
        state.attrs[oid, EACH] = Ref(part)
    ref = run.fresh(state, frame, node, "modules")
    state.heap[ref.oid] = LibraryObject("modules", name, (("each", Ref(part)),))
    return ref


def _apply(
    run: Interpreter, oid: ObjectId, func: Value, state: State, frame: Frame, node: ir.Call
) -> Evaluated:
    if isinstance(func, Func | Method):
        inner = func.func if isinstance(func, Method) else func
        if run.relevance.matters(inner.function, inner.module):
            _modules(run, oid, "modules", state, frame, node)
            part = Ref(("attr", oid, EACH))
            results = run.calls.call(func, Arguments((part,)), state, frame, node)
            return [(st, Ref(oid)) for st, _ in results]
    return [(state, Ref(oid))]


def _add_module(
    run: Interpreter, oid: ObjectId, arguments: Arguments, state: State, frame: Frame, node: ir.Call
) -> Evaluated:
    value = arguments.get("module", 1)
    name = arguments.get("name", 0)
    key = str(name.value) if isinstance(name, Const) else f"${node.node}"
    if isinstance(value, Ref) and state.module(value.oid) is not None:
        run.models.replace_part(oid, key, value, state, frame, node, run.names.name_of(oid, state))
    elif state.module(oid) is not None:
        state.update(oid, activation=UNORDERED)
    return [(state, NONE)]


def _append_part(
    run: Interpreter, oid: ObjectId, arguments: Arguments, state: State, frame: Frame, node: ir.Call
) -> Evaluated:
    for value in arguments.values:
        for item in run.collections.known_items(value, state) or (value,):
            if isinstance(item, Ref) and _is_part(run, item, node, state):
                key = str(sum(1 for n, _ in run.models.children(oid, state) if n.isdigit()))
                if run.loops:
                    key = f"${node.node}"
                run.models.replace_part(
                    oid, key, item, state, frame, node, run.names.name_of(oid, state)
                )
    return [(state, Ref(oid))]


def _is_part(run: Interpreter, item: Ref, node: ir.Call, state: State) -> bool:
    """Whether it is a module; what is appended to a list of modules is one, whoever made it."""
    if isinstance(node.func, ir.Attribute) and node.func.attr != "extend":
        if state.heap.get(item.oid) is None:
            run.models.promote(item.oid, state)
    return state.module(item.oid) is not None


def _sets_zero(arguments: Arguments) -> bool:
    return arguments.get("set_to_none", 0) == FALSE


# --- optimizers, schedulers, scalers -------------------------------------------------------


def _optimizer(
    run: Interpreter,
    oid: ObjectId,
    name: str,
    arguments: Arguments,
    state: State,
    frame: Frame,
    node: ir.Call,
) -> Evaluated | None:
    match name:
        case "zero_grad":
            run.training.clear([oid], state, frame, node, _sets_zero(arguments))
            return [(state, NONE)]
        case "step":
            return _step(run, oid, arguments, state, frame, node)
        case "add_param_group" if arguments.values:
            optimizer = state.optimizer(oid)
            assert optimizer is not None
            sources = run.models.sources(arguments.values[0], state)
            run.models.consume(
                arguments.values[0], state, frame, node, "parameters", "`add_param_group`"
            )
            if optimizer.groups is not None:
                groups = (
                    (*optimizer.groups, *run.models.capture(sources, state))
                    if sources is not None
                    else None
                )
                state.update(oid, groups=groups)
            return [(state, NONE)]
        case "backward" if arguments.values:
            run.training.backward(arguments.values[0], "loss", state, frame, node)
            return [(state, NONE)]
        case "state_dict" | "load_state_dict" | "register_step_post_hook" | "train" | "eval":
            return [(state, run.fresh(state, frame, node))]
        case "param_groups":
            return [(state, run.fresh(state, frame, node))]
        case _:
            run.training.clear_unknown(state, [oid])
            return [(state, run.fresh(state, frame, node))]


def _step(
    run: Interpreter, oid: ObjectId, arguments: Arguments, state: State, frame: Frame, node: ir.Call
) -> Evaluated:
    closure = arguments.get("closure", 0)
    if isinstance(closure, Func | Method):
        results: Evaluated = []
        for st, value in run.calls.call(closure, Arguments(), state, frame, node):
            run.escapes.escape(value, st)
            run.training.step(oid, st, frame, node, closure=True, seen=True)
            results.append((st, value))
        return results
    run.training.step(oid, state, frame, node, closure=closure is not None)
    return [(state, NONE)]


def _scheduler(
    run: Interpreter,
    scheduler: SchedulerObject,
    name: str,
    arguments: Arguments,
    state: State,
    frame: Frame,
    node: ir.Call,
) -> Evaluated:
    if name == "step":
        run.training.schedule(
            scheduler, _receiver_name(node), state, frame, node, bool(arguments.values)
        )
        return [(state, NONE)]
    return [(state, run.fresh(state, frame, node))]


def _scaler(
    run: Interpreter,
    oid: ObjectId,
    name: str,
    arguments: Arguments,
    state: State,
    frame: Frame,
    node: ir.Call,
) -> Evaluated:
    first = arguments.values[0] if arguments.values else NONE
    match name:
        case "scale":
            if isinstance(first, Tensor):
                return [(state, replace(first, scaler=oid))]
            if isinstance(first, Ref) and first.oid not in state.heap:
                return [(state, Tensor(scaler=oid))]
            return [(state, first)]
        case "step" if isinstance(first, Ref):
            if state.optimizer(first.oid) is None:
                run.training.promote(first.oid, state, run.names.name_of(first.oid, state))
            run.training.step(first.oid, state, frame, node, through_scaler=True)
            return [(state, NONE)]
        case "unscale_" if isinstance(first, Ref):
            run.training.unscale(first.oid, state)
            return [(state, NONE)]
        case "backward" if arguments.values:
            run.training.backward(first, "loss", state, frame, node, oid)
            return [(state, NONE)]
        case "__call__":
            return _native_scaler(run, arguments, state, frame, node)
        case _:
            return [(state, run.fresh(state, frame, node))]


def _native_scaler(
    run: Interpreter, arguments: Arguments, state: State, frame: Frame, node: ir.Call
) -> Evaluated:
    """Timm's `loss_scaler(loss, optimizer, ...)` runs backward and steps."""
    for value in arguments.values:
        run.escapes.escape(value, state)
    run.training.clear_unknown(state)
    return [(state, NONE)]


# --- parameters ----------------------------------------------------------------------------


def _parameter(
    run: Interpreter,
    parameter: ParameterValue,
    name: str,
    arguments: Arguments,
    state: State,
    frame: Frame,
    node: ir.Call,
) -> Evaluated:
    if name == "requires_grad_":
        given = arguments.get("requires_grad", 0)
        on = True if given is None else bool(given.value) if isinstance(given, Const) else None
        word = {True: "unfrozen", False: "frozen", None: "set"}[on]
        run.models.set_parameter(
            parameter, on, state, run.origin(frame, node, f"parameters are {word} here")
        )
        return [(state, parameter)]
    return [(state, run.fresh(state, frame, node))]


def _parameters(
    run: Interpreter,
    oid: ObjectId,
    name: str,
    arguments: Arguments,
    state: State,
    frame: Frame,
    node: ir.Call,
) -> Evaluated:
    found = state.heap[oid]
    assert isinstance(found, ParametersObject)
    if name in ("append", "extend") and arguments.values:
        more = run.models.sources(arguments.values[0], state)
        if more is None:
            state.update(oid, known=False)
        else:
            state.update(oid, sources=tuple(dict.fromkeys((*found.sources, *more))))
        return [(state, NONE)]
    return [(state, run.fresh(state, frame, node))]


# --- tensors -------------------------------------------------------------------------------


def _tensor(
    run: Interpreter,
    tensor: Tensor,
    name: str,
    arguments: Arguments,
    state: State,
    frame: Frame,
    node: ir.Call,
) -> Evaluated:
    if name == "backward":
        run.training.backward(tensor, _receiver_name(node), state, frame, node)
        return [(state, NONE)]
    if name in _METRIC_METHODS:
        run.training.measured(tensor)
    if name == "values":
        run.training.gives_losses(tensor, state)
    how = _TENSOR_CUTS.get(name)
    if how is not None:
        made = run.tensors.cut(tensor, how, frame, node)
        if name == "detach_" and isinstance(node.func, ir.Attribute):
            run.scopes.store(node.func.value, made, state, frame, node)
        return [(state, made)]
    if name == "requires_grad_":
        made_leaf = run.attributes.made_leaf(tensor)
        if isinstance(node.func, ir.Attribute) and made_leaf is not tensor:
            run.scopes.store(node.func.value, made_leaf, state, frame, node)
        return [(state, made_leaf)]
    if name in SHAPES:
        numbers: Evaluated = [(state, run.fresh(state, frame, node))]
        run.collections.hold_no_graph(numbers)
        return numbers
    if name in ("retain_grad", "register_hook", "share_memory_"):
        return [(state, NONE)]
    activation = ACTIVATION_METHODS.get(name, "")
    if activation:
        origin = run.origin(frame, node, f"{activation} is applied here")
        return [(state, replace(tensor, activation=activation, activation_origin=origin))]
    given = arguments.values
    if name in RESHAPE_METHODS or name in INDEXED_METHODS:
        given = tuple(v for v in given if isinstance(v, Tensor))  # the rest are numbers
    joined = run.tensors.combine((tensor, *given), "/" if name == "div" else name, state)
    assert isinstance(joined, Tensor)
    if name in RESHAPE_METHODS:
        joined = replace(
            joined,
            activation=tensor.activation,
            activation_origin=tensor.activation_origin,
        )
    if name in ("max", "min", "topk", "sort") and arguments.values:
        return [(state, TupleValue((joined, run.tensors.cut(joined, Cut.COMPARISON, frame, node))))]
    return [(state, joined)]


# --- containers and roles ------------------------------------------------------------------


def _list(
    run: Interpreter,
    oid: ObjectId,
    found: ListObject,
    name: str,
    arguments: Arguments,
    state: State,
    frame: Frame,
    node: ir.Call,
) -> Evaluated:
    first = arguments.values[0] if arguments.values else NONE
    match name:
        case "append" | "add" | "insert":
            value = arguments.values[-1] if arguments.values else NONE
            if isinstance(value, ParameterValue):
                value = run.models.chosen(value, state)
            once = not run.loops or run.loops[-1].unrolled
            if found.items is not None and len(found.items) < 12 and once:
                state.heap[oid] = ListObject((*found.items, value))
            else:
                both = frozenset(found.items or found.summary) | {value}
                state.heap[oid] = ListObject(None, both)
            if isinstance(value, Tensor):
                run.collections.kept(node, run.names.name_of(oid, state), NONE, value, state, frame)
            return [(state, NONE)]
        case "extend" | "update":
            for value in arguments.values:
                run.collections.extend(Ref(oid), value, state)
            return [(state, NONE)]
        case "items" if found.keys is not None and found.items is not None:
            pairs = tuple(TupleValue(p) for p in zip(found.keys, found.items))
            return [(state, TupleValue(pairs))]
        case "values" if found.items is not None:
            return [(state, TupleValue(found.items))]
        case "keys" if found.keys is not None:
            return [(state, TupleValue(found.keys))]
        case "get" | "pop" if arguments.values:
            subscript = ir.Subscript(node.func, node.func, node.node)
            return [(state, run.collections.subscript(Ref(oid), first, state, frame, subscript))]
        case "clear":
            state.heap[oid] = ListObject(())
            return [(state, NONE)]
        case "copy":
            return [(state, Ref(oid))]
        case _:
            return [(state, run.fresh(state, frame, node))]


def _role(
    run: Interpreter,
    oid: ObjectId,
    thing: LibraryObject,
    name: str,
    arguments: Arguments,
    state: State,
    frame: Frame,
    node: ir.Call,
) -> Evaluated | None:
    match thing.role:
        case "accelerator":
            return _accelerator(run, oid, name, arguments, state, frame, node)
        case "scaled_loss" if name == "backward":
            loss = thing.link("loss") or NONE
            run.training.backward(loss, "loss", state, frame, node)
            return [(state, NONE)]
        case "ema":
            return [(state, run.fresh(state, frame, node))]
        case "lightning_trainer":
            return _lightning_trainer(run, name, arguments, state, frame, node)
        case _:
            done = run.trainers.method(oid, thing, name, arguments, Place(state, frame, node))
            if done is not None:
                return done
            return run.calls.unknown_call(arguments, state, frame, node, havoc=False)


def _lightning_trainer(
    run: Interpreter, name: str, arguments: Arguments, state: State, frame: Frame, node: ir.Call
) -> Evaluated:
    """`fit` runs the model's hooks; validating, testing and predicting leave the modes alone."""
    model = arguments.get("model", 0)
    if not isinstance(model, Ref) or not run.hooked.runs(model.oid, state):
        return run.calls.unknown_call(arguments, state, frame, node, havoc=name in ("fit", "tune"))
    states = run.hooked.fit(model.oid, [state]) if name == "fit" else [state]
    return [(st, NONE) for st in states]


def _accelerator(
    run: Interpreter,
    oid: ObjectId,
    name: str,
    arguments: Arguments,
    state: State,
    frame: Frame,
    node: ir.Call,
) -> Evaluated:
    first = arguments.values[0] if arguments.values else NONE
    match name:
        case (
            "prepare"
            | "prepare_model"
            | "prepare_optimizer"
            | "setup"
            | "setup_module"
            | "setup_optimizers"
            | "setup_dataloaders"
        ):
            for value in arguments.values:
                run.epochs.manages(value, state)
            if len(arguments.positional) == 1:
                return [(state, first)]
            return [(state, TupleValue(arguments.positional))]
        case "unwrap_model" | "free_memory" | "prepare_data_loader" | "reduce" | "gather":
            run.epochs.manages(first, state)
            return [(state, first)]
        case "backward" if arguments.values:
            run.training.backward(first, _argument_name(node), state, frame, node)
            return [(state, NONE)]
        case "clip_grad_norm_" | "clip_grad_value_":
            run.models.consume(first, state, frame, node, "the parameters", "the clipping")
            run.training.clip(first, state, frame, node)
            return [(state, run.fresh(state, frame, node))]
        case "clip_gradients" if isinstance(first, Ref) and state.module(first.oid) is not None:
            parameters = run.models.parameters(first.oid, state, frame, node)
            run.training.clip(parameters, state, frame, node)
            return [(state, run.fresh(state, frame, node))]
        case "gather_for_metrics":
            for value in arguments.values:
                if isinstance(value, Tensor):
                    run.training.measured(value)
            return [(state, first)]
        case "accumulate":
            within = run.contexts.context("neutral", None, state, frame, node)
            state.heap[within.oid] = ContextObject("neutral", target=oid)
            return [(state, within)]
        case "autocast" | "no_sync" | "main_process_first":
            return [(state, run.contexts.context("neutral", None, state, frame, node))]
        case _:
            return [(state, run.fresh(state, frame, node))]


def _instance(
    run: Interpreter,
    oid: ObjectId,
    name: str,
    arguments: Arguments,
    state: State,
    frame: Frame,
    node: ir.Call,
) -> Evaluated:
    """A method that the instance's class gets from a base outside the project."""
    done = run.trainers.instance_method(oid, name, arguments, Place(state, frame, node))
    if done is not None:
        return done
    if name in ("backward", "manual_backward") and arguments.values:
        run.training.backward(arguments.values[0], _argument_name(node), state, frame, node)
        return [(state, NONE)]
    if name == "zero_grad":
        # An optimizer of the project's own, which may share its parameters with another.
        run.training.clear_unknown(state)
    return run.calls.unknown_call(arguments, state, frame, node)


# --- opaque objects ------------------------------------------------------------------------


def _opaque(
    run: Interpreter,
    oid: ObjectId,
    name: str,
    arguments: Arguments,
    state: State,
    frame: Frame,
    node: ir.Call,
) -> Evaluated | None:
    """A method of something unknown: its name, with the receiver's, may tell what it is."""
    spelled_name = _receiver_name(node)
    last = spelled_name.rsplit(".", 1)[-1]
    first = arguments.values[0] if arguments.values else NONE
    if name in _FILLS:
        updated_by_hand(run.training, Ref(oid), state)
    match name:
        case "zero_" if last in ("grad", "data"):
            _zeroed(run, oid, state, frame, node)
            return [(state, Ref(oid))]
        case "backward" | "manual_backward":
            loss = first if isinstance(first, Tensor) else Ref(oid)
            label = _argument_name(node) if isinstance(first, Tensor) else spelled_name
            run.training.backward(loss, label, state, frame, node)
            return [(state, NONE)]
        case "zero_grad":
            if MODEL_NAME.search(last) and not _OPTIMIZER_NAME.search(last):
                run.models.promote(oid, state)
            else:
                run.training.promote(oid, state, spelled_name)
            return of_object(run, oid, name, arguments, state, frame, node)
        case "add_param_group" if arguments.values:
            # `self.trainer.optimizers[0]`: whichever optimizer it is, it holds more from now on.
            for known, _ in state.optimizers():
                state.update(known, groups=None)
            return [(state, NONE)]
        case "step":
            return _opaque_step(run, oid, last, spelled_name, arguments, state, frame, node)
        case "scale" if isinstance(first, Tensor):
            return [(state, replace(first, scaler=oid))]
        case "unscale_" if isinstance(first, Ref):
            run.training.unscale(first.oid, state)
            return [(state, NONE)]
        case "train" | "eval" if _RUNNER_NAME.search(last):
            return None
        case "requires_grad_" if run.collections.is_tensor(Ref(oid)):
            run.collections.wants_gradient(Ref(oid))
            return [(state, Ref(oid))]
        case _ if name in _MODULE_WORDS and not _looks_like_module(name, arguments):
            return None
        case _ if name in _MODULE_WORDS:
            if _OPTIMIZER_NAME.search(last) or _SCHEDULER_NAME.search(last):
                return None
            if name in ("state_dict", "load_state_dict") and not MODEL_NAME.search(last):
                return None
            run.models.promote(oid, state)
            return of_object(run, oid, name, arguments, state, frame, node)
        case _ if name in _SELF_RETURNING and name != "type":
            if arguments.values or name in ("cuda", "cpu", "half", "float", "double"):
                return [(state, Ref(oid))]
            return None
        case "prepare" if arguments.values:
            return _accelerator(run, oid, "prepare", arguments, state, frame, node)
        case "unwrap_model" if arguments.values:
            return [(state, first)]
        case _ if run.collections.is_data(Ref(oid)) and all(
            isinstance(v, Const) or run.collections.is_data(v) for v in arguments.values
        ):
            return [(state, run.collections.more_data((Ref(oid),), name))]
        case "item" | "tolist" | "numpy" | "detach":
            made = run.calls.unknown_call(arguments, state, frame, node, havoc=False)
            run.collections.hold_no_graph(made)
            return made
        case _ if name == "clone" or (name.endswith("_") and run.collections.is_data(Ref(oid))):
            made = run.calls.unknown_call(arguments, state, frame, node, havoc=False)
            run.collections.tensors.update(v.oid for _, v in made if isinstance(v, Ref))
            return made
        case _:
            return None


def _zeroed(run: Interpreter, oid: ObjectId, state: State, frame: Frame, node: ir.Call) -> None:
    """`p.grad.zero_()` by hand: a known parameter's, or anybody's."""
    while isinstance(oid, tuple) and len(oid) == 3 and oid[0] == "attr":
        if oid[2] == "grad":
            break
        oid = oid[1]
    else:
        return
    owner = oid[1]
    parameter = owner[1] if isinstance(owner, tuple) and owner[:1] == ("parameter",) else None
    if not isinstance(parameter, ParameterValue):
        run.training.clear_unknown(state)
        return
    for source in parameter.sources:
        run.training.cleared_by_hand.add(run.models.base(source.oid, state))
        targets = run.training.of_model(source.oid, state)
        run.training.clear(targets, state, frame, node, to_zero=True)


def _looks_like_module(name: str, arguments: Arguments) -> bool:
    if name in ("train", "eval"):
        if name == "eval":
            return not arguments.values
        return len(arguments.values) <= 1 and all(
            isinstance(v, Const | Condition) and not isinstance(getattr(v, "value", None), str)
            for v in arguments.values
        )
    return True


def _opaque_step(
    run: Interpreter,
    oid: ObjectId,
    last: str,
    spelled_name: str,
    arguments: Arguments,
    state: State,
    frame: Frame,
    node: ir.Call,
) -> Evaluated | None:
    if _SCHEDULER_NAME.search(last):
        return [(state, NONE)]
    given = arguments.values[0] if arguments.values else None
    if isinstance(given, Ref) and (
        state.optimizer(given.oid) is not None or _OPTIMIZER_NAME.search(_argument_name(node))
    ):
        run.training.promote(given.oid, state, _argument_name(node))
        run.training.step(given.oid, state, frame, node, through_scaler=True)
        return [(state, NONE)]
    if _OPTIMIZER_NAME.search(last) and (given is None or isinstance(given, Func | Method)):
        run.training.promote(oid, state, spelled_name)
        return of_object(run, oid, "step", arguments, state, frame, node)
    if given is None:
        # Something steps: it may be an optimizer of whatever was run backward.
        run.training.clear_unknown(state)
    return None


def _receiver_name(node: ir.Call) -> str:
    return spelled(node.func.value) if isinstance(node.func, ir.Attribute) else spelled(node.func)


def _argument_name(node: ir.Call) -> str:
    return spelled(node.args[0].value) if node.args else "it"


__all__ = ["call", "of_object"]
