"""The IR as text: source-like, with what lowering decides made visible.

Expressions look like Python; a literal is `repr`, so that `'a'` is a constant and `a` a name.
"""

from __future__ import annotations

from collections.abc import Iterator

from trainlint.flow import ir

_OPEN = {
    ir.SequenceKind.TUPLE: "({})",
    ir.SequenceKind.LIST: "[{}]",
    ir.SequenceKind.SET: "{{{}}}",
    ir.SequenceKind.SLICE: "slice({})",
    ir.SequenceKind.TEXT: "text({})",
}


def dump(module: ir.Module) -> str:
    """The whole module."""
    return "\n".join(_block(module.body, ""))


def expression(node: ir.Expr | None) -> str:
    """One expression."""
    match node:
        case None:
            return "-"
        case ir.Name():
            return node.id
        case ir.Literal():
            return repr(node.value)
        case ir.Attribute():
            return f"{expression(node.value)}.{node.attr}"
        case ir.Subscript():
            return f"{expression(node.value)}[{expression(node.index)}]"
        case ir.Call():
            return f"{expression(node.func)}({', '.join(map(_argument, node.args))})"
        case ir.Compare() | ir.BinOp():
            return f"({expression(node.left)} {node.op} {expression(node.right)})"
        case ir.BoolOp():
            return f"({f' {node.op} '.join(map(expression, node.values))})"
        case ir.UnaryOp():
            return f"({node.op} {expression(node.value)})"
        case ir.IfExp():
            parts = (node.test, node.body, node.orelse)
            return "({} ? {} : {})".format(*map(expression, parts))
        case ir.Sequence():
            return _OPEN[node.kind].format(", ".join(map(expression, node.items)))
        case ir.Starred():
            return f"*{expression(node.value)}"
        case ir.Mapping():
            items = [f"{expression(key)}: {expression(value)}" for key, value in node.items]
            return "{" + ", ".join(items) + "}"
        case ir.Comprehension():
            key = "" if node.key is None else f"{expression(node.key)}: "
            clauses = "".join(map(_clause, node.generators))
            return f"{node.kind.value}({key}{expression(node.element)}{clauses})"
        case ir.Lambda():
            (jump,) = node.function.body
            return f"lambda({_parameters(node.function)}: {expression(jump.value)})"
        case ir.Walrus():
            return f"({node.target.id} := {expression(node.value)})"
        case ir.Await():
            return f"await {expression(node.value)}"
        case ir.Yield():
            return f"yield{' from' if node.is_from else ''} {expression(node.value)}"
    raise AssertionError(node)


def _argument(node: ir.Argument) -> str:
    name = "" if node.name is None else f"{node.name}="
    return f"{name}{'*' * node.star}{expression(node.value)}"


def _clause(node: ir.Generator) -> str:
    conditions = "".join(f" if {expression(each)}" for each in node.conditions)
    return f" for {expression(node.target)} in {expression(node.iter)}{conditions}"


def _parameters(function: ir.Function) -> str:
    return ", ".join(map(_parameter, function.parameters))


def _parameter(node: ir.Parameter) -> str:
    annotation = "" if node.annotation is None else f": {expression(node.annotation)}"
    default = "" if node.default is None else f" = {expression(node.default)}"
    kind = "" if node.kind is ir.ParameterKind.POSITIONAL else f" <{node.kind.value}>"
    return f"{node.name}{annotation}{default}{kind}"


def _block(body: ir.Block, indent: str) -> Iterator[str]:
    for statement in body:
        for line in _statement(statement):
            yield indent + line


def _suite(header: str, body: ir.Block, orelse: ir.Block = ()) -> Iterator[str]:
    yield header + ":"
    yield from _block(body, "  ")
    if orelse:
        yield "else:"
        yield from _block(orelse, "  ")


def _statement(node: ir.Statement) -> Iterator[str]:
    match node:
        case ir.Expression():
            displayed = "  # displayed" if node.last_in_cell else ""
            yield expression(node.value) + displayed + "  # before def" * node.before_definition
        case ir.Assign():
            yield f"{' = '.join(map(expression, (*node.targets, node.value)))}"
        case ir.AugAssign():
            yield f"{expression(node.target)} {node.op}= {expression(node.value)}"
        case ir.Delete():
            yield f"del {', '.join(map(expression, node.targets))}"
        case ir.If():
            yield from _suite(f"if {expression(node.test)}", node.body, node.orelse)
        case ir.For():
            header = f"for {expression(node.target)} in {expression(node.iter)}"
            yield from _suite(header, node.body, node.orelse)
        case ir.While():
            yield from _suite(f"while {expression(node.test)}", node.body, node.orelse)
        case ir.With():
            target = "" if node.target is None else f" as {expression(node.target)}"
            yield from _suite(f"with {expression(node.context)}{target}", node.body)
        case ir.Try():
            yield from _try(node)
        case ir.Jump():
            value = "" if node.value is None else f" {expression(node.value)}"
            yield node.kind.value + value
        case ir.Import():
            also = f" also {node.also}" if node.also else ""
            yield f"import {node.bound} = {node.module!r} {node.name}{also}"
        case ir.Scope():
            yield f"{'global' if node.is_global else 'nonlocal'} {', '.join(node.names)}"
        case ir.Function():
            yield from _definition(node)
        case ir.Class():
            yield from (f"@{expression(each)}" for each in node.decorators)
            bases = ", ".join(map(expression, node.bases))
            yield from _suite(f"class {node.name}({bases})", node.body)


def _try(node: ir.Try) -> Iterator[str]:
    yield from _suite("try", node.body)
    for handler in node.handlers:
        name = f" as {handler.name}" if handler.name else ""
        yield from _suite(f"except {expression(handler.type)}{name}", handler.body)
    if node.orelse:
        yield from _suite("else", node.orelse)
    if node.final:
        yield from _suite("finally", node.final)


def _definition(node: ir.Function) -> Iterator[str]:
    yield from (f"@{expression(each)}" for each in node.decorators)
    kind = "async " * node.is_async + "generator " * node.is_generator
    yield from _suite(f"{kind}def {node.name}({_parameters(node)})", node.body)
