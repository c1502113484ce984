"""Reading code without running it: walking the IR, and what names stand for in a function."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from dataclasses import field
from functools import lru_cache

from trainlint.core.late import dataclass
from trainlint.flow import ir
from trainlint.flow.project import ClassInfo, ModuleInfo, member
from trainlint.flow.values import External, Value
from trainlint.flow.walk import below, statements_of, walk

_BUILTINS = frozenset(dir(builtins))
_MAX_ALIASES = 6


def classes_of(module: ir.Module) -> Iterator[ir.Class]:
    """Every class statement of a file, nested ones included."""
    found = statements_of(module.body, "class")
    return (node for node in found if isinstance(node, ir.Class))


def receiver_of(function: ir.Function) -> str:
    """What a method calls its instance; empty for a static method."""
    for decorator in function.decorators:
        if isinstance(decorator, ir.Name) and decorator.id in ("staticmethod", "classmethod"):
            return ""
    first = function.parameters[0] if function.parameters else None
    if first is None or first.kind not in (
        ir.ParameterKind.POSITIONAL,
        ir.ParameterKind.POSITIONAL_ONLY,
    ):
        return ""
    return first.name


def attribute_of(expr: ir.Node, receiver: str) -> str:
    """`x` if the expression is `self.x`, else empty."""
    match expr:
        case ir.Attribute(value=ir.Name(id=name), attr=attr) if name == receiver:
            return attr
        case _:
            return ""


def root_of(expr: ir.Expr) -> ir.Expr:
    """`a` of `a.b[0].c`."""
    while isinstance(expr, ir.Attribute | ir.Subscript):
        expr = expr.value
    return expr


def mentioned(expr: ir.Node) -> set[str]:
    """Every name and attribute in an expression, and its strings."""
    words: set[str] = set()
    for node in walk(expr):
        match node:
            case ir.Name(id=word) | ir.Attribute(attr=word):
                words.add(word)
            case ir.Literal(value=str() as word):
                words.add(word)
            case _:
                pass
    return words


def returns_of(function: ir.Function) -> Iterator[ir.Jump]:
    """The return statements of a function, not those of functions inside it."""
    pending: list[ir.Node] = list(function.body)
    while pending:
        node = pending.pop(0)
        if isinstance(node, ir.Function | ir.Class | ir.Lambda):
            continue
        if isinstance(node, ir.Jump) and node.kind is ir.JumpKind.RETURN:
            yield node
        pending = [*below(node), *pending]


def leaves(block: ir.Block) -> bool:
    """Whether a block never reaches its end: it returns, raises, breaks or continues."""
    if not block:
        return False
    match block[-1]:
        case ir.Jump():
            return True
        case ir.If(body=body, orelse=orelse):
            return leaves(body) and leaves(orelse)
        case ir.With(body=body):
            return leaves(body)
        case ir.Try(body=body, handlers=handlers, final=final):
            return leaves(final) or (leaves(body) and all(leaves(h.body) for h in handlers))
        case _:
            return False


@dataclass(slots=True)
class Bindings:
    """What a function binds its local names to; None where no expression tells."""

    values: dict[str, list[ir.Expr | None]] = field(default_factory=dict)
    imports: dict[str, ir.Import] = field(default_factory=dict)
    parameters: dict[str, ir.Parameter] = field(default_factory=dict)

    def gather(self, node: ir.Node) -> None:
        """Take in what a statement or an expression binds, nested functions apart."""
        match node:
            case ir.Function(name=name) | ir.Class(name=name):
                self._add(name, None)
                return
            case ir.Lambda():
                return
            case ir.Assign(targets=targets, value=value):
                for target in targets:
                    self._target(target, value)
            case ir.AugAssign(op="+", target=ir.Name(), value=ir.Sequence()):
                # `layers += [...]` adds to the list as `append` does: it stays the same one.
                pass
            case ir.AugAssign(target=target) | ir.For(target=target):
                self._target(target, None)
            case ir.With(target=target) if target is not None:
                self._target(target, None)
            case ir.Walrus(target=target, value=value):
                self._target(target, value)
            case ir.Import(bound=bound):
                self.imports[bound] = node
            case _:
                pass
        for part in below(node):
            self.gather(part)

    def _target(self, target: ir.Expr, value: ir.Expr | None) -> None:
        match target, value:
            case ir.Name(id=name), _:
                self._add(name, value)
            case ir.Sequence(items=items), ir.Sequence(items=values) if len(items) == len(values):
                for item, part in zip(items, values, strict=True):
                    self._target(item, part)
            case ir.Sequence(items=items), _:
                for item in items:
                    self._target(item, None)
            case ir.Starred(value=inner), _:
                self._target(inner, None)
            case _:
                pass

    def _add(self, name: str, value: ir.Expr | None) -> None:
        self.values.setdefault(name, []).append(value)

    def only(self, name: str) -> ir.Expr | None:
        """The one expression that a name stands for all through the function."""
        if name in self.parameters or name in self.imports:
            return None
        values = self.values.get(name, ())
        return values[0] if len(values) == 1 else None


@lru_cache(maxsize=2_000)
def bindings_of(function: ir.Function) -> Bindings:
    """What a function binds, kept because several readers ask."""
    made = Bindings(parameters={p.name: p for p in function.parameters})
    for statement in function.body:
        made.gather(statement)
    return made


class Scope:
    """What names mean inside a function that is read and not run."""

    def __init__(
        self,
        module: ModuleInfo,
        function: ir.Function | None = None,
        outer: Scope | None = None,
    ) -> None:
        self.module = module
        self.function = function
        self.outer = outer

    @property
    def bindings(self) -> Bindings:
        """What the function binds; nothing where there is none."""
        return bindings_of(self.function) if self.function is not None else Bindings()

    def inner(self, function: ir.Function) -> Scope:
        """The scope of a function defined here."""
        return Scope(self.module, function, self)

    def owner(self, name: str) -> Scope | None:
        """The function's scope that binds a name; None if it is the file's or a builtin."""
        scope: Scope | None = self
        while scope is not None:
            if scope.function is not None and name in scope.function.locals:
                return scope
            scope = scope.outer
        return None

    def only(self, name: str) -> ir.Expr | None:
        """The one expression that a local name stands for."""
        owner = self.owner(name)
        return owner.bindings.only(name) if owner is not None else None

    def value(self, expr: ir.Expr, depth: int = 0) -> Value | None:
        """The constant, class, function or library path that an expression certainly is."""
        if depth > _MAX_ALIASES:
            return None
        match expr:
            case ir.Name(id=name):
                return self._name(name, depth)
            case ir.Attribute(value=owner, attr=attr):
                base = self.value(owner, depth + 1)
                return member(base, attr, self.module.project) if base is not None else None
            case ir.Literal():
                return self.module.static_value(expr)
            case _:
                return None

    def _name(self, name: str, depth: int) -> Value | None:
        owner = self.owner(name)
        if owner is not None:
            imported = owner.bindings.imports.get(name)
            if imported is not None and name not in owner.bindings.values:
                return self.module.project.imported(imported, self.module.path)
            only = owner.bindings.only(name)
            return owner.value(only, depth + 1) if only is not None else None
        found = self.module.resolve(name)
        if found is None and name in _BUILTINS and name not in self.module.bindings:
            return External(f"builtins.{name}")
        return found

    def path(self, expr: ir.Expr) -> str:
        """The dotted path of something of a library; empty if it is not one."""
        value = self.value(expr)
        return value.path if isinstance(value, External) else ""


def own_methods(info: ClassInfo) -> Iterator[ir.Function]:
    """The methods in a class's own body."""
    yield from info.methods.values()


def all_methods(info: ClassInfo) -> Iterator[tuple[ClassInfo, ir.Function]]:
    """The methods of a class and of its bases in the project, the nearest of each name."""
    seen: set[str] = set()
    for cls in info.mro:
        for name, function in cls.methods.items():
            if name not in seen:
                seen.add(name)
                yield cls, function


def certain_module(info: ClassInfo) -> bool:
    """Whether a class certainly derives from torch.nn.Module."""
    from trainlint.libraries import LIBRARY

    return any(LIBRARY.is_module_base(path) for path in info.externals)
