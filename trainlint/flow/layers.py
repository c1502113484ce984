"""What a constructor call makes: a layer with weights, one with modes, or neither."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from trainlint.core.events import LayerCreatedInForward
from trainlint.core.facts import Site
from trainlint.core.late import dataclass
from trainlint.flow import ir
from trainlint.flow.guards import calls_in
from trainlint.flow.project import ClassInfo
from trainlint.flow.reading import (
    Scope,
    all_methods,
    attribute_of,
    certain_module,
    mentioned,
    receiver_of,
)
from trainlint.flow.values import ClassValue, External, Func
from trainlint.flow.walk import nodes_of, walk
from trainlint.libraries import LIBRARY
from trainlint.libraries import spec as sp

_MOVES = frozenset(
    ["to", "cuda", "cpu", "half", "float", "double", "bfloat16", "type", "train", "eval"]
)
_FILLED_BY_HAND = frozenset(
    [
        "load_state_dict",
        "requires_grad",
        "requires_grad_",
        "data",
        "copy_",
        "from_pretrained",
        "load",
        "register_buffer",
    ]
)
_PARAMETER = LIBRARY.call("torch.nn.Parameter")
_MAX_DEPTH = 5


@dataclass(frozen=True, slots=True)
class Made:
    """A fresh module: what it has, and the call that constructs it."""

    name: str
    call: ir.Call
    sensitive: bool = False
    parametric: bool = False
    filled: bool = False
    """Its class gives its weights values of its own."""

    @property
    def matters(self) -> bool:
        """It has weights or modes."""
        return self.sensitive or self.parametric


def made_by(expr: ir.Expr | None, scope: Scope, depth: int = 0) -> Made | None:
    """The fresh module that an expression constructs; None if it certainly is none."""
    call = constructor(expr, scope)
    if call is None or depth > _MAX_DEPTH:
        return None
    name = _spelled(call.func)
    match scope.value(call.func):
        case External(path=path):
            spec = LIBRARY.call(path)
            if spec == _PARAMETER and not _is_false(_argument(call, "requires_grad", 1)):
                return Made(name, call, parametric=True)
            if not isinstance(spec, sp.Layer):
                return None
            if spec.container:
                return _container(name, call, scope, depth)
            return Made(name, call, _sensitive(spec, call), _parametric(spec, call))
        case ClassValue(info=info) if certain_module(info):
            sensitive, parametric = contents(info, depth + 1)
            filled = bool(info.node.words & _FILLED_BY_HAND)
            return Made(name, call, sensitive, parametric, filled)
        case Func(function=function, module=module, contexts=()):
            found = made_by(_only_returned(function), Scope(module, function), depth + 1)
            return replace(found, name=name, call=call) if found is not None else None
        case _:
            return None


def _only_returned(function: ir.Function) -> ir.Expr | None:
    """What a function returns that does nothing else: `def block(n): return nn.Sequential(...)`."""
    match function.body:
        case (ir.Jump(kind=ir.JumpKind.RETURN, value=value),) | (
            ir.Expression(value=ir.Literal()),
            ir.Jump(kind=ir.JumpKind.RETURN, value=value),
        ):
            return value if not function.decorators else None
        case _:
            return None


def constructor(expr: ir.Expr | None, scope: Scope) -> ir.Call | None:
    """The call below `.to(device)` and wrappers that give the same layer back."""
    for _ in range(_MAX_DEPTH):
        match expr:
            case ir.Call(func=ir.Attribute(value=ir.Call() as inner, attr=attr)) if attr in _MOVES:
                expr = inner
            case ir.Call(func=func, args=args) if args and _wraps_layer(scope.path(func)):
                expr = args[0].value
            case ir.Call():
                return expr
            case _:
                return None
    return None


def _wraps_layer(path: str) -> bool:
    return path.startswith("torch.nn.utils.") and path.endswith(("weight_norm", "spectral_norm"))


def _container(name: str, call: ir.Call, scope: Scope, depth: int) -> Made:
    parts = [made_by(part, scope, depth + 1) for part in _items_of(call)]
    return Made(
        name,
        call,
        any(p is not None and p.sensitive for p in parts),
        any(p is not None and p.parametric for p in parts),
    )


def _items_of(call: ir.Call) -> Iterator[ir.Expr]:
    for argument in call.args:
        match argument.value:
            case ir.Sequence(items=items):
                yield from items
            case ir.Comprehension(element=element):
                yield element
            case ir.Mapping(items=pairs):
                yield from (value for _, value in pairs)
            case value:
                yield value


def _sensitive(spec: sp.Layer, call: ir.Call) -> bool:
    if not spec.sensitive:
        return False
    if spec.only_if and _is_false(_argument(call, spec.only_if, -1), absent=True):
        return False
    if spec.unless_false and _is_false(_argument(call, spec.unless_false, -1)):
        return False
    if spec.rates:
        given_rates = [_argument(call, name, position) for name, position in spec.rates]
        return any(rate is not None and not _is_zero(rate) for rate in given_rates)
    if spec.unless_zero:
        given = _argument(call, spec.unless_zero, 0 if spec.unless_zero == "p" else -1)
        if given is not None and (_is_zero(given) or "training" in mentioned(given)):
            return False
    return True


def _parametric(spec: sp.Layer, call: ir.Call) -> bool:
    if spec.weights_only_if:
        return not _is_false(_argument(call, spec.weights_only_if, -1), absent=True)
    if spec.weights_unless_false:
        return not _is_false(_argument(call, spec.weights_unless_false, -1))
    return spec.parametric


def _argument(call: ir.Call, name: str, position: int) -> ir.Expr | None:
    plain = [a for a in call.args if a.name is None and not a.star]
    for argument in call.args:
        if argument.name == name:
            return argument.value
    return plain[position].value if 0 <= position < len(plain) else None


def _is_false(expr: ir.Expr | None, absent: bool = False) -> bool:
    if expr is None:
        return absent
    return isinstance(expr, ir.Literal) and not expr.value


def _is_zero(expr: ir.Expr) -> bool:
    return isinstance(expr, ir.Literal) and expr.value in (0, 0.0)


def _spelled(func: ir.Expr) -> str:
    match func:
        case ir.Name(id=name):
            return name
        case ir.Attribute(value=owner, attr=attr):
            return f"{_spelled(owner)}.{attr}"
        case _:
            return "?"


def contents(info: ClassInfo, depth: int = 0) -> tuple[bool, bool]:
    """Whether a project's module class certainly makes layers with modes and with weights."""
    if info.contents is None:
        info.contents = (False, False)  # for a class that contains itself
        info.contents = _contents(info, depth)
    return info.contents


