"""The files of a project: what a name in one of them refers to.

Nothing is imported or executed. Other files are lowered on demand through a loader; a name that
no file of the project defines belongs to a library and is known by its dotted path only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import field
from pathlib import PurePath
from typing import Protocol

from trainlint.core.facts import Certainty
from trainlint.core.late import dataclass
from trainlint.flow import ir
from trainlint.flow.search_paths import added_paths
from trainlint.flow.values import (
    ClassValue,
    External,
    Func,
    Package,
    TupleValue,
    Value,
    const,
)
from trainlint.libraries import LIBRARY
from trainlint.libraries.words import OWN_PARAMETERS


class Loader(Protocol):
    """Where other files come from."""

    def load(self, path: str) -> ir.Module | None:
        """The lowered file, or None if it cannot be read or parsed."""

    def sketch(self, path: str) -> ir.Sketch | None:
        """What its text shows without being parsed, or None if it cannot be read."""

    def find(self, dotted: str, from_path: str) -> str | None:
        """The project's file for an absolute dotted module name or a relative one (`.a`)."""

    def mentioned_elsewhere(self, name: str, path: str) -> bool:
        """Whether another file of the project mentions that name."""


class NoFiles:
    """A loader for a file that stands alone."""

    def load(self, path: str) -> ir.Module | None:
        """Nothing to load."""
        return None

    def sketch(self, path: str) -> ir.Sketch | None:
        """Nothing to look at."""
        return None

    def find(self, dotted: str, from_path: str) -> str | None:
        """Nothing to find."""
        return None

    def mentioned_elsewhere(self, name: str, path: str) -> bool:
        """There is no elsewhere."""
        return False


Binding = ir.Function | ir.Class | ir.Import | ir.Assign

_MAX_REEXPORTS = 12


