"""libcst expressions to the IR: a typed walk, one small method for each kind of node.

Whitespace and punctuation are never looked at, and no libcst visitor is used: those rebuild every
node that they pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import libcst as cst

from trainlint.flow import ir
from trainlint.syntax import literals
from trainlint.syntax.spans import Tree

_CONSTANTS: dict[str, object] = {"True": True, "False": False, "None": None}

_OPERATORS: dict[type[cst.CSTNode], str] = {
    cst.Add: "+",
    cst.Subtract: "-",
    cst.Multiply: "*",
    cst.Divide: "/",
    cst.FloorDivide: "//",
    cst.Modulo: "%",
    cst.Power: "**",
    cst.LeftShift: "<<",
    cst.RightShift: ">>",
    cst.BitOr: "|",
    cst.BitAnd: "&",
    cst.BitXor: "^",
    cst.MatrixMultiply: "@",
    cst.AddAssign: "+",
    cst.SubtractAssign: "-",
    cst.MultiplyAssign: "*",
    cst.DivideAssign: "/",
    cst.FloorDivideAssign: "//",
    cst.ModuloAssign: "%",
    cst.PowerAssign: "**",
    cst.LeftShiftAssign: "<<",
    cst.RightShiftAssign: ">>",
    cst.BitOrAssign: "|",
    cst.BitAndAssign: "&",
    cst.BitXorAssign: "^",
    cst.MatrixMultiplyAssign: "@",
    cst.LessThan: "<",
    cst.GreaterThan: ">",
    cst.Equal: "==",
    cst.LessThanEqual: "<=",
    cst.GreaterThanEqual: ">=",
    cst.NotEqual: "!=",
    cst.In: "in",
    cst.NotIn: "not in",
    cst.Is: "is",
    cst.IsNot: "is not",
    cst.And: "and",
    cst.Or: "or",
    cst.Not: "not",
    cst.Minus: "-",
    cst.Plus: "+",
    cst.BitInvert: "~",
}


_INTERPOLATIONS = (
    cst.FormattedStringExpression,
    getattr(cst, "TemplatedStringExpression", cst.FormattedStringExpression),  # libcst 1.8.3
)


class Scope:
    """What is learnt about a function while its body is lowered."""

    __slots__ = ("bound", "elsewhere", "is_generator")

    def __init__(self) -> None:
        self.bound: set[str] = set()
        self.elsewhere: set[str] = set()
        """Names declared global or nonlocal."""
        self.is_generator = False

    @property
    def locals(self) -> frozenset[str]:
        """The names that are the function's own."""
        return frozenset(self.bound - self.elsewhere)


class _Handlers(dict[type[cst.CSTNode], Callable[[Any, Any], ir.Expr]]):
    """A dict, so that finding a node's method costs no call; unknown kinds are constants."""

    def __missing__(self, kind: type[cst.CSTNode]) -> Callable[[Any, Any], ir.Expr]:
        return ExpressionLowering._unknown


_HANDLERS = _Handlers()
_Method = TypeVar("_Method", bound=Callable[[Any, Any], ir.Expr])


def _lowers(*kinds: str) -> Callable[[_Method], _Method]:
    """Register the method that lowers these kinds of node, so far as this libcst has them."""

    def register(method: _Method) -> _Method:
        for kind in kinds:
            if hasattr(cst, kind):
                _HANDLERS[getattr(cst, kind)] = method
        return method

    return register


