"""Whether a module class's own code, apart from its parts, behaves differently in the two modes."""

from __future__ import annotations

from collections.abc import Iterator

from trainlint.core.facts import Certainty
from trainlint.flow import ir
from trainlint.flow.layers import called_from
from trainlint.flow.project import ClassInfo
from trainlint.flow.reading import Scope, all_methods, attribute_of, receiver_of
from trainlint.flow.values import External
from trainlint.flow.walk import nodes_of
from trainlint.libraries import LIBRARY
from trainlint.libraries import spec as sp

_SWITCHES = frozenset({"train", "eval"})


def own_sensitivity(info: ClassInfo) -> Certainty:
    """YES if `forward` reads `self.training`; NO only if nothing in the class is unknown."""
    if info.sensitive is None:
        info.sensitive = _sensitivity(info)
    return info.sensitive


def _sensitivity(info: ClassInfo) -> Certainty:
    methods = {function.name: function for _, function in all_methods(info)}
    readers = {name for name, function in methods.items() if _reads_mode(function)}
    if readers & (called_from("forward", methods) or set(methods)):
        return Certainty.YES
    bases = {_of_base(path) for path in info.externals}
    if Certainty.YES in bases:
        return Certainty.YES
    if readers or Certainty.UNKNOWN in bases or any(_opaque_parts(info)):
        return Certainty.UNKNOWN
    return Certainty.NO


def _reads_mode(function: ir.Function) -> bool:
    """Whether a method looks at `self.training`, other than to restore it."""
    if function.name in _SWITCHES or "training" not in function.words:
        return False
    receiver = receiver_of(function)
    if any(
        isinstance(node, ir.Call) and attribute_of(node.func, receiver) in _SWITCHES
        for node in nodes_of(function)
    ):
        return False
    written = {
        id(target)
        for node in nodes_of(function)
        if isinstance(node, ir.Assign)
        for target in node.targets
    }
    return any(
        isinstance(node, ir.Attribute) and node.attr == "training" and id(node) not in written
        for node in nodes_of(function)
    )


def _of_base(path: str) -> Certainty:
    spec = LIBRARY.call(path)
    if isinstance(spec, sp.Layer):
        # The arguments that decide are not known here.
        return Certainty.UNKNOWN if spec.sensitive else Certainty.NO
    known = LIBRARY.is_plain_base(path) or path in _BARE_MODULES
    return Certainty.NO if known else Certainty.UNKNOWN


_BARE_MODULES = frozenset({"torch.nn.Module", "torch.nn.modules.module.Module"})


def _opaque_parts(info: ClassInfo) -> Iterator[str]:
    """Attributes that are called like modules and come from somewhere unknown."""
    called = {
        attribute_of(node.func, receiver_of(function))
        for _, function in all_methods(info)
        for node in nodes_of(function)
        if isinstance(node, ir.Call)
    }
    for cls in info.mro:
        function = cls.methods.get("__init__")
        if function is None:
            continue
        receiver, scope = receiver_of(function), Scope(cls.module, function)
        for node in nodes_of(function):
            if isinstance(node, ir.Assign) and isinstance(node.value, ir.Call):
                for target in node.targets:
                    name = attribute_of(target, receiver)
                    if name in called and name and _is_opaque(node.value, scope):
                        yield name


def _is_opaque(call: ir.Call, scope: Scope) -> bool:
    """A call into a library of which the tables say nothing."""
    match scope.value(call.func):
        case External(path=path):
            return not (
                LIBRARY.knows(path) or LIBRARY.is_harmless(path) or path.startswith("torch.")
            )
        case _:
            return False
