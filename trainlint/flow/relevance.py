"""Which functions can matter: those that reach an event of training, by the names they mention.

A function that is skipped is taken to compute its result from its arguments and to leave them
alone.
"""

from __future__ import annotations

import builtins
from collections.abc import Mapping

from trainlint.flow import ir
from trainlint.flow.naming import MODEL_NAME
from trainlint.flow.project import ModuleInfo
from trainlint.flow.values import Func
from trainlint.flow.walk import calls_in, nodes_of
from trainlint.libraries import LIBRARY
from trainlint.libraries.words import DOMAIN

BUILTINS = frozenset(dir(builtins))


class Relevance:
    """Answers for functions, remembering the answers."""

    def __init__(self) -> None:
        self._known: dict[int, bool] = {}
        self._closing: dict[int, bool] = {}
        self._names: dict[str, frozenset[str]] = {}
        self._methods: dict[str, frozenset[str]] = {}

    def defines_functions(self, function: ir.Function) -> bool:
        """Whether a closure over the function's variables may outlive its call."""
        known = self._closing.get(id(function))
        if known is None:
            known = self._closing[id(function)] = any(
                isinstance(node, ir.Function | ir.Lambda | ir.Class) for node in nodes_of(function)
            )
        return known

    def matters(self, function: ir.Function, module: ModuleInfo) -> bool:
        """Whether running the function could change or show anything."""
        known = self._known.get(id(function))
        if known is None:
            methods = self._method_names(module)
            known = bool(function.words & DOMAIN) or _calls_unknown(function, module, methods)
            known = known or bool(function.words & self._relevant_names(module))
            self._known[id(function)] = known
        return known

    def _method_names(self, module: ModuleInfo) -> frozenset[str]:
        """The names of the methods of the file's classes."""
        found = self._methods.get(module.path)
        if found is None:
            classes = [b for b in module.bindings.values() if isinstance(b, ir.Class)]
            found = frozenset(f.name for c in classes for f in c.body if isinstance(f, ir.Function))
            self._methods[module.path] = found
        return found

    def _relevant_names(self, module: ModuleInfo) -> frozenset[str]:
        """Names of the file's functions and classes that matter, and all it imports."""
        found = self._names.get(module.path)
        if found is not None:
            return found
        names: set[str] = set()
        pending: dict[str, frozenset[str]] = {}
        for name, binding in module.bindings.items():
            match binding:
                case ir.Function(words=words) | ir.Class(words=words):
                    _mention(pending, {name: words})
                    _mention(pending, _methods(binding))
                case ir.Import():
                    path = module.project.find(binding.module, module.path)
                    if path is not None:
                        names.add(name)
                        seen = module.project.loader.sketch(path)
                        _mention(pending, seen.methods if seen is not None else {})
                        continue
                    whole = f"{binding.module}.{binding.name or ''}".rstrip(".")
                    # `import torch.nn as layers` is `nn`, whatever it is called here.
                    if whole.rsplit(".", 1)[-1] in DOMAIN or LIBRARY.matters(whole):
                        names.add(name)
                case _:
                    pass
        for name, words in list(pending.items()):
            if words & DOMAIN:
                names.add(name)
                del pending[name]
        grown = True
        while grown:
            grown = False
            for name, words in list(pending.items()):
                if words & names:
                    names.add(name)
                    del pending[name]
                    grown = True
        found = self._names[module.path] = frozenset(names)
        return found


def reads_variables(func: Func) -> bool:
    """Whether it computes with more than it is given: with variables of the file or around it."""
    bindings = func.module.bindings
    free = (func.function.words - func.function.locals) & bindings.keys()
    known = (ir.Import, ir.Function, ir.Class)
    return func.frame is not None or any(not isinstance(bindings[n], known) for n in free)


def only_looks_up(function: ir.Function) -> bool:
    """`return self._net`: what it gives is what matters, whatever it is called."""
    last = function.body[-1] if 0 < len(function.body) <= 2 else None
    if not isinstance(last, ir.Jump) or last.kind is not ir.JumpKind.RETURN:
        return False
    documented = len(function.body) == 1 or (
        isinstance(function.body[0], ir.Expression)
        and isinstance(function.body[0].value, ir.Literal)
    )
    value = last.value
    while isinstance(value, ir.Attribute):
        value = value.value
    return documented and isinstance(value, ir.Name)


def _mention(known: dict[str, frozenset[str]], words: Mapping[str, frozenset[str]]) -> None:
    """Two methods of one name matter if either does."""
    for name, more in words.items():
        known[name] = known.get(name, frozenset()) | more


def _methods(binding: object) -> dict[str, frozenset[str]]:
    """What the methods of a class mention: `self.validate()` matters if `validate` does."""
    if not isinstance(binding, ir.Class):
        return {}
    return {f.name: f.words for f in binding.body if isinstance(f, ir.Function)}


def _calls_unknown(function: ir.Function, module: ModuleInfo, methods: frozenset[str]) -> bool:
    """Whether it calls what may be a model or a callback.

    That is what it was given, what a function around it was given (a decorator's wrapper calls
    the decorated), what it looks up (`getattr(callback, event)(self)`, `hooks[name]()`) and what
    is named like a network.
    """
    parameters = {p.name for p in function.parameters} - {"self", "cls"}
    known = (function.locals - parameters) | module.bindings.keys() | BUILTINS
    called = [call.func for call in calls_in(function.body)]
    names = {func.id for func in called if isinstance(func, ir.Name)}
    return (
        any(name in parameters or name not in known for name in names)
        or any(isinstance(func, ir.Call | ir.Subscript) for func in called)
        or any(MODEL_NAME.search(name) for name in names)
        or any(_is_own_part(func, methods) for func in called)
    )


def _is_own_part(func: object, methods: frozenset[str]) -> bool:
    """`self.facenet`, called: what an attribute holds, and no method of these classes.

    So is `self.nets["coarse"]`: one of the several that an attribute holds.
    """
    if isinstance(func, ir.Subscript):
        return True
    return (
        isinstance(func, ir.Attribute)
        and isinstance(func.value, ir.Name)
        and func.value.id == "self"
        and func.attr not in methods
    )
