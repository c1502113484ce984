"""Layers and parameters that a module class keeps in plain lists, dicts and tuples."""

from __future__ import annotations

import re
from dataclasses import field

from trainlint.core.facts import Site
from trainlint.core.late import dataclass, pattern
from trainlint.flow import ir
from trainlint.flow.layers import made_by
from trainlint.flow.project import ClassInfo
from trainlint.flow.reading import Scope, all_methods, attribute_of, receiver_of, returns_of
from trainlint.flow.values import External, Func, Package, Value
from trainlint.flow.walk import calls_in, nodes_of, walk
from trainlint.libraries import LIBRARY
from trainlint.libraries import spec as sp

_REGISTERS = frozenset(
    [
        "add_module",
        "register_module",
        "register_parameter",
        "__setattr__",
        "_modules",
        "__dict__",
        "_parameters",
    ]
)
_BY_HAND = frozenset(
    [
        "parameters",
        "named_parameters",
        "_apply",
        "to",
        "cuda",
        "state_dict",
        "children",
        "named_children",
        "modules",
        "named_modules",
    ]
)
_READERS = frozenset(
    [
        "builtins.enumerate",
        "builtins.zip",
        "builtins.len",
        "builtins.range",
        "builtins.reversed",
        "builtins.iter",
        "builtins.print",
        "builtins.isinstance",
        "builtins.any",
        "builtins.all",
        "builtins.str",
        "builtins.min",
        "builtins.max",
        "builtins.next",
        "builtins.bool",
    ]
)
_CONTAINERS = {
    "builtins.list": "list",
    "builtins.tuple": "tuple",
    "builtins.dict": "dict",
    "builtins.set": "list",
    "collections.OrderedDict": "dict",
    "collections.defaultdict": "dict",
    "collections.deque": "list",
}
_MAKERS = frozenset(path.rpartition(".")[2] for path in _CONTAINERS)
_MADE = pattern(
    r"=(?!=)[\s(]*[\[{]|[+*][\s(]*[\[{]|[=+]\s*\(|^[^\n(=]*=(?!=)[^\n(\[]*,[ \t]*[^\s=]"
    r"|^[ \t]*[\w.]+[ \t]*=(?!=)[^\n]*\)[ \t]*,[ \t]*[^\s]"
    r"|^[ \t]*[)\]}]+[ \t]*,[ \t]*\S"
    r"|^[ \t]*(?:import|from)\b",
    re.MULTILINE,
)
"""The text of a display or a tuple that is assigned, or of an import, and some other code."""
_ADDERS = frozenset({"append", "extend", "insert", "add"})
_MAX_HELPERS = 3
"""How deep functions that return lists of layers are followed into each other."""


@dataclass(slots=True)
class Kept:
    """What is known of one attribute or local variable that is a plain container."""

    container: str
    site: Site
    holds: bool = False
    methods: set[str] = field(default_factory=set)
    """The methods that fill it."""


def unregistered(info: ClassInfo) -> tuple[tuple[str, str, Site], ...]:
    """Attributes that certainly hold fresh layers and that nothing registers."""
    if _registers(info.node) or _BY_HAND & {f.name for _, f in all_methods(info)}:
        return ()
    reader = ClassReader(info)
    return tuple(
        (name, kept.container, kept.site)
        for name, kept in reader.attributes.items()
        if kept.holds and name not in reader.handed_on and reader.is_used(name, kept)
    )


def _registers(cls: ir.Class) -> bool:
    """Whether a class may make layers known to itself by other means than an assignment.

    `setattr(self.model, name, value)` gives something to a part and nothing to the module.
    """
    if not cls.words.isdisjoint(_REGISTERS):
        return True
    return "setattr" in cls.words and any(
        not (call.args and isinstance(call.args[0].value, ir.Attribute))
        for call in calls_in(cls.body)
        if isinstance(call.func, ir.Name) and call.func.id == "setattr"
    )


