"""Which functions reach the protocol of training, so that running them alone can show anything.

A function is run on its own account only if it begins, ends or breaks a step of training, or calls
what does, by the names that it mentions. What other files define is judged by their text, of which
one file further is looked at: whatever a third one trains with is seen where that is checked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Set
from itertools import chain

from trainlint.core.late import pattern
from trainlint.flow import ir
from trainlint.flow.project import ModuleInfo, Project
from trainlint.flow.reading import mentioned
from trainlint.flow.relevance import BUILTINS
from trainlint.flow.walk import calls_in, statements_of
from trainlint.libraries import LIBRARY
from trainlint.libraries.words import PROTOCOL, STEPS

_MAX_REEXPORTS = 4

IMPLICIT = frozenset(
    """__init__ __post_init__ __call__ __enter__ __exit__ __iter__ __next__ __getattr__ forward
    """.split()
)
"""Methods that run where only the class or its instance is named."""

_CONTAINERS = frozenset(name for kind in (dict, list, set, str) for name in dir(kind)) - {"update"}
"""Methods of builtin containers: whoever calls `get` means a dict's. An agent has its `update`."""
_LOOK_UPS = frozenset({"attrgetter", "getattr", "methodcaller"})
"""Who uses these may mention a name in a string, which is not among a function's words."""
_KNOWN = _CONTAINERS | {"from_pretrained", "from_config", "forward"}
"""Methods whose names tell nothing: loading a model begins no training, nor does its forward."""


_KEEPS = pattern(r"\.\w+[^=(\n]{0,200}=(?!=)|^[ \t]*[)\]][^=(\n]*=(?!=)", re.MULTILINE)
"""The text of an assignment to an attribute, and some other code; bounded, for endless lines."""


class Reach:
    """Answers for functions, remembering the answers."""

    def __init__(self) -> None:
        self._known: dict[int, bool] = {}
        self._names: dict[str, frozenset[str]] = {}
        self._stars: dict[str, bool] = {}

    def matters(self, function: ir.Function, module: ModuleInfo) -> bool:
        """Whether the function takes part in training or may call what does."""
        known = self._known.get(id(function))
        if known is None:
            known = not (
                function.words.isdisjoint(PROTOCOL)
                and function.words.isdisjoint(self._names_of(module))
            ) or self._may_call_starred(function, module)
            self._known[id(function)] = known
        return known

    def _names_of(self, module: ModuleInfo) -> frozenset[str]:
        """The names that a file's functions reach training through."""
        found = self._names.get(module.path)
        if found is None:
            names = _Names(module.project)
            for name, binding in module.bindings.items():
                names.bind(name, binding, module.path)
            found = self._names[module.path] = names.closed()
        return found

    def _may_call_starred(self, function: ir.Function, module: ModuleInfo) -> bool:
        """Whether it calls a name that may come with `import *` from a file that trains."""
        if not self._has_star_that_trains(module):
            return False
        known = function.locals | module.bindings.keys() | BUILTINS
        called = (call.func for call in calls_in(function.body))
        return any(isinstance(func, ir.Name) and func.id not in known for func in called)

    def _has_star_that_trains(self, module: ModuleInfo) -> bool:
        found = self._stars.get(module.path)
        if found is None:
            paths = (module.project.find(star.module, module.path) for star in module.stars)
            found = any(path is not None and _trains(path, module.project) for path in paths)
            self._stars[module.path] = found
        return found


