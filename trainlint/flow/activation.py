"""The last activation of a module class's output, read off its `forward`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from trainlint.flow import ir
from trainlint.flow.project import ClassInfo
from trainlint.flow.reading import Scope, attribute_of, receiver_of
from trainlint.flow.values import Func
from trainlint.libraries import LIBRARY
from trainlint.libraries import spec as sp
from trainlint.libraries.torch import ACTIVATION_METHODS, RESHAPE_METHODS

SAME = "same"
"""What a part that passes its input on ends with."""
_MAX_DEPTH = 4
_SPREAD = frozenset({"softmax", "log_softmax"})
"""Activations over a whole row: a part of their result is not one any more."""


class Part(NamedTuple):
    """A sub-module by its name: `head`, `layers.-1`."""

    name: str


class Outputs(NamedTuple):
    """Several outputs in one, a tuple's by index or a dict's by key, with what each ends with."""

    items: tuple[tuple[object, str], ...]


Known = dict[str, "str | Part | Outputs"]


def output_activation(info: ClassInfo, of_part: Callable[[str], str]) -> str | Outputs:
    """The last activation of `forward`'s result, if every return agrees and it is certain.

    `of_part` tells it for a sub-module; `none` is a linear map's, empty is not known.
    """
    forward = info.method("forward")
    if forward is None or forward.function.is_generator:
        return ""
    return ForwardReader(info, of_part).result(forward, [])


class ForwardReader:
    """Follows the activation of local variables through a method."""

    def __init__(self, info: ClassInfo, of_part: Callable[[str], str]) -> None:
        self.info = info
        self.of_part = of_part
        self.depth = 0

    def result(self, func: Func, given: list[str | Part]) -> str | Outputs:
        """What a method returns, called with such arguments."""
        if self.depth >= _MAX_DEPTH:
            return ""
        function, owner = func.function, func.owner or self.info
        names = [p.name for p in function.parameters if p.name != receiver_of(function)]
        known: Known = dict(zip(names, given, strict=False))
        self.depth += 1
        try:
            body = BodyReader(self, owner, function)
            body.block(function.body, known)
        finally:
            self.depth -= 1
        return _agreed_outputs(body.returned)


class BodyReader:
    """One method's body."""

    def __init__(self, reader: ForwardReader, owner: ClassInfo, function: ir.Function) -> None:
        self.reader = reader
        self.owner = owner
        self.receiver = receiver_of(function)
        self.scope = Scope(owner.module, function)
        self.returned: list[str | Outputs] = []

    def block(self, body: ir.Block, known: Known) -> bool:
        """Run statements; False if their end is not reached."""
        return all(self._statement(statement, known) for statement in body)

    def _statement(self, s: ir.Statement, known: Known) -> bool:
        match s:
            case ir.Assign(targets=targets, value=value):
                for target in targets:
                    self._bind(target, value, known)
            case ir.AugAssign(target=target):
                self._bind(target, None, known)
            case ir.Jump(kind=kind, value=value):
                if kind is ir.JumpKind.RETURN:
                    self.returned.append(self._whole(value, known) if value is not None else "")
                return False
            case ir.If(body=body, orelse=orelse):
                return self._branches((body, orelse), known)
            case ir.For(target=target, iter=iterable, body=body):
                self._bind(target, None, known)
                if isinstance(target, ir.Name):
                    known[target.id] = self._last_of(iterable)
                self._loop(body, known)
            case ir.While(body=body):
                self._loop(body, known)
            case ir.With(body=body):
                return self.block(body, known)
            case ir.Try(body=body, handlers=handlers, orelse=orelse, final=final):
                blocks = ((*body, *orelse, *final), *((*h.body, *final) for h in handlers))
                return self._branches(blocks, known)
            case ir.Function(name=name) | ir.Class(name=name):
                known[name] = ""
            case _:
                pass
        return True

    def _branches(self, blocks: Iterable[ir.Block], known: Known) -> bool:
        ends: list[Known] = []
        for block in blocks:
            copy = dict(known)
            if self.block(block, copy):
                ends.append(copy)
        if not ends:
            return False
        first, *others = ends
        names = {name for end in ends for name in end}
        known.clear()
        known.update(
            {
                name: first.get(name, "")
                for name in names
                if all(end.get(name, "") == first.get(name, "") for end in others)
            }
        )
        return True

    def _loop(self, body: ir.Block, known: Known) -> None:
        for _ in range(2):
            before = dict(known)
            self.block(body, known)
            if known == before:
                break

    def _last_of(self, iterable: ir.Expr) -> str | Part:
        name = attribute_of(iterable, self.receiver)
        return Part(f"{name}.-1") if name else ""

    def _bind(self, target: ir.Expr, value: ir.Expr | None, known: Known) -> None:
        match target, value:
            case ir.Name(id=name), None:
                known[name] = ""
            case ir.Name(id=name), _:
                assert value is not None
                known[name] = self._part(value, known) or self._whole(value, known)
            case ir.Sequence(items=items), ir.Sequence(items=values) if len(items) == len(values):
                for item, part in zip(items, values, strict=True):
                    self._bind(item, part, known)
            case ir.Sequence(items=items), _:
                whole = self._whole(value, known) if value is not None else ""
                several = dict(whole.items) if isinstance(whole, Outputs) else {}
                for i, item in enumerate(items):
                    self._bind(item, None, known)
                    if isinstance(item, ir.Name):
                        known[item.id] = several.get(i, "")
            case ir.Starred(value=inner), _:
                self._bind(inner, None, known)
            case ir.Subscript(value=ir.Name(id=name)), _ if isinstance(known.get(name), Outputs):
                known[name] = ""
            case _:
                pass

    def _whole(self, expr: ir.Expr, known: Known) -> str | Outputs:
        """What a value ends with, or each of several in one."""
        match expr:
            case ir.Name(id=name) if isinstance(known.get(name), Outputs):
                return known[name]  # type: ignore[return-value]
            case ir.Sequence(items=items) if not any(isinstance(i, ir.Starred) for i in items):
                return Outputs(tuple((i, self.of(item, known)) for i, item in enumerate(items)))
            case ir.Mapping(items=pairs) if all(isinstance(k, ir.Literal) for k, _ in pairs):
                return Outputs(
                    tuple(
                        (k.value, self.of(v, known)) for k, v in pairs if isinstance(k, ir.Literal)
                    )
                )
            case ir.Call():
                return self._call(expr, known)
            case _:
                return self.of(expr, known)

    def _part(self, expr: ir.Expr, known: Known) -> Part | None:
        """The sub-module that an expression names."""
        match expr:
            case ir.Name(id=name):
                found = known.get(name)
                return found if isinstance(found, Part) else None
            case ir.Attribute():
                name = attribute_of(expr, self.receiver)
                return Part(name) if name and self.owner_method(name) is None else None
            case ir.Subscript(value=owner, index=index):
                name = attribute_of(owner, self.receiver)
                number = _number(index)
                return Part(f"{name}.{number}") if name and number is not None else None
            case _:
                return None

    def owner_method(self, name: str) -> Func | None:
        """A method of the instance's class."""
        return self.reader.info.method(name)

    def of(self, expr: ir.Expr, known: Known) -> str:
        """The last activation of an expression's value."""
        match expr:
            case ir.Name(id=name):
                found = known.get(name, "")
                return found if isinstance(found, str) else ""
            case ir.Call():
                whole = self._call(expr, known)
                return whole if isinstance(whole, str) else ""
            case ir.IfExp(body=body, orelse=orelse):
                return agreed([self.of(body, known), self.of(orelse, known)])
            case ir.BinOp(op="+", left=left, right=right):
                # No sum with a linear map's result has a range. A difference may have one:
                # `x - x.logsumexp(1)`.
                return "none" if "none" in (self.of(left, known), self.of(right, known)) else ""
            case ir.Subscript(value=owner):
                whole = self.of(owner, known)
                return "" if whole in _SPREAD else whole
            case ir.Walrus(target=target, value=value):
                self._bind(target, value, known)
                return self.of(value, known)
            case _:
                return ""

    def _call(self, call: ir.Call, known: Known) -> str | Outputs:
        first = next((a.value for a in call.args if not a.star), None)
        part = self._part(call.func, known)
        if part is not None:
            return self._passed(self.reader.of_part(part.name), first, known)
        match call.func:
            case ir.Attribute(value=ir.Call(func=ir.Name(id="super")), attr=attr):
                func = self.reader.info.method_after(self.owner, attr)
                return self._method(func, call, known)
            case ir.Attribute(attr=attr) if attribute_of(call.func, self.receiver):
                return self._method(self.owner_method(attr), call, known)
            case ir.Call(func=constructor):
                spec = LIBRARY.call(self.scope.path(constructor))
                if not isinstance(spec, sp.Layer) or spec.unless_given[0]:
                    return ""
                return self._passed(spec.activation, first, known)
            case _:
                return self._function(call, first, known)

    def _method(self, func: Func | None, call: ir.Call, known: Known) -> str | Outputs:
        if func is None or any(a.star for a in call.args):
            return ""
        given = [
            self._part(a.value, known) or self.of(a.value, known)
            for a in call.args
            if a.name is None
        ]
        return self.reader.result(func, given)

    def _function(self, call: ir.Call, first: ir.Expr | None, known: Known) -> str:
        path = self.scope.path(call.func)
        match LIBRARY.call(path) if path else None:
            case sp.Activation(name=name):
                return name
            case sp.Reshape():
                return self._passed(SAME, first, known)
            case None if isinstance(call.func, ir.Attribute) and not path:
                return self._tensor_method(call.func, known)
            case _:
                return ""

    def _tensor_method(self, func: ir.Attribute, known: Known) -> str:
        if func.attr in ACTIVATION_METHODS:
            return ACTIVATION_METHODS[func.attr]
        return self.of(func.value, known) if func.attr in RESHAPE_METHODS else ""

    def _passed(self, ends: str, first: ir.Expr | None, known: Known) -> str:
        if ends != SAME:
            return ends
        return self.of(first, known) if first is not None else ""


def _number(index: ir.Expr) -> int | None:
    match index:
        case ir.Literal(value=int() as value):
            return value
        case ir.UnaryOp(op="-", value=ir.Literal(value=int() as value)):
            return -value
        case _:
            return None


def agreed(found: list[str]) -> str:
    """The one activation that all of them are."""
    return found[0] if found and all(one == found[0] for one in found) else ""


def _agreed_outputs(found: list[str | Outputs]) -> str | Outputs:
    """What all returns end with; of several outputs, those that agree."""
    if not found or not all(isinstance(one, Outputs) for one in found):
        return agreed([one if isinstance(one, str) else "" for one in found])
    several = [dict(one.items) for one in found if isinstance(one, Outputs)]
    keys = list(several[0])
    if any(list(one) != keys for one in several):
        return ""
    return Outputs(tuple((key, agreed([one[key] for one in several])) for key in keys))