class ClassReader:
    """Follows the containers of one class through its methods."""

    def __init__(self, info: ClassInfo) -> None:
        self.info = info
        self.attributes: dict[str, Kept] = {}
        self.handed_on: set[str] = set()
        if any(map(self._may_make_container, info.methods.values())):
            for function in info.methods.values():
                self._method(function)

    def _may_make_container(self, function: ir.Function) -> bool:
        """Whether a method may keep a container: it shows one, or calls what may return one."""
        if function.may_show(_MADE) or not function.words.isdisjoint(_MAKERS):
            return True
        module = self.info.module
        if any(module.project.find(star.module, module.path) for star in module.stars):
            return True
        return any(
            _may_give_container(module.resolve(name))
            for name in function.words & module.bindings.keys()
        )

    def is_used(self, name: str, kept: Kept) -> bool:
        """Whether a method other than those that fill it works with the attribute."""
        return any(
            name in function.words
            for function in self.info.methods.values()
            if function.name not in kept.methods
        )

    def _method(self, function: ir.Function) -> None:
        receiver = receiver_of(function)
        if not receiver:
            return
        scope = Scope(self.info.module, function)
        local = MethodReader(function, receiver, scope)
        self.handed_on |= local.handed_on
        if function.name == "forward":
            return
        for name, bound in local.assigned.items():
            for node, value in bound:
                self._assigned(name, node, value, local)
        for name, added in local.added.items():
            kept = self.attributes.get(name)
            if kept is not None and any(local.is_fresh(value) for value in added):
                kept.holds = True
                kept.methods.add(function.name)

    def _assigned(self, name: str, node: ir.Assign, value: ir.Expr, local: MethodReader) -> None:
        container = local.container(value)
        if container is None:
            if made_by(value, local.scope) is None:
                # Bound to something else as well: what it is in the end is not known.
                self.handed_on.add(name)
            # A layer is what another option puts there, or holds what it was given by name.
            return
        helper = local.helper(value)
        made_at = helper.returned if helper is not None and self._at_fault(helper) else node
        site = Site(self.info.module.path, made_at.node)
        kept = self.attributes.setdefault(name, Kept(container, site))
        kept.methods.add(local.function.name)
        if local.holds(value) and not kept.holds:
            kept.holds, kept.container, kept.site = True, container, site

    def _at_fault(self, helper: HelperReader) -> bool:
        """Whether the list is wrong where it is made: nobody in the file registers what it gets."""
        if helper.scope.module is not self.info.module:
            return False
        handed_on = (
            argument.value.func
            for call in walk(self.info.module.module.body)
            if isinstance(call, ir.Call)
            for argument in call.args
            if isinstance(argument.value, ir.Call)
        )
        name = helper.function.name
        return not any(isinstance(func, ir.Name) and func.id == name for func in handed_on)


def _may_give_container(value: Value | None) -> bool:
    """Whether what a file's name stands for may be called to get a container."""
    match value:
        case Func() | Package():
            return True
        case External(path=path):
            return path in _CONTAINERS
        case _:
            return False