@dataclass(eq=False)
class ModuleInfo:
    """One file: its top-level names, resolved on demand."""

    module: ir.Module
    project: Project
    bindings: dict[str, Binding] = field(default_factory=dict)
    stars: list[ir.Import] = field(default_factory=list)
    classes: dict[int, ClassInfo] = field(default_factory=dict)
    resolved: dict[str, Value | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for statement in _flatten(self.module.body):
            match statement:
                case ir.Function(name=name) | ir.Class(name=name):
                    self.bindings[name] = statement
                case ir.Import(name="*"):
                    self.stars.append(statement)
                case ir.Import(bound=bound):
                    self.bindings.setdefault(bound, statement)
                case ir.Assign(targets=targets):
                    for target in targets:
                        if isinstance(target, ir.Name):
                            self.bindings[target.id] = statement
                case _:
                    pass

    @property
    def path(self) -> str:
        """The file."""
        return self.module.path

    def class_info(self, node: ir.Class) -> ClassInfo:
        """The class for its statement."""
        info = self.classes.get(id(node))
        if info is None:
            info = self.classes[id(node)] = ClassInfo(node, self)
        return info

    def resolve(self, name: str, depth: int = 0) -> Value | None:
        """What a top-level name stands for; None if only running the file would tell."""
        if name in self.resolved:
            return self.resolved[name]
        self.resolved[name] = None  # a cycle of imports resolves to nothing
        found = self._resolve(name, depth)
        self.resolved[name] = found
        return found

    def _resolve(self, name: str, depth: int) -> Value | None:
        if depth > _MAX_REEXPORTS:
            return None
        binding = self.bindings.get(name)
        match binding:
            case ir.Function():
                return Func(binding, self)
            case ir.Class():
                return ClassValue(self.class_info(binding))
            case ir.Import():
                return self.project.imported(binding, self.path, depth)
            case ir.Assign(value=value):
                return self.static_value(value, depth)
            case None:
                for star in self.stars:
                    found = self._from_star(star, name, depth)
                    if found is not None:
                        return found
        return None

    def _from_star(self, star: ir.Import, name: str, depth: int) -> Value | None:
        path = self.project.find(star.module, self.path)
        if path is not None:
            other = self.project.starred(path, name)
            return other.resolve(name, depth + 1) if other is not None else None
        known = f"{star.module}.{name}"
        return External(LIBRARY.canonical(known)) if LIBRARY.knows(known) else None

    def static_value(self, value: ir.Expr, depth: int = 0) -> Value | None:
        """A constant or an alias of something imported."""
        match value:
            case ir.Literal(value=literal):
                return const(literal) if _hashable(literal) else None
            case ir.Name(id=name):
                return self.resolve(name, depth + 1)
            case ir.Attribute(value=inner, attr=attr):
                base = self.static_value(inner, depth + 1)
                return member(base, attr, self.project) if base is not None else None
            case ir.Sequence(kind=ir.SequenceKind.TUPLE, items=items):
                found = tuple(self.static_value(item, depth + 1) for item in items)
                known = tuple(item for item in found if item is not None)
                return TupleValue(known) if len(known) == len(found) else None
            case _:
                return None


def member(base: Value, attr: str, project: Project) -> Value | None:
    """An attribute of a library path or of a project's module."""
    match base:
        case External(path=path):
            return External(LIBRARY.canonical(f"{path}.{attr}"))
        case Package(path=path):
            info = project.module(path)
            found = info.resolve(attr) if info is not None else None
            if found is None:
                sub = project.find(f".{attr}", path)
                return Package(sub) if sub is not None else None
            return found
        case _:
            return None


def _hashable(value: object) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _flatten(block: ir.Block) -> Iterator[ir.Statement]:
    """Statements of a block and of the conditional blocks in it, not of definitions."""
    for statement in block:
        match statement:
            case ir.If(body=body, orelse=orelse):
                yield from _flatten(body)
                yield from _flatten(orelse)
            case ir.Try(body=body, handlers=handlers, orelse=orelse, final=final):
                # The body's binding wins over a fallback's.
                yield from _flatten(orelse)
                for handler in handlers:
                    yield from _flatten(handler.body)
                yield from _flatten(final)
                yield from _flatten(body)
            case ir.With(body=body):
                yield from _flatten(body)
            case _:
                yield statement


@dataclass(eq=False)
class ClassInfo:
    """A class of the project."""

    node: ir.Class
    module: ModuleInfo
    frame_scope: object = None
    methods: dict[str, ir.Function] = field(default_factory=dict)
    assigned: dict[str, ir.Expr] = field(default_factory=dict)
    _mro: tuple[ClassInfo, ...] | None = None
    _externals: frozenset[str] | None = None
    contents: tuple[bool, bool] | None = None
    """Whether it makes layers with modes and with weights, once somebody has looked."""
    called: dict[str, bool] = field(default_factory=dict)
    """Whether its methods call an attribute, so far as somebody has looked."""
    sensitive: Certainty | None = None
    """Whether its own code reads the mode, once somebody has looked."""

    def __post_init__(self) -> None:
        for statement in _flatten(self.node.body):
            if isinstance(statement, ir.Function):
                # A property's setter comes later and must not hide the getter.
                if not any(
                    isinstance(d, ir.Attribute) and d.attr in ("setter", "deleter")
                    for d in statement.decorators
                ):
                    self.methods[statement.name] = statement
            elif isinstance(statement, ir.Assign):
                for target in statement.targets:
                    if isinstance(target, ir.Name):
                        self.assigned[target.id] = statement.value

    @property
    def name(self) -> str:
        """The class's name."""
        return self.node.name

    def _look_at_bases(self) -> None:
        self._mro, self._externals = (self,), frozenset()  # for a class that derives from itself
        order: list[ClassInfo] = [self]
        externals: set[str] = set()
        for base in self.node.bases:
            value = self.module.static_value(base)
            if value is None and isinstance(base, ir.Call):
                value = self.module.static_value(base.func)
            match value:
                case ClassValue(info=info):
                    order.extend(c for c in info.mro if c not in order)
                    externals |= info.externals
                case External(path=path):
                    externals.add(path)
                case _:
                    externals.add(f"?{_spelled(base)}")
        self._mro, self._externals = tuple(order), frozenset(externals)

    def let_go(self) -> None:
        """Forget the bases, the first of which is the class itself."""
        self._mro = None

    @property
    def mro(self) -> tuple[ClassInfo, ...]:
        """The class and its bases in the project, nearest first."""
        if self._mro is None:
            self._look_at_bases()
        assert self._mro is not None
        return self._mro

    @property
    def externals(self) -> frozenset[str]:
        """Library bases; one that cannot be resolved starts with `?`."""
        if self._externals is None:
            self._look_at_bases()
        assert self._externals is not None
        return self._externals

    def method(self, name: str) -> Func | None:
        """A method, the nearest base's first."""
        for cls in self.mro:
            found = cls.methods.get(name)
            if found is not None:
                return Func(found, cls.module, None, cls)
        return None

    def method_after(self, owner: ClassInfo, name: str) -> Func | None:
        """What `super().name` finds from a method of `owner`."""
        order = self.mro
        start = order.index(owner) + 1 if owner in order else 1
        for cls in order[start:]:
            found = cls.methods.get(name)
            if found is not None:
                return Func(found, cls.module, None, cls)
        return None

    def class_attribute(self, name: str) -> tuple[ModuleInfo, ir.Expr] | None:
        """A class attribute's expression."""
        for cls in self.mro:
            if name in cls.assigned:
                return cls.module, cls.assigned[name]
        return None

    @property
    def is_module(self) -> bool:
        """It derives from torch.nn.Module, as far as its bases tell."""
        if any(LIBRARY.is_module_base(path) for path in self.externals):
            return True
        unknown = [p for p in self.externals if not LIBRARY.is_plain_base(p)]
        return bool(unknown) and "forward" in self.methods and "__getitem__" not in self.methods

    @property
    def is_lightning(self) -> bool:
        """A LightningModule: its hooks are called by the framework."""
        return any(LIBRARY.is_lightning_base(path) for path in self.externals)

    @property
    def has_own_parameters(self) -> bool:
        """Whether a module of the class may hold parameters that are no part's."""
        return self.has_unknown_base or any(c.node.words & OWN_PARAMETERS for c in self.mro)

    @property
    def has_unknown_base(self) -> bool:
        """A base outside the project whose methods are not known."""
        return any(
            not LIBRARY.is_plain_base(p) and not LIBRARY.is_module_base(p) for p in self.externals
        )


def _spelled(expr: ir.Expr) -> str:
    match expr:
        case ir.Name(id=name):
            return name
        case ir.Attribute(value=inner, attr=attr):
            return f"{_spelled(inner)}.{attr}"
        case ir.Call(func=func):
            return _spelled(func)
        case ir.Subscript(value=inner):
            return _spelled(inner)
        case _:
            return "?"


@dataclass(eq=False)
class Project:
    """All files that an analysis may look into; remembers which it did."""

    loader: Loader = field(default_factory=NoFiles)
    modules: dict[str, ModuleInfo | None] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    max_files: int = 400
    stars_left: int = 24
    """Files that may still be read only because everything is imported from them: the name may be
    in any of them, and a package that gathers all its parts has hundreds."""
    _search_paths: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def add(self, module: ir.Module) -> ModuleInfo:
        """Take a lowered file in."""
        info = ModuleInfo(module, self)
        self.modules[module.path] = info
        return info

    def let_go(self) -> None:
        """Forget all files: what is known of them knows them, and would keep their trees."""
        for info in self.modules.values():
            if info is not None:
                for cls in info.classes.values():
                    cls.let_go()
                info.classes.clear()
                info.resolved.clear()
        self.modules.clear()

    def module(self, path: str) -> ModuleInfo | None:
        """A file of the project, lowered when first asked for."""
        self.used.add(path)
        if path not in self.modules:
            if len(self.modules) >= self.max_files:
                return None
            self.modules[path] = None
            lowered = self.loader.load(path)
            if lowered is not None:
                self.add(lowered)
        return self.modules[path]

    def starred(self, path: str, name: str) -> ModuleInfo | None:
        """A file whose names another imports with `*`, if that one may be among them."""
        seen = self.loader.sketch(path)
        if seen is not None and not seen.may_export(name):
            return None
        if path not in self.modules:
            if self.stars_left == 0:
                return None
            self.stars_left -= 1
        return self.module(path)

    def find(self, dotted: str, from_path: str) -> str | None:
        """The project's file for a module name."""
        found = self.loader.find(dotted, from_path)
        if found is None and dotted[:1] != ".":
            for folder in self._added_paths(from_path):
                dot = "" if folder.endswith(".") else "."
                found = found or self.loader.find(f"{folder}{dot}{dotted}", from_path)
        return found

    def _added_paths(self, path: str) -> tuple[str, ...]:
        """What a file adds to `sys.path`, as far as it has been read."""
        if path not in self._search_paths:
            info = self.modules.get(path)
            if info is None:
                return ()
            self._search_paths[path] = added_paths(info.module)
        return self._search_paths[path]

    def imported(self, binding: ir.Import, from_path: str, depth: int = 0) -> Value | None:
        """What an import statement binds."""
        if binding.name is None:
            path = self.find(binding.module, from_path)
            if path is not None:
                return Package(path)
            return External(LIBRARY.canonical(binding.module))
        module = _absolute(binding.module, from_path)
        known = External(LIBRARY.canonical(f"{module}.{binding.name}"))
        if LIBRARY.call(known.path) is not None or LIBRARY.is_module_base(known.path):
            return known  # also inside the library's own repository
        path = self.find(binding.module, from_path)
        if path is None:
            if binding.module.startswith("."):
                return External(f"?{binding.module}.{binding.name}")
            return External(LIBRARY.canonical(f"{binding.module}.{binding.name}"))
        seen = None if path in self.modules else self.loader.sketch(path)
        info = self.module(path) if seen is None or seen.may_give(binding.name) else None
        found = info.resolve(binding.name, depth + 1) if info is not None else None
        if found is not None:
            return found
        separator = "" if binding.module.endswith(".") else "."
        sub = self.find(f"{binding.module}{separator}{binding.name}", from_path)
        return Package(sub) if sub is not None else None


def _absolute(module: str, from_path: str) -> str:
    """A relative import inside a known library by the name that users import it under."""
    below = module.lstrip(".")
    if below == module:
        return module
    folders = PurePath(from_path).parts[: len(below) - len(module)]
    for i in reversed(range(len(folders))):
        if folders[i] in LIBRARY.packages:
            return ".".join((*folders[i:], below)).rstrip(".")
    return module


LoadFunction = Callable[[str], ir.Module | None]
