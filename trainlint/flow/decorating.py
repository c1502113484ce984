"""Decorators that give back the very thing that they were put on, told without running them.

A registry, a documenter or a marker looks at a function and hands it on. Running one shows nothing
of training, and those that write documentation can be long: what they hand on is read off their
`return`s. One that calls what it is given, or mentions modes or gradients, is run.
"""

from __future__ import annotations

from collections.abc import Iterator

from trainlint.flow import ir
from trainlint.flow.project import ModuleInfo
from trainlint.flow.values import Func
from trainlint.flow.walk import calls_in, nodes_outside_definitions
from trainlint.libraries.words import FLAGS, GRADIENT_MODES, PROTOCOL

_MAX_DEPTH = 4

_TELLING = PROTOCOL | GRADIENT_MODES | FLAGS | {"freeze"}


def gives_back(func: Func) -> bool:
    """Whether a decorator's result is what it was put on."""
    return _hands_on(func.function, func.module, 0, {}, 0)


Nested = dict[str, ir.Function]


def _hands_on(
    function: ir.Function, module: ModuleInfo, position: int, around: Nested, depth: int
) -> bool:
    """Whether a function returns its argument at that position.

    Beside it a decorator to be called may return the one that does the work: `if obj is None:
    return decorator`.
    """
    name = _parameter(function, position)
    if name is None or depth > _MAX_DEPTH or not _TELLING.isdisjoint(function.words):
        return False
    if any(_is_name(call.func, name) for call in calls_in(function.body)):
        return False
    returned: list[ir.Expr | None] = []
    nested = dict(around)
    for node in nodes_outside_definitions(function.body):
        match node:
            case ir.Jump(kind=ir.JumpKind.RETURN, value=value):
                returned.append(value)
            case ir.Function():
                nested[node.name] = node
            case _ if any(_is_name(target, name) for target in _targets(node)):
                return False
    given_back = False
    for value in returned:
        match value:
            case ir.Name(id=id) if id == name:
                given_back = True
            case ir.Call() if _is_handed_on(value, name, module, nested, depth):
                given_back = True
            case ir.Name(id=id) if id in nested:
                if not _hands_on(nested[id], module, 0, nested, depth + 1):
                    return False
            case _:
                return False
    return given_back


def _parameter(function: ir.Function, position: int) -> str | None:
    """The name of a plain function's parameter that is given by position."""
    if function.is_generator or function.is_async or function.decorators:
        return None
    if position >= len(function.parameters):
        return None
    parameter = function.parameters[position]
    named = parameter.kind in (ir.ParameterKind.POSITIONAL_ONLY, ir.ParameterKind.POSITIONAL)
    return parameter.name if named else None


def _is_handed_on(call: ir.Call, name: str, module: ModuleInfo, nested: Nested, depth: int) -> bool:
    """Whether a call of a function of the project returns the named argument."""
    at = [i for i, given in enumerate(call.args) if _is_name(given.value, name)]
    if not isinstance(call.func, ir.Name) or len(at) != 1:
        return False
    if call.args[at[0]].name is not None or any(given.star for given in call.args[: at[0] + 1]):
        return False
    inner = nested.get(call.func.id)
    if inner is not None:
        return _hands_on(inner, module, at[0], nested, depth + 1)
    called = module.resolve(call.func.id)
    return isinstance(called, Func) and _hands_on(
        called.function, called.module, at[0], {}, depth + 1
    )


def _targets(node: ir.Node) -> Iterator[ir.Expr]:
    """What a node binds."""
    match node:
        case ir.Assign(targets=targets) | ir.Delete(targets=targets):
            pending = list(targets)
        case ir.AugAssign(target=target) | ir.For(target=target) | ir.Walrus(target=target):
            pending = [target]
        case ir.With(target=ir.Node() as target):
            pending = [target]
        case _:
            return
    while pending:
        target = pending.pop()
        if isinstance(target, ir.Sequence):
            pending.extend(target.items)
        else:
            yield target


def _is_name(node: object, name: str) -> bool:
    return isinstance(node, ir.Name) and node.id == name