class MethodReader:
    """What one method assigns, adds and hands on."""

    def __init__(self, function: ir.Function, receiver: str, scope: Scope) -> None:
        self.function = function
        self.receiver = receiver
        self.scope = scope
        self.assigned: dict[str, list[tuple[ir.Assign, ir.Expr]]] = {}
        self.added: dict[str, list[ir.Expr]] = {}
        self.handed_on: set[str] = set()
        self.locals_added: dict[str, list[ir.Expr]] = {}
        self.locals_given: set[str] = set()
        self.depth = 0
        self._helpers: dict[int, HelperReader | None] = {}
        for node in nodes_of(function):
            self._look(node)

    def _look(self, node: ir.Node) -> None:
        match node:
            case ir.Assign(targets=targets, value=value):
                for target in targets:
                    self._target(target, value, node)
            case ir.AugAssign(op="+", target=target, value=value):
                self._add(target, _each(value))
            case ir.Call(func=ir.Attribute(value=owner, attr=attr), args=args) if attr in _ADDERS:
                self._add(owner, tuple(part for a in args for part in _each(a.value)))
            case ir.Call():
                self._given(node)
            case _:
                pass

    def _target(self, target: ir.Expr, value: ir.Expr, node: ir.Assign) -> None:
        match target, value:
            case ir.Sequence(items=items), ir.Sequence(items=values) if len(items) == len(values):
                for item, part in zip(items, values, strict=True):
                    self._target(item, part, node)
            case ir.Subscript(value=owner), _:
                self._add(owner, (value,))
            case ir.Attribute(), _:
                name = attribute_of(target, self.receiver)
                if name:
                    self.assigned.setdefault(name, []).append((node, value))
                if isinstance(value, ir.Name) and self.container(value) is None:
                    # The layer is an attribute of its own too.
                    self.locals_given.add(value.id)
            case _:
                pass

    def _add(self, owner: ir.Expr, values: tuple[ir.Expr, ...]) -> None:
        name = attribute_of(owner, self.receiver)
        if name:
            self.added.setdefault(name, []).extend(values)
        elif isinstance(owner, ir.Name):
            self.locals_added.setdefault(owner.id, []).extend(values)

    def _given(self, call: ir.Call) -> None:
        """Arguments of a call that may register or keep what it gets."""
        path = self.scope.path(call.func)
        if path in _READERS:
            return
        spec = LIBRARY.call(path) if path else None
        deep = isinstance(spec, sp.Layer) and spec.container
        if path in _CONTAINERS and not deep:
            return
        for argument in call.args:
            parts = walk(argument.value) if deep else (argument.value,)
            for part in parts:
                if isinstance(part, ir.Name):
                    self.locals_given.add(part.id)
                elif isinstance(part, ir.Attribute):
                    name = attribute_of(part, self.receiver)
                    if name:
                        self.handed_on.add(name)

    def container(self, expr: ir.Expr) -> str | None:
        """`list`, `dict` or `tuple` if the expression certainly makes one."""
        match expr:
            case ir.Sequence(kind=ir.SequenceKind.TUPLE):
                return "tuple"
            case ir.Sequence(kind=ir.SequenceKind.LIST | ir.SequenceKind.SET):
                return "list"
            case ir.Mapping():
                return "dict"
            case ir.Comprehension(kind=kind):
                return _COMPREHENSIONS.get(kind)
            case ir.BinOp(op="*" | "+", left=left, right=right):
                return self.container(left) or self.container(right)
            case ir.Call(func=func):
                helper = self.helper(expr)
                return helper.kind if helper is not None else _CONTAINERS.get(self.scope.path(func))
            case ir.Name(id=name):
                only = self.scope.only(name)
                return self.container(only) if only is not None else None
            case _:
                return None

    def helper(self, expr: ir.Expr) -> HelperReader | None:
        """The function called, if it certainly returns a plain container of fresh layers."""
        if not isinstance(expr, ir.Call) or self.depth >= _MAX_HELPERS:
            return None
        if id(expr) not in self._helpers:
            self._helpers[id(expr)] = None  # for a function that calls itself
            self._helpers[id(expr)] = self._helper(expr)
        return self._helpers[id(expr)]

    def _helper(self, call: ir.Call) -> HelperReader | None:
        made = self.scope.value(call.func)
        if not isinstance(made, Func) or made.owner is not None or made.contexts:
            return None
        function = made.function
        returned = list(returns_of(function))
        if len(returned) != 1 or function.is_generator or function.decorators:
            return None
        fresh = frozenset(
            parameter.name
            for i, parameter in enumerate(function.parameters)
            if (given := _given_to(call, parameter.name, i)) is not None and self.is_fresh(given)
        )
        reader = HelperReader(made, returned[0], fresh, self.depth + 1)
        value = returned[0].value
        return reader if value is not None and reader.holds(value) and reader.kind else None

    def holds(self, expr: ir.Expr) -> bool:
        """Whether a container certainly has fresh layers or parameters in it."""
        match expr:
            case ir.Sequence(items=items):
                # A list of one around a network hides it on purpose.
                return len(items) != 1 and any(self.is_fresh(item) for item in items)
            case ir.Mapping(items=pairs):
                return any(self.is_fresh(value) for _, value in pairs)
            case ir.Comprehension(element=element):
                return self.is_fresh(element)
            case ir.BinOp(op="*", left=ir.Sequence(items=items)):
                return any(self.is_fresh(item) for item in items)
            case ir.BinOp(op="+", left=left, right=right):
                return any(self.is_fresh(part) for part in (*_each(left), *_each(right)))
            case ir.Call() if self.helper(expr) is not None:
                return True
            case ir.Call(args=args) if self.container(expr) is not None:
                return any(
                    self.is_fresh(a.value) if a.name is not None else self.holds(a.value)
                    for a in args
                )
            case ir.Name(id=name) if name not in self.locals_given:
                return self._local_holds(name)
            case _:
                return False

    def _local_holds(self, name: str) -> bool:
        only = self.scope.only(name)
        if only is None or self.container(only) is None:
            return False
        return self.holds(only) or any(
            self.is_fresh(value) for value in self.locals_added.get(name, ())
        )

    def is_fresh(self, expr: ir.Expr) -> bool:
        """A new layer with weights or modes, or a container of such."""
        made = made_by(expr, self.scope)
        if made is not None:
            return made.matters
        match expr:
            case ir.Name(id=name) if name not in self.locals_given:
                return self._fresh_local(name)
            case ir.Sequence() | ir.Mapping() | ir.Comprehension() | ir.BinOp():
                return self.holds(expr)
            case _:
                return False

    def _fresh_local(self, name: str) -> bool:
        """A variable that is a fresh layer wherever it is assigned."""
        owner = self.scope.owner(name)
        if owner is None or name in owner.bindings.parameters:
            return False
        made = [made_by(value, owner) for value in owner.bindings.values.get(name, ())]
        if made and all(one is not None and one.matters for one in made):
            return not self._also_attribute(name)
        return self.scope.only(name) is not None and self._local_holds(name)

    def _also_attribute(self, name: str) -> bool:
        """`self.first = layer = nn.Linear(...)`."""
        return any(
            isinstance(node, ir.Assign)
            and any(isinstance(t, ir.Name) and t.id == name for t in node.targets)
            and any(isinstance(t, ir.Attribute) for t in node.targets)
            for node in nodes_of(self.function)
        )


