"""Python's own functions, as far as values flow through them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from trainlint.flow import ir
from trainlint.flow.arguments import Arguments
from trainlint.flow.collections import ANY_OPTIMIZER
from trainlint.flow.naming import EACH
from trainlint.flow.state import LibraryObject, ListObject, ModuleObject, ParametersObject, State
from trainlint.flow.values import (
    FALSE,
    NONE,
    TRUE,
    Condition,
    Const,
    External,
    Func,
    ParameterValue,
    Partial,
    Ref,
    Super,
    Tensor,
    TupleValue,
    Value,
    const,
)

if TYPE_CHECKING:
    from trainlint.flow.frames import Evaluated, Frame
    from trainlint.flow.interpret import Interpreter

Handler = Callable[["Interpreter", Arguments, State, "Frame", ir.Call], "Evaluated | None"]


def call(
    run: Interpreter, path: str, arguments: Arguments, state: State, frame: Frame, node: ir.Call
) -> Evaluated | None:
    """Call a builtin (or something of functools or itertools); None if it is not one."""
    handler = _HANDLERS.get(path)
    return handler(run, arguments, state, frame, node) if handler is not None else None


def _list(
    run: Interpreter, arguments: Arguments, state: State, frame: Frame, node: ir.Call
) -> Evaluated:
    if not arguments.positional:
        keys = tuple(_const(k) for k, _ in arguments.keywords)
        if keys:
            values = tuple(v for _, v in arguments.keywords)
            return [(state, run.collections.new_dict(keys, values, state, frame, node))]
        return [(state, run.collections.new_list((), state, frame, node))]
    value = arguments.positional[0]
    drained = run.suspended.drained(value, state, frame, node)
    if drained is not None:
        return drained
    if isinstance(value, Ref):
        thing = state.heap.get(value.oid)
        if isinstance(thing, ParametersObject):
            run.models.consume(value, state, frame, node, "the parameters", "`list(...)`")
            ref = run.fresh(state, frame, node, "params")
            state.heap[ref.oid] = ParametersObject(
                thing.sources, thing.known, thing.named, one_shot=False
            )
            return [(state, ref)]
        if isinstance(thing, ListObject | LibraryObject):
            items = run.collections.known_items(value, state)
            if items is not None and not (isinstance(thing, ListObject) and thing.keys):
                return [(state, run.collections.new_list(items, state, frame, node))]
    return [(state, value)]


def _const(key: str) -> Const:
    return Const(key, "str")


def _role(role: str) -> Handler:
    def handler(
        run: Interpreter, arguments: Arguments, state: State, frame: Frame, node: ir.Call
    ) -> Evaluated:
        ref = run.fresh(state, frame, node, role)
        links = tuple((str(i), v) for i, v in enumerate(arguments.positional))
        state.heap[ref.oid] = LibraryObject(role, links=links)
        return [(state, ref)]

    return handler


def _enumerate(
    run: Interpreter, arguments: Arguments, state: State, frame: Frame, node: ir.Call
) -> Evaluated:
    first = arguments.positional[0] if arguments.positional else NONE
    start = arguments.get("start", 1) or const(0)
    ref = run.fresh(state, frame, node, "enumerate")
    state.heap[ref.oid] = LibraryObject("enumerate", links=(("0", first), ("start", start)))
    return [(state, ref)]


def _range(
    run: Interpreter, arguments: Arguments, state: State, frame: Frame, node: ir.Call
) -> Evaluated:
    """Only where it starts is known of it: `if epoch > 0` is false in the first round."""
    many = len(arguments.positional) > 1
    ref = run.fresh(state, frame, node, "range")
    start = arguments.positional[0] if many else const(0)
    state.heap[ref.oid] = LibraryObject("range", links=(("start", start),))
    return [(state, ref)]


def _filter(
    run: Interpreter, arguments: Arguments, state: State, frame: Frame, node: ir.Call
) -> Evaluated | None:
    if len(arguments.positional) != 2:
        return None
    predicate, value = arguments.positional
    thing = state.heap.get(value.oid) if isinstance(value, Ref) else None
    if not isinstance(thing, ParametersObject):
        return None
    run.models.consume(value, state, frame, node, "the parameters", "`filter(...)`")
    only = isinstance(predicate, Func) and "requires_grad" in predicate.function.words
    sources = tuple(
        s._replace(only_trainable=s.only_trainable or only, whole=s.whole and only)
        for s in thing.sources
    )
    ref = run.fresh(state, frame, node, "params")
    state.heap[ref.oid] = ParametersObject(sources, thing.known, thing.named)
    return [(state, ref)]


def _map(
    run: Interpreter, arguments: Arguments, state: State, frame: Frame, node: ir.Call
) -> Evaluated:
    if len(arguments.positional) >= 2 and isinstance(arguments.positional[0], Func):
        element = run.collections.element(arguments.positional[1], state, frame, node)
        results: Evaluated = []
        for st, value in run.calls.call(
            arguments.positional[0], Arguments((element,)), state, frame, node
        ):
            if isinstance(value, ParameterValue):
                ref = run.fresh(st, frame, node, "params")
                st.heap[ref.oid] = ParametersObject(value.sources)
                results.append((st, ref))
            else:
                results.append((st, run.collections.new_summary(value, st, frame, node)))
        return results
    return run.calls.unknown_call(arguments, state, frame, node, havoc=False)


def _len(
    run: Interpreter, arguments: Arguments, state: State, frame: Frame, node: ir.Call
) -> Evaluated:
    items = (
        run.collections.known_items(arguments.positional[0], state)
        if arguments.positional
        else None
    )
    if items is not None:
        return [(state, Const(len(items), "int"))]
    return run.calls.unknown_call(arguments, state, frame, node, havoc=False)


def _sum(
    run: Interpreter, arguments: Arguments, state: State, frame: Frame, node: ir.Call
) -> Evaluated:
    value = arguments.positional[0] if arguments.positional else NONE
    for st, drained in run.suspended.drained(value, state, frame, node) or ():
        return _sum(run, Arguments((drained,)), st, frame, node)
    run.models.consume(value, state, frame, node, "the parameters", "`sum(...)`")
    element = run.collections.element(value, state, frame, node)
    if isinstance(element, Tensor):
        return [(state, element)]
    return [(state, run.fresh(state, frame, node))]


def _getattr(
    run: Interpreter, arguments: Arguments, state: State, frame: Frame, node: ir.Call
) -> Evaluated | None:
    if len(arguments.positional) >= 2 and isinstance(arguments.positional[1], Const):
        name = arguments.positional[1].value
        if isinstance(name, str):
            attribute = ir.Attribute(node.args[0].value, name, node.node)
            return run.attributes.attribute(arguments.positional[0], name, state, frame, attribute)
    elif arguments.positional and arguments.positional[0] == External("torch.optim"):
        return [(state, ANY_OPTIMIZER)]  # `getattr(torch.optim, config.optimizer)`
    return [(state, run.fresh(state, frame, node))]


def _setattr(
    run: Interpreter, arguments: Arguments, state: State, frame: Frame, node: ir.Call
) -> Evaluated:
    if len(arguments.positional) == 3:
        owner, name, value = arguments.positional
        target = ir.Attribute(node.args[0].value, "?", node.node)
        if isinstance(name, Const) and isinstance(name.value, str):
            run.attributes.set_attribute(owner, name.value, value, state, frame, target, node)
        elif isinstance(owner, Ref):
            run.attributes.set_attribute(owner, f"${node.node}", value, state, frame, target, node)
    return [(state, NONE)]


def _super(
    run: Interpreter, arguments: Arguments, state: State, frame: Frame, node: ir.Call
) -> Evaluated:
    current: Frame | None = frame
    while current is not None and (current.cls is None or current.receiver is None):
        current = run.frames.get(current.outer) if current.outer is not None else None
    if current is None or current.cls is None or current.receiver is None:
        return [(state, run.fresh(state, frame, node))]
    return [(state, Super(current.receiver, current.cls))]


def _is_plain(cls: Value) -> bool:
    """Whether a class, or each of several, is one of Python's own, as no module's is."""
    classes = cls.items if isinstance(cls, TupleValue) else (cls,)
    return all(isinstance(c, External) and c.path in _PLAIN for c in classes)


_PLAIN = frozenset(f"builtins.{name}" for name in "list tuple dict set str int float bool".split())


def _isinstance(
    run: Interpreter, arguments: Arguments, state: State, frame: Frame, node: ir.Call
) -> Evaluated:
    if len(arguments.positional) != 2:
        return [(state, run.fresh(state, frame, node))]
    value, cls = arguments.positional
    if isinstance(value, Ref) and isinstance(value.oid, tuple):
        if value.oid[-1:] == (EACH,):
            # Some of the layers are of the class, and those are what is meant.
            return [(state, TRUE)]
        thing = state.heap.get(value.oid)
        if isinstance(thing, ModuleObject) and cls == External("torch.nn.Module"):
            return [(state, TRUE)]
        if isinstance(thing, ModuleObject) and (thing.cls or thing.library) and _is_plain(cls):
            return [(state, FALSE)]
        if isinstance(thing, ParametersObject | ListObject) and cls == External("torch.Tensor"):
            return [(state, FALSE)]
        known = run.adapters.is_instance(value.oid, cls, state)
        if known is not None:
            return [(state, const(known))]
        if isinstance(thing, ModuleObject) and thing.library and isinstance(cls, External):
            if thing.library == cls.path:
                return [(state, TRUE)]
        key = ("isinstance", value.oid, cls if not isinstance(cls, Ref) else cls.oid)
        return [(state, Condition(key, True))]
    return [(state, run.fresh(state, frame, node))]


def _hasattr(
    run: Interpreter, arguments: Arguments, state: State, frame: Frame, node: ir.Call
) -> Evaluated:
    if len(arguments.positional) == 2 and isinstance(arguments.positional[0], Ref):
        owner, name = arguments.positional
        oid = owner.oid if isinstance(owner, Ref) else None
        if name == const("peft_config") and run.adapters.holder(oid, state) is not None:
            return [(state, TRUE)]
        return [(state, Condition(("hasattr", oid, name), True))]
    return [(state, run.fresh(state, frame, node))]


def _partial(
    run: Interpreter, arguments: Arguments, state: State, frame: Frame, node: ir.Call
) -> Evaluated:
    if not arguments.positional:
        return [(state, run.fresh(state, frame, node))]
    func, *rest = arguments.positional
    return [(state, Partial(func, tuple(rest), arguments.keywords))]


def _chain(
    run: Interpreter, arguments: Arguments, state: State, frame: Frame, node: ir.Call
) -> Evaluated:
    if any(run.models.is_parameters(v, state) for v in arguments.positional):
        for value in arguments.positional:
            run.models.consume(value, state, frame, node, "the parameters", "`chain(...)`")
        ref = run.models.concatenate(arguments.positional, state, frame, node)
        found = state.heap[ref.oid]
        assert isinstance(found, ParametersObject)
        state.update(ref.oid, one_shot=True)
        return [(state, ref)]
    items = tuple(run.collections.element(v, state, frame, node) for v in arguments.positional)
    joined = run.tensors.combine(items, "chain")
    return [(state, run.collections.new_summary(joined, state, frame, node))]


def _next(
    run: Interpreter, arguments: Arguments, state: State, frame: Frame, node: ir.Call
) -> Evaluated:
    value = arguments.positional[0] if arguments.positional else NONE
    if run.models.is_parameters(value, state):
        return [(state, run.fresh(state, frame, node))]
    item = run.collections.element(value, state, frame, node)
    if isinstance(item, Ref):
        state.forget(item.oid)
    return [(state, item)]


def _dict(
    run: Interpreter, arguments: Arguments, state: State, frame: Frame, node: ir.Call
) -> Evaluated:
    return _list(run, arguments, state, frame, node)


def _exit(
    run: Interpreter, arguments: Arguments, state: State, frame: Frame, node: ir.Call
) -> Evaluated:
    return []


def _minmax(
    run: Interpreter, arguments: Arguments, state: State, frame: Frame, node: ir.Call
) -> Evaluated:
    return run.calls.unknown_call(arguments, state, frame, node, havoc=False)


def _tuple(
    run: Interpreter, arguments: Arguments, state: State, frame: Frame, node: ir.Call
) -> Evaluated:
    if arguments.positional:
        items = run.collections.known_items(arguments.positional[0], state)
        if items is not None:
            return [(state, TupleValue(items))]
    return _list(run, arguments, state, frame, node)


def _namespace(
    run: Interpreter, arguments: Arguments, state: State, frame: Frame, node: ir.Call
) -> Evaluated:
    """`SimpleNamespace(model=model)`: an object with these attributes."""
    ref = run.fresh(state, frame, node)
    for name, value in arguments.keywords:
        state.attrs[ref.oid, name] = value
    return [(state, ref)]


def _part(
    run: Interpreter, arguments: Arguments, state: State, frame: Frame, node: ir.Call
) -> Evaluated:
    """`islice(items, n)`, `cycle(items)`: the same items, how many of them is not known."""
    value = arguments.positional[0] if arguments.positional else NONE
    if run.collections.known_items(value, state) is None:
        return [(state, value)]
    element = run.collections.element(value, state, frame, node)
    return [(state, run.collections.new_summary(element, state, frame, node))]


def _identity(
    run: Interpreter, arguments: Arguments, state: State, frame: Frame, node: ir.Call
) -> Evaluated:
    def first() -> Value:
        return arguments.positional[0] if arguments.positional else NONE

    return [(state, first())]


def _path(
    run: Interpreter, arguments: Arguments, state: State, frame: Frame, node: ir.Call
) -> Evaluated:
    return [(state, run.fresh(state, frame, node, "text"))]


_HANDLERS: dict[str, Handler] = {
    "builtins.list": _list,
    "builtins.tuple": _tuple,
    "builtins.set": _list,
    "builtins.dict": _dict,
    "builtins.iter": _identity,
    "builtins.zip": _role("zip"),
    "builtins.enumerate": _enumerate,
    "builtins.range": _range,
    "builtins.filter": _filter,
    "builtins.map": _map,
    "builtins.sum": _sum,
    "builtins.len": _len,
    "builtins.getattr": _getattr,
    "builtins.setattr": _setattr,
    "builtins.super": _super,
    "builtins.isinstance": _isinstance,
    "builtins.hasattr": _hasattr,
    "builtins.next": _next,
    "builtins.exit": _exit,
    "builtins.quit": _exit,
    "sys.exit": _exit,
    "os._exit": _exit,
    **dict.fromkeys(("os.path.join", "os.path.abspath", "os.path.realpath"), _path),
    "functools.partial": _partial,
    "types.SimpleNamespace": _namespace,
    "argparse.Namespace": _namespace,
    "itertools.chain": _chain,
    "itertools.cycle": _part,
    "itertools.islice": _part,
    "itertools.tee": _identity,
    "functools.wraps": _minmax,
}
