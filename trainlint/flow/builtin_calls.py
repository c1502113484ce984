"""Python's own functions, as far as values flow through them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from trainlint.flow import ir
from trainlint.flow.arguments import Arguments
from trainlint.flow.state import LibraryObject, ListObject, ModuleObject, ParametersObject, State
from trainlint.flow.values import (
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
    from trainlint.flow.calls import Calls
    from trainlint.flow.interpret import Evaluated, Frame

Handler = Callable[["Calls", Arguments, State, "Frame", ir.Call], "Evaluated | None"]


def call(
    calls: Calls, path: str, arguments: Arguments, state: State, frame: Frame, node: ir.Call
) -> Evaluated | None:
    """Call a builtin (or something of functools or itertools); None if it is not one."""
    handler = _HANDLERS.get(path)
    return handler(calls, arguments, state, frame, node) if handler is not None else None


def _list(
    calls: Calls, arguments: Arguments, state: State, frame: Frame, node: ir.Call
) -> Evaluated:
    if not arguments.positional:
        keys = tuple(_const(k) for k, _ in arguments.keywords)
        if keys:
            values = tuple(v for _, v in arguments.keywords)
            return [(state, calls.new_dict(keys, values, state, frame, node))]
        return [(state, calls.new_list((), state, frame, node))]
    value = arguments.positional[0]
    if isinstance(value, Ref):
        thing = state.heap.get(value.oid)
        if isinstance(thing, ParametersObject):
            calls.models.consume(value, state, frame, node, "the parameters", "`list(...)`")
            ref = calls.run.fresh(state, frame, node, "params")
            state.heap[ref.oid] = ParametersObject(
                thing.sources, thing.known, thing.named, one_shot=False
            )
            return [(state, ref)]
        if isinstance(thing, ListObject | LibraryObject):
            items = calls.known_items(value, state)
            if items is not None and not (isinstance(thing, ListObject) and thing.keys):
                return [(state, calls.new_list(items, state, frame, node))]
    return [(state, value)]


def _const(key: str) -> Const:
    return Const(key, "str")


def _role(role: str) -> Handler:
    def handler(
        calls: Calls, arguments: Arguments, state: State, frame: Frame, node: ir.Call
    ) -> Evaluated:
        ref = calls.run.fresh(state, frame, node, role)
        links = tuple((str(i), v) for i, v in enumerate(arguments.positional))
        state.heap[ref.oid] = LibraryObject(role, links=links)
        return [(state, ref)]

    return handler


def _enumerate(
    calls: Calls, arguments: Arguments, state: State, frame: Frame, node: ir.Call
) -> Evaluated:
    first = arguments.positional[0] if arguments.positional else NONE
    start = arguments.get("start", 1) or const(0)
    ref = calls.run.fresh(state, frame, node, "enumerate")
    state.heap[ref.oid] = LibraryObject("enumerate", links=(("0", first), ("start", start)))
    return [(state, ref)]


def _range(
    calls: Calls, arguments: Arguments, state: State, frame: Frame, node: ir.Call
) -> Evaluated:
    """Only where it starts is known of it: `if epoch > 0` is false in the first round."""
    many = len(arguments.positional) > 1
    ref = calls.run.fresh(state, frame, node, "range")
    start = arguments.positional[0] if many else const(0)
    state.heap[ref.oid] = LibraryObject("range", links=(("start", start),))
    return [(state, ref)]


def _filter(
    calls: Calls, arguments: Arguments, state: State, frame: Frame, node: ir.Call
) -> Evaluated | None:
    if len(arguments.positional) != 2:
        return None
    predicate, value = arguments.positional
    thing = state.heap.get(value.oid) if isinstance(value, Ref) else None
    if not isinstance(thing, ParametersObject):
        return None
    calls.models.consume(value, state, frame, node, "the parameters", "`filter(...)`")
    only = isinstance(predicate, Func) and "requires_grad" in predicate.function.words
    sources = tuple(
        s._replace(only_trainable=s.only_trainable or only, whole=s.whole and only)
        for s in thing.sources
    )
    ref = calls.run.fresh(state, frame, node, "params")
    state.heap[ref.oid] = ParametersObject(sources, thing.known, thing.named)
    return [(state, ref)]


def _map(
    calls: Calls, arguments: Arguments, state: State, frame: Frame, node: ir.Call
) -> Evaluated:
    if len(arguments.positional) >= 2 and isinstance(arguments.positional[0], Func):
        element = calls.element(arguments.positional[1], state, frame, node)
        results: Evaluated = []
        for st, value in calls.call(
            arguments.positional[0], Arguments((element,)), state, frame, node
        ):
            if isinstance(value, ParameterValue):
                ref = calls.run.fresh(st, frame, node, "params")
                st.heap[ref.oid] = ParametersObject(value.sources)
                results.append((st, ref))
            else:
                results.append((st, calls.new_summary(value, st, frame, node)))
        return results
    return calls.unknown_call(arguments, state, frame, node, havoc=False)


def _len(
    calls: Calls, arguments: Arguments, state: State, frame: Frame, node: ir.Call
) -> Evaluated:
    items = calls.known_items(arguments.positional[0], state) if arguments.positional else None
    if items is not None:
        return [(state, Const(len(items), "int"))]
    return calls.unknown_call(arguments, state, frame, node, havoc=False)


def _sum(
    calls: Calls, arguments: Arguments, state: State, frame: Frame, node: ir.Call
) -> Evaluated:
    value = arguments.positional[0] if arguments.positional else NONE
    calls.models.consume(value, state, frame, node, "the parameters", "`sum(...)`")
    element = calls.element(value, state, frame, node)
    if isinstance(element, Tensor):
        return [(state, element)]
    return [(state, calls.run.fresh(state, frame, node))]


def _getattr(
    calls: Calls, arguments: Arguments, state: State, frame: Frame, node: ir.Call
) -> Evaluated | None:
    if len(arguments.positional) >= 2 and isinstance(arguments.positional[1], Const):
        name = arguments.positional[1].value
        if isinstance(name, str):
            attribute = ir.Attribute(node.args[0].value, name, node.node)
            return calls.attribute(arguments.positional[0], name, state, frame, attribute)
    return [(state, calls.run.fresh(state, frame, node))]


def _setattr(
    calls: Calls, arguments: Arguments, state: State, frame: Frame, node: ir.Call
) -> Evaluated:
    if len(arguments.positional) == 3:
        owner, name, value = arguments.positional
        target = ir.Attribute(node.args[0].value, "?", node.node)
        if isinstance(name, Const) and isinstance(name.value, str):
            calls.set_attribute(owner, name.value, value, state, frame, target, node)
        elif isinstance(owner, Ref):
            calls.set_attribute(owner, f"${node.node}", value, state, frame, target, node)
    return [(state, NONE)]


def _super(
    calls: Calls, arguments: Arguments, state: State, frame: Frame, node: ir.Call
) -> Evaluated:
    current: Frame | None = frame
    while current is not None and (current.cls is None or current.receiver is None):
        current = calls.run.frames.get(current.outer) if current.outer is not None else None
    if current is None or current.cls is None or current.receiver is None:
        return [(state, calls.run.fresh(state, frame, node))]
    return [(state, Super(current.receiver, current.cls))]


def _isinstance(
    calls: Calls, arguments: Arguments, state: State, frame: Frame, node: ir.Call
) -> Evaluated:
    if len(arguments.positional) != 2:
        return [(state, calls.run.fresh(state, frame, node))]
    value, cls = arguments.positional
    if isinstance(value, Ref) and isinstance(value.oid, tuple):
        if value.oid[-1:] == ("$each",):
            # Some of the layers are of the class, and those are what is meant.
            return [(state, TRUE)]
        thing = state.heap.get(value.oid)
        if isinstance(thing, ModuleObject) and cls == External("torch.nn.Module"):
            return [(state, TRUE)]
        known = calls.adapters.is_instance(value.oid, cls, state)
        if known is not None:
            return [(state, const(known))]
        if isinstance(thing, ModuleObject) and thing.library and isinstance(cls, External):
            if thing.library == cls.path:
                return [(state, TRUE)]
        key = ("isinstance", value.oid, cls if not isinstance(cls, Ref) else cls.oid)
        return [(state, Condition(key, True))]
    return [(state, calls.run.fresh(state, frame, node))]


def _hasattr(
    calls: Calls, arguments: Arguments, state: State, frame: Frame, node: ir.Call
) -> Evaluated:
    if len(arguments.positional) == 2 and isinstance(arguments.positional[0], Ref):
        owner, name = arguments.positional
        oid = owner.oid if isinstance(owner, Ref) else None
        if name == const("peft_config") and calls.adapters.holder(oid, state) is not None:
            return [(state, TRUE)]
        return [(state, Condition(("hasattr", oid, name), True))]
    return [(state, calls.run.fresh(state, frame, node))]


def _partial(
    calls: Calls, arguments: Arguments, state: State, frame: Frame, node: ir.Call
) -> Evaluated:
    if not arguments.positional:
        return [(state, calls.run.fresh(state, frame, node))]
    func, *rest = arguments.positional
    return [(state, Partial(func, tuple(rest), arguments.keywords))]


def _chain(
    calls: Calls, arguments: Arguments, state: State, frame: Frame, node: ir.Call
) -> Evaluated:
    if any(calls.models.is_parameters(v, state) for v in arguments.positional):
        for value in arguments.positional:
            calls.models.consume(value, state, frame, node, "the parameters", "`chain(...)`")
        ref = calls.models.concatenate(arguments.positional, state, frame, node)
        found = state.heap[ref.oid]
        assert isinstance(found, ParametersObject)
        state.update(ref.oid, one_shot=True)
        return [(state, ref)]
    items = tuple(calls.element(v, state, frame, node) for v in arguments.positional)
    joined = calls.combine(items, "chain")
    return [(state, calls.new_summary(joined, state, frame, node))]


def _next(
    calls: Calls, arguments: Arguments, state: State, frame: Frame, node: ir.Call
) -> Evaluated:
    value = arguments.positional[0] if arguments.positional else NONE
    if calls.models.is_parameters(value, state):
        return [(state, calls.run.fresh(state, frame, node))]
    item = calls.element(value, state, frame, node)
    if isinstance(item, Ref):
        state.forget(item.oid)
    return [(state, item)]


def _dict(
    calls: Calls, arguments: Arguments, state: State, frame: Frame, node: ir.Call
) -> Evaluated:
    return _list(calls, arguments, state, frame, node)


def _exit(
    calls: Calls, arguments: Arguments, state: State, frame: Frame, node: ir.Call
) -> Evaluated:
    return []


def _minmax(
    calls: Calls, arguments: Arguments, state: State, frame: Frame, node: ir.Call
) -> Evaluated:
    return calls.unknown_call(arguments, state, frame, node, havoc=False)


def _tuple(
    calls: Calls, arguments: Arguments, state: State, frame: Frame, node: ir.Call
) -> Evaluated:
    if arguments.positional:
        items = calls.known_items(arguments.positional[0], state)
        if items is not None:
            return [(state, TupleValue(items))]
    return _list(calls, arguments, state, frame, node)


def _identity(
    calls: Calls, arguments: Arguments, state: State, frame: Frame, node: ir.Call
) -> Evaluated:
    def first() -> Value:
        return arguments.positional[0] if arguments.positional else NONE

    return [(state, first())]


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
    "functools.partial": _partial,
    "itertools.chain": _chain,
    "itertools.tee": _identity,
    "functools.wraps": _minmax,
}