class HelperReader(MethodReader):
    """What a function outside of the class returns, such as a list of copies of a layer."""

    def __init__(self, func: Func, returned: ir.Jump, fresh: frozenset[str], depth: int) -> None:
        super().__init__(func.function, "", Scope(func.module, func.function))
        self.returned = returned
        self.fresh = fresh
        """The parameters that are given a fresh layer."""
        self.depth = depth

    @property
    def kind(self) -> str:
        """`list`, `dict` or `tuple`; empty for anything else."""
        value = self.returned.value
        return (self.container(value) or "") if value is not None else ""

    def is_fresh(self, expr: ir.Expr) -> bool:
        """A layer made here, or a copy of one that was made for this call."""
        match expr:
            case ir.Call(func=func, args=(ir.Argument(value=ir.Name(id=name)), *_)) if (
                name in self.fresh and isinstance(LIBRARY.call(self.scope.path(func)), sp.Copy)
            ):
                return True
            case _:
                return super().is_fresh(expr)


def _given_to(call: ir.Call, parameter: str, position: int) -> ir.Expr | None:
    """The argument that a parameter gets; None if that is not certain."""
    if any(argument.star for argument in call.args):
        return None
    for argument in call.args:
        if argument.name == parameter:
            return argument.value
    plain = [argument.value for argument in call.args if argument.name is None]
    return plain[position] if position < len(plain) else None


def _each(value: ir.Expr) -> tuple[ir.Expr, ...]:
    """What a list display adds to another list; a list of one hides nothing there."""
    return value.items if isinstance(value, ir.Sequence) else (value,)


_COMPREHENSIONS = {
    ir.ComprehensionKind.LIST: "list",
    ir.ComprehensionKind.SET: "list",
    ir.ComprehensionKind.DICT: "dict",
    ir.ComprehensionKind.GENERATOR: "tuple",
}