class _Names:
    """Names of one file with what their definitions mention."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._reaching: set[str] = set()
        self._mentions: dict[str, frozenset[str]] = {}
        self._methods: list[ir.Function] = []
        """Those that may keep in an attribute what reaches training, if they mention it."""
        self._files: set[str] = set()

    def bind(
        self, name: str, binding: ir.Function | ir.Class | ir.Import | ir.Assign, path: str
    ) -> None:
        """Take in a name of the file itself."""
        match binding:
            case ir.Function(words=words):
                self._add(name, words)
            case ir.Class():
                self._class(name, binding)
            case ir.Import(module=module, name=imported):
                self._import(name, module, imported, path, 0)
            case ir.Assign(value=value):
                self._add(name, mentioned(value))

    def closed(self) -> frozenset[str]:
        """All names that reach training."""
        pending = dict(self._mentions)
        waiting = self._methods
        reaching = self._reaching | STEPS
        fresh: Set[str] = reaching
        while fresh:
            found = {name for name, words in pending.items() if not words.isdisjoint(fresh)}
            telling = [method for method in waiting if not method.words.isdisjoint(fresh)]
            waiting = [method for method in waiting if method.words.isdisjoint(fresh)]
            for attribute, words in chain.from_iterable(map(_kept, telling)):
                if words.isdisjoint(reaching):
                    pending[attribute] = pending.get(attribute, frozenset()).union(words)
                else:
                    found.add(attribute)
            fresh = found - reaching
            reaching |= fresh
            self._reaching |= found
            for name in found:
                pending.pop(name, None)
        return frozenset(self._reaching)

    def _add(self, name: str, words: Iterable[str]) -> None:
        """Two methods of one name mention what either does."""
        self._mentions[name] = self._mentions.get(name, frozenset()).union(words)

    def _method(self, name: str, words: Iterable[str]) -> None:
        """A method that is called by name; every class has an `__init__`."""
        if name not in _KNOWN:
            self._add(name, words)

    def _class(self, name: str, cls: ir.Class) -> None:
        for base in cls.bases:
            self._add(name, mentioned(base) & STEPS)
        for function in cls.body:
            if not isinstance(function, ir.Function):
                continue
            self._method(function.name, function.words)
            if function.name in IMPLICIT:
                self._add(name, function.words)
            if function.words.isdisjoint(_LOOK_UPS):
                self._methods.append(function)
            else:
                for attribute, words in _kept(function):
                    self._add(attribute, words)

    def _import(self, name: str, module: str, imported: str | None, path: str, depth: int) -> None:
        found = self._project.find(module, path)
        if found is None:
            if LIBRARY.trains(f"{module}.{imported or ''}".rstrip(".")):
                self._reaching.add(name)
        elif self._given(name, imported, found, depth):
            self._reaching.add(name)

    def _given(self, name: str, imported: str | None, path: str, depth: int) -> bool:
        """Whether what a file gives surely counts; else its text has been taken in."""
        if imported is None:
            return self._whole(path)
        seen = self._project.loader.sketch(path)
        if seen is None:
            return True
        if imported in seen.definitions:
            self._add(name, seen.definitions[imported])
            self._take_in(path, seen)
            return False
        again = seen.imports.get(imported)
        if again is not None and depth < _MAX_REEXPORTS:
            self._import(name, *again, path, depth + 1)
            return False
        part = self._project.find(f".{imported}", path)
        return self._whole(part) if part is not None else _trains(path, self._project)

    def _whole(self, path: str) -> bool:
        """Whether a file surely counts that is looked into by name; else it has been taken in."""
        seen = self._project.loader.sketch(path)
        if seen is None or seen.has_star:
            return True
        self._take_in(path, seen)
        return False

    def _take_in(self, path: str, seen: ir.Sketch) -> None:
        if path not in self._files:
            self._files.add(path)
            for name, words in seen.methods.items():
                self._method(name, words)
            for name, words in seen.definitions.items():
                self._add(name, words)


def _kept(method: ir.Function) -> Iterator[tuple[str, set[str]]]:
    """The attributes that a method assigns, with what the values mention."""
    if not method.may_show(_KEEPS):
        return
    for node in statements_of(method.body):
        if isinstance(node, ir.Assign):
            for target in node.targets:
                if isinstance(target, ir.Attribute):
                    yield target.attr, mentioned(node.value)


def _trains(path: str, project: Project) -> bool:
    """Whether a file mentions training at all."""
    seen = project.loader.sketch(path)
    return seen is None or seen.has_star or not seen.words.isdisjoint(STEPS)