def calls_attribute(info: ClassInfo, name: str) -> bool:
    """Whether a class's methods call what is at `name` on the instance: `self.unet(x)`."""
    if name not in info.called:
        info.called[name] = any(
            isinstance(node, ir.Call) and attribute_of(node.func, receiver_of(function)) == name
            for _, function in all_methods(info)
            if name in function.words
            for node in nodes_of(function)
        )
    return info.called[name]


def _contents(info: ClassInfo, depth: int) -> tuple[bool, bool]:
    if depth > _MAX_DEPTH:
        return False, False
    bases = [spec for path in info.externals if isinstance(spec := LIBRARY.call(path), sp.Layer)]
    sensitive = any(spec.sensitive and not (spec.only_if or spec.rates) for spec in bases)
    parametric = any(spec.parametric and not spec.weights_only_if for spec in bases)
    for cls, function in all_methods(info):
        if function.name != "__init__":
            continue
        receiver, scope = receiver_of(function), Scope(cls.module, function)
        for node in nodes_of(function):
            if isinstance(node, ir.Assign) and _on_receiver(node, receiver):
                values = node.value.items if isinstance(node.value, ir.Sequence) else (node.value,)
                for made in (made_by(value, scope, depth) for value in values):
                    sensitive |= made is not None and made.sensitive
                    parametric |= made is not None and made.parametric
    return sensitive, parametric


def _on_receiver(node: ir.Assign, receiver: str) -> bool:
    return any(attribute_of(part, receiver) for target in node.targets for part in walk(target))


# --- layers made in forward ----------------------------------------------------------------


def created_in_forward(info: ClassInfo) -> Iterator[LayerCreatedInForward]:
    """Layers that `forward`, or a method it calls, makes and uses at once."""
    for function in _run_by_forward(info):
        if function in info.methods.values():
            yield from _created_in(function, info)


def _run_by_forward(info: ClassInfo) -> list[ir.Function]:
    methods = {function.name: function for _, function in all_methods(info)}
    built = called_from("__init__", methods)
    return [methods[name] for name in called_from("forward", methods) if name not in built]


def called_from(start: str, methods: dict[str, ir.Function]) -> set[str]:
    """The methods that one of them runs through `self.name(...)`, itself included."""
    reached: set[str] = set()
    pending = [start] if start in methods else []
    while pending:
        name = pending.pop()
        if name in reached:
            continue
        reached.add(name)
        if methods.keys().isdisjoint(methods[name].words):
            continue
        receiver = receiver_of(methods[name])
        for node in nodes_of(methods[name]):
            if isinstance(node, ir.Call):
                called = attribute_of(node.func, receiver)
                if called in methods:
                    pending.append(called)
    return reached


def _created_in(function: ir.Function, info: ClassInfo) -> Iterator[LayerCreatedInForward]:
    scope = Scope(info.module, function)
    found = (*_called_at_once(function, scope), *_called_by_name(function, scope))
    if not found:
        return
    guarded = {id(call) for call, under_test in calls_in(function.body) if under_test}
    for made in found:
        by_mode = not made.parametric and id(made.call) in guarded
        if made.matters and not made.filled and not by_mode:
            yield LayerCreatedInForward(
                site=Site(info.module.path, made.call.node),
                layer=made.name,
                sensitive=made.sensitive,
                parametric=made.parametric,
            )


def _called_at_once(function: ir.Function, scope: Scope) -> Iterator[Made]:
    """`nn.Dropout(0.5)(x)`."""
    for node in nodes_of(function):
        if isinstance(node, ir.Call) and isinstance(node.func, ir.Call) and node.args:
            made = made_by(node.func, scope)
            if made is not None:
                yield made


def _called_by_name(function: ir.Function, scope: Scope) -> Iterator[Made]:
    """`norm = nn.BatchNorm1d(n)` and `norm(x)`, and nothing else happens to `norm`."""
    for name, values in scope.bindings.values.items():
        made = [made_by(value, scope) for value in values]
        layers = [one for one in made if one is not None]
        if name in scope.bindings.parameters or len(layers) < len(made):
            continue
        if _only_called(name, function):
            yield from layers


def _only_called(name: str, function: ir.Function) -> bool:
    called = used = 0
    for node in nodes_of(function):
        match node:
            case ir.Name(id=found) if found == name:
                used += 1
            case ir.Assign(targets=targets):
                used -= sum(isinstance(t, ir.Name) and t.id == name for t in targets)
            case ir.Call(func=ir.Name(id=found), args=args) if found == name and args:
                called += 1
            case _:
                pass
    return called > 0 and called == used