class ExpressionLowering:
    """Lowers expressions, numbering nodes and collecting names on the way.

    `words` and `scope` belong to the innermost definition; whoever enters a definition replaces
    them, and merges the words into the outer ones on the way out.
    """

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.nodes = tree.nodes
        self.before = tree.first - 1
        """The number before that of the first node."""
        self.words: set[str] = set()
        self.scope = Scope()

    def expr(self, node: cst.CSTNode) -> ir.Expr:
        """The IR of an expression; a kind of node that is not known here is a constant."""
        return _HANDLERS[type(node)](self, node)

    def number(self, node: cst.CSTNode) -> int:
        """The index by which the IR refers to `node`."""
        self.nodes.append(node)
        return self.before + len(self.nodes)

    def hidden(self, purpose: str, index: int) -> str:
        """A variable of the lowered program that cannot clash with one of the source."""
        name = f"${purpose}{index}"
        self.scope.bound.add(name)
        return name

    def bind(self, target: ir.Expr) -> None:
        """Note the names that an assignment to `target` binds."""
        if isinstance(target, ir.Name):
            self.scope.bound.add(target.id)
        elif isinstance(target, ir.Sequence):
            for item in target.items:
                self.bind(item)
        elif isinstance(target, ir.Starred):
            self.bind(target.value)

    def target(self, node: cst.CSTNode) -> ir.Expr:
        """The IR of something assigned to."""
        target = self.expr(node)
        self.bind(target)
        return target

    # --- names and constants ---

    def _unknown(self, node: cst.CSTNode) -> ir.Expr:
        return ir.Literal(None, self.number(node))

    @_lowers("Name")
    def _name(self, node: cst.Name) -> ir.Expr:
        nodes = self.nodes
        value = node.value
        nodes.append(node)
        if value in _CONSTANTS:
            return ir.Literal(_CONSTANTS[value], self.before + len(nodes))
        self.words.add(value)
        return ir.Name(value, self.before + len(nodes))

    @_lowers("Ellipsis")
    def _ellipsis(self, node: cst.Ellipsis) -> ir.Expr:
        return ir.Literal(..., self.number(node))

    @_lowers("Integer", "Float", "Imaginary")
    def _numeral(self, node: cst.Integer | cst.Float | cst.Imaginary) -> ir.Expr:
        return ir.Literal(literals.number(node), self.number(node))

    @_lowers("SimpleString")
    def _string(self, node: cst.SimpleString) -> ir.Expr:
        return ir.Literal(literals.string(node), self.number(node))

    @_lowers("FormattedString", "TemplatedString")
    def _formatted(self, node: cst.FormattedString | cst.TemplatedString) -> ir.Expr:
        index = self.number(node)
        items = tuple([self.expr(part) for part in _interpolations(node.parts)])
        if items or not isinstance(node, cst.FormattedString):
            return ir.Sequence(ir.SequenceKind.TEXT, items, index)
        return ir.Literal(literals.text(node), index)

    @_lowers("ConcatenatedString")
    def _concatenated(self, node: cst.ConcatenatedString) -> ir.Expr:
        index = self.number(node)
        parts = [self.expr(part) for part in _concatenation(node)]
        values = [part.value for part in parts if isinstance(part, ir.Literal)]
        if len(values) == len(parts):
            return ir.Literal(literals.joined(values), index)
        items = [item for part in parts if isinstance(part, ir.Sequence) for item in part.items]
        return ir.Sequence(ir.SequenceKind.TEXT, tuple(items), index)

    # --- parts and calls ---

    @_lowers("Attribute")
    def _attribute(self, node: cst.Attribute) -> ir.Expr:
        nodes = self.nodes
        nodes.append(node)
        index = self.before + len(nodes)
        attr = node.attr.value
        self.words.add(attr)
        value = node.value
        return ir.Attribute(_HANDLERS[type(value)](self, value), attr, index)

    @_lowers("Subscript")
    def _subscript(self, node: cst.Subscript) -> ir.Expr:
        index = self.number(node)
        value = self.expr(node.value)
        keys = [self._index(element.slice) for element in node.slice]
        if len(keys) == 1 and not isinstance(keys[0], ir.Starred):
            return ir.Subscript(value, keys[0], index)
        return ir.Subscript(value, ir.Sequence(ir.SequenceKind.TUPLE, tuple(keys)), index)

    def _index(self, node: cst.BaseSlice) -> ir.Expr:
        if isinstance(node, cst.Index):
            value = self.expr(node.value)
            return ir.Starred(value) if node.star else value
        if isinstance(node, cst.Slice):
            bounds = [node.lower, node.upper, *(() if node.step is None else (node.step,))]
            items = [ir.Literal(None) if bound is None else self.expr(bound) for bound in bounds]
            return ir.Sequence(ir.SequenceKind.SLICE, tuple(items), self.number(node))
        return self._unknown(node)

    @_lowers("Call")
    def _call(self, node: cst.Call) -> ir.Expr:
        nodes = self.nodes
        nodes.append(node)
        index = self.before + len(nodes)
        func = node.func
        lowered = _HANDLERS[type(func)](self, func)
        return ir.Call(lowered, self.arguments(node.args) if node.args else (), index)

    def arguments(self, args: Iterable[cst.Arg]) -> tuple[ir.Argument, ...]:
        """The arguments of a call, or the bases of a class."""
        return tuple(
            [
                ir.Argument(
                    _HANDLERS[type(arg.value)](self, arg.value),
                    None if arg.keyword is None else arg.keyword.value,
                    len(arg.star),
                )
                for arg in args
            ]
        )

    # --- operators ---

    @_lowers("Comparison")
    def _comparison(self, node: cst.Comparison) -> ir.Expr:
        index = self.number(node)
        left = self.expr(node.left)
        if len(node.comparisons) == 1:
            only = node.comparisons[0]
            return ir.Compare(left, operator(only.operator), self.expr(only.comparator), index)
        pairs: list[ir.Expr] = []
        for comparison in node.comparisons:
            right = self.expr(comparison.comparator)
            again = right
            if comparison is not node.comparisons[-1]:
                right, again = self._shared(right)
            pairs.append(ir.Compare(left, operator(comparison.operator), right, index))
            left = again
        return ir.BoolOp("and", tuple(pairs), index)

    def _shared(self, value: ir.Expr) -> tuple[ir.Expr, ir.Expr]:
        """`value` to evaluate, and what to read afterwards so as not to evaluate it again."""
        if isinstance(value, ir.Name | ir.Literal):
            return value, value
        name = self.hidden("middle", value.node)
        return ir.Walrus(ir.Name(name), value, value.node), ir.Name(name, value.node)

    @_lowers("UnaryOperation")
    def _unary(self, node: cst.UnaryOperation) -> ir.Expr:
        index = self.number(node)
        return ir.UnaryOp(operator(node.operator), self.expr(node.expression), index)

    @_lowers("BinaryOperation")
    def _binary(self, node: cst.BinaryOperation) -> ir.Expr:
        spine = [node]
        while isinstance(spine[-1].left, cst.BinaryOperation):
            spine.append(spine[-1].left)
        indexes = [self.number(operation) for operation in spine]
        lowered = self.expr(spine[-1].left)
        for operation, index in zip(reversed(spine), reversed(indexes), strict=True):
            right = self.expr(operation.right)
            lowered = ir.BinOp(lowered, operator(operation.operator), right, index)
        return lowered

    @_lowers("BooleanOperation")
    def _boolean(self, node: cst.BooleanOperation) -> ir.Expr:
        index = self.number(node)
        kind = type(node.operator)
        operands: list[cst.BaseExpression] = []
        waiting: list[cst.BaseExpression] = [node]
        while waiting:
            part = waiting.pop()
            if isinstance(part, cst.BooleanOperation) and type(part.operator) is kind:
                waiting += (part.right, part.left)
            else:
                operands.append(part)
        values = tuple([self.expr(operand) for operand in operands])
        return ir.BoolOp(operator(node.operator), values, index)

    @_lowers("IfExp")
    def _conditional(self, node: cst.IfExp) -> ir.Expr:
        index = self.number(node)
        test = self.expr(node.test)
        return ir.IfExp(test, self.expr(node.body), self.expr(node.orelse), index)

    @_lowers("NamedExpr")
    def _walrus(self, node: cst.NamedExpr) -> ir.Expr:
        index = self.number(node)
        value = self.expr(node.value)
        target = self.target(node.target)
        if isinstance(target, ir.Name):
            return ir.Walrus(target, value, index)
        return value

    @_lowers("Await")
    def _awaited(self, node: cst.Await) -> ir.Expr:
        index = self.number(node)
        return ir.Await(self.expr(node.expression), index)

    @_lowers("Yield")
    def _yielded(self, node: cst.Yield) -> ir.Expr:
        index = self.number(node)
        self.scope.is_generator = True
        value = node.value
        if value is None:
            return ir.Yield(None, False, index)
        if isinstance(value, cst.From):
            return ir.Yield(self.expr(value.item), True, index)
        return ir.Yield(self.expr(value), False, index)

    # --- displays and comprehensions ---

    @_lowers("Tuple")
    def _tuple_display(self, node: cst.Tuple) -> ir.Expr:
        return self._display(node, ir.SequenceKind.TUPLE)

    @_lowers("List")
    def _list_display(self, node: cst.List) -> ir.Expr:
        return self._display(node, ir.SequenceKind.LIST)

    @_lowers("Set")
    def _set_display(self, node: cst.Set) -> ir.Expr:
        return self._display(node, ir.SequenceKind.SET)

    def _display(self, node: cst.Tuple | cst.List | cst.Set, kind: ir.SequenceKind) -> ir.Expr:
        index = self.number(node)
        return ir.Sequence(kind, tuple([self.expr(item) for item in node.elements]), index)

    @_lowers("Element")
    def _element(self, node: cst.Element) -> ir.Expr:
        return self.expr(node.value)

    @_lowers("StarredElement")
    def _starred(self, node: cst.StarredElement) -> ir.Expr:
        index = self.number(node)
        return ir.Starred(self.expr(node.value), index)

    @_lowers("Dict")
    def _dict_display(self, node: cst.Dict) -> ir.Expr:
        index = self.number(node)
        items = [
            (
                self.expr(item.key) if isinstance(item, cst.DictElement) else None,
                self.expr(item.value),
            )
            for item in node.elements
        ]
        return ir.Mapping(tuple(items), index)

    @_lowers("ListComp")
    def _list_comprehension(self, node: cst.ListComp) -> ir.Expr:
        return self._comprehension(node, ir.ComprehensionKind.LIST, node.elt)

    @_lowers("SetComp")
    def _set_comprehension(self, node: cst.SetComp) -> ir.Expr:
        return self._comprehension(node, ir.ComprehensionKind.SET, node.elt)

    @_lowers("GeneratorExp")
    def _generator(self, node: cst.GeneratorExp) -> ir.Expr:
        return self._comprehension(node, ir.ComprehensionKind.GENERATOR, node.elt)

    @_lowers("DictComp")
    def _dict_comprehension(self, node: cst.DictComp) -> ir.Expr:
        return self._comprehension(node, ir.ComprehensionKind.DICT, node.value, node.key)

    def _comprehension(
        self,
        node: cst.BaseComp,
        kind: ir.ComprehensionKind,
        element: cst.BaseExpression,
        key: cst.BaseExpression | None = None,
    ) -> ir.Expr:
        index = self.number(node)
        generators: list[ir.Generator] = []
        clause: cst.CompFor | None = node.for_in
        while clause is not None:
            generators.append(self._generator_clause(clause))
            clause = clause.inner_for_in
        lowered_key = None if key is None else self.expr(key)
        return ir.Comprehension(kind, self.expr(element), tuple(generators), lowered_key, index)

    def _generator_clause(self, node: cst.CompFor) -> ir.Generator:
        index = self.number(node)
        iterable = self.expr(node.iter)
        target = self.expr(node.target)
        conditions = tuple([self.expr(condition.test) for condition in node.ifs])
        return ir.Generator(target, iterable, conditions, index)

    # --- functions ---

    @_lowers("Lambda")
    def _lambda(self, node: cst.Lambda) -> ir.Expr:
        index = self.number(node)
        outer_words, self.words = self.words, set()
        parameters = self.parameters(node.params)
        outer_scope, self.scope = self.scope, Scope()
        self.enter(parameters)
        value = self.expr(node.body)
        function = ir.Function(
            "<lambda>",
            parameters,
            (),
            (ir.Jump(ir.JumpKind.RETURN, value, value.node),),
            is_generator=self.scope.is_generator,
            words=frozenset(self.words),
            locals=self.scope.locals,
            node=index,
        )
        self.scope = outer_scope
        outer_words |= self.words
        self.words = outer_words
        return ir.Lambda(function, index)

    def enter(self, parameters: Iterable[ir.Parameter]) -> None:
        """Bind a function's parameters in the scope just begun."""
        names = [parameter.name for parameter in parameters]
        self.scope.bound.update(names)
        self.words.update(names)

    def parameters(self, node: cst.Parameters) -> tuple[ir.Parameter, ...]:
        """Formal parameters in the order of the source."""
        kinds = ir.ParameterKind
        lowered = [self._parameter(each, kinds.POSITIONAL_ONLY) for each in node.posonly_params]
        lowered += [self._parameter(each, kinds.POSITIONAL) for each in node.params]
        if isinstance(node.star_arg, cst.Param):
            lowered.append(self._parameter(node.star_arg, kinds.STAR))
        lowered += [self._parameter(each, kinds.KEYWORD_ONLY) for each in node.kwonly_params]
        if node.star_kwarg is not None:
            lowered.append(self._parameter(node.star_kwarg, kinds.DOUBLE_STAR))
        return tuple(lowered)

    def _parameter(self, node: cst.Param, kind: ir.ParameterKind) -> ir.Parameter:
        default = None if node.default is None else self.expr(node.default)
        annotation = None
        if node.annotation is not None:
            annotation = self.expr(node.annotation.annotation)
        return ir.Parameter(node.name.value, kind, default, annotation)


def operator(node: cst.CSTNode) -> str:
    """An operator as the source writes it, for an assignment without its equals sign."""
    return _OPERATORS.get(type(node), "?")


def _concatenation(node: cst.ConcatenatedString) -> Iterator[cst.BaseExpression]:
    """The parts of `"a" "b" "c"`, which libcst nests to the right."""
    rest: cst.BaseExpression = node
    while isinstance(rest, cst.ConcatenatedString):
        yield rest.left
        rest = rest.right
    yield rest


def _interpolations(parts: Iterable[cst.CSTNode]) -> Iterator[cst.BaseExpression]:
    """The expressions of an f-string's parts, those in format specifications included."""
    for part in parts:
        if isinstance(part, _INTERPOLATIONS):
            yield part.expression
            yield from _interpolations(part.format_spec or ())
