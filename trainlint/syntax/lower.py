"""A file's text to the IR that flow interprets."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import libcst as cst

from trainlint.flow import ir
from trainlint.syntax.cut import MARK
from trainlint.syntax.depth import TooDeep, deep_stack
from trainlint.syntax.draining import told
from trainlint.syntax.expressions import ExpressionLowering, Scope, operator
from trainlint.syntax.lean import parse_module
from trainlint.syntax.patterns import PatternLowering, conjunction
from trainlint.syntax.source import line_starts
from trainlint.syntax.spans import Tree, locate

__all__ = ["TooDeep", "lower"]


def lower(text: str, path: str, *, cell_starts: tuple[int, ...] = ()) -> ir.Module:
    """Parse `text` and lower it; `cell_starts` are the first rows of a notebook's cells.

    Raises `libcst.ParserSyntaxError` for text that is not Python, and `TooDeep`.
    """
    with deep_stack():
        tree = Tree(text, parse_module(text))
        body, words = lower_outline(tree, ())
        if cell_starts:
            _mark_last_in_cell(tree, body, cell_starts)
    return ir.Module(path, body, words, bool(cell_starts), tree, len(line_starts(text)))


def lower_outline(tree: Tree, left_out: Sequence[ir.LeftOut]) -> tuple[ir.Block, frozenset[str]]:
    """A file's statements and all its names; its outline's, if there are bodies left out."""
    lowering = _StatementLowering(tree, left_out)
    return lowering.block(tree.module.body), frozenset(lowering.words)


def lower_body(tree: Tree) -> ir.Inside:
    """What is inside the one function of a `Body.program`; the function itself is no node."""
    (function,) = tree.module.body
    assert isinstance(function, cst.FunctionDef)
    lowering = _StatementLowering(tree)
    block = lowering.suite(function.body)
    return ir.Inside(block, lowering.scope.is_generator, lowering.scope.locals)


def _mark_last_in_cell(tree: Tree, body: ir.Block, cell_starts: tuple[int, ...]) -> None:
    """Mark the top-level expressions whose value a notebook displays."""
    top_level = {id(statement) for statement in tree.module.body}
    indexes = [index for index in tree.statements if id(tree.node(index)) in top_level]
    places = locate(tree, indexes)
    last: dict[int, cst.CSTNode] = {}
    for index in indexes:
        cell = bisect_right(cell_starts, places[index].span.start.row)
        last[cell] = tree.node(index)
    displayed = {
        id(line.body[-1]) for line in last.values() if isinstance(line, cst.SimpleStatementLine)
    }
    for statement in body:
        if isinstance(statement, ir.Expression):
            node = tree.node(statement.node)
            silenced = isinstance(node, cst.Expr) and isinstance(node.semicolon, cst.Semicolon)
            statement.last_in_cell = id(node) in displayed and not silenced


class _Handlers(dict[type[cst.CSTNode], Callable[[Any, Any, list[ir.Statement]], None]]):
    """As for expressions; unknown kinds of statement are skipped."""

    def __missing__(
        self, kind: type[cst.CSTNode]
    ) -> Callable[[Any, Any, list[ir.Statement]], None]:
        return _StatementLowering._skip


_STATEMENTS = _Handlers()
_Method = TypeVar("_Method", bound=Callable[[Any, Any, list[ir.Statement]], None])


def _lowers(*kinds: str) -> Callable[[_Method], _Method]:
    """Register the method that lowers these kinds of node, so far as this libcst has them."""

    def register(method: _Method) -> _Method:
        for kind in kinds:
            if hasattr(cst, kind):
                _STATEMENTS[getattr(cst, kind)] = method
        return method

    return register


class _StatementLowering(ExpressionLowering):
    """Lowers statements; each method appends to the block under construction."""

    def __init__(self, tree: Tree, left_out: Sequence[ir.LeftOut] = ()) -> None:
        super().__init__(tree)
        self.left_out = left_out

    def block(self, body: Sequence[cst.CSTNode]) -> ir.Block:
        out: list[ir.Statement] = []
        previous: cst.CSTNode | None = None
        for node in body:
            kind = type(node)
            if kind is cst.SimpleStatementLine:
                self.line(node, out)
            else:
                if kind in _DEFINITIONS and isinstance(previous, cst.SimpleStatementLine):
                    self._mark_before_definition(previous, out)
                _STATEMENTS[kind](self, node, out)
            previous = node
        return tuple(out)

    def _mark_before_definition(
        self, line: cst.SimpleStatementLine, out: list[ir.Statement]
    ) -> None:
        if out and isinstance(last := out[-1], ir.Expression):
            last.before_definition = self.tree.node(last.node) is line.body[-1]

    def suite(self, node: cst.BaseSuite) -> ir.Block:
        if isinstance(node, cst.IndentedBlock):
            return self.block(node.body)
        out: list[ir.Statement] = []
        self.line(node, out)
        return tuple(out)

    def statement(self, node: cst.CSTNode) -> int:
        """The index of a statement, or of a clause with a header of its own."""
        index = self.number(node)
        self.tree.statements.append(index)
        return index

    def line(self, node: Any, out: list[ir.Statement]) -> None:
        self.statement(node)
        for small in node.body:
            _STATEMENTS[type(small)](self, small, out)

    def _skip(self, node: cst.CSTNode, out: list[ir.Statement]) -> None:
        """`pass`, and kinds of statement that are not known here."""

    # --- small statements ---

    @_lowers("Expr")
    def _expression(self, node: cst.Expr, out: list[ir.Statement]) -> None:
        value = node.value
        if isinstance(value, cst.SimpleString):  # a docstring
            return
        index = self.number(node)
        lowered = self.expr(value)
        if not isinstance(lowered, ir.Literal):
            out.append(ir.Expression(lowered, node=index))

    @_lowers("Assign")
    def _assign(self, node: cst.Assign, out: list[ir.Statement]) -> None:
        index = self.number(node)
        value = self.expr(node.value)
        targets = tuple([self.target(each.target) for each in node.targets])
        out.append(ir.Assign(targets, value, index))

    @_lowers("AnnAssign")
    def _annotated(self, node: cst.AnnAssign, out: list[ir.Statement]) -> None:
        if node.value is not None:
            index = self.number(node)
            value = self.expr(node.value)
            out.append(ir.Assign((self.target(node.target),), value, index))
        elif isinstance(node.target, cst.Name):
            self.scope.bound.add(node.target.value)

    @_lowers("AugAssign")
    def _augmented(self, node: cst.AugAssign, out: list[ir.Statement]) -> None:
        index = self.number(node)
        target = self.target(node.target)
        op = operator(node.operator)
        out.append(ir.AugAssign(target, op, self.expr(node.value), index))

    @_lowers("Del")
    def _delete(self, node: cst.Del, out: list[ir.Statement]) -> None:
        index = self.number(node)
        target = self.target(node.target)
        targets = target.items if isinstance(target, ir.Sequence) else (target,)
        out.append(ir.Delete(targets, index))

    @_lowers("Assert")
    def _assertion(self, node: cst.Assert, out: list[ir.Statement]) -> None:
        index = self.number(node)
        raising = ir.Jump(ir.JumpKind.RAISE, None, index)
        out.append(ir.If(self.expr(node.test), (), (raising,), index))

    @_lowers("Return")
    def _returned(self, node: cst.Return, out: list[ir.Statement]) -> None:
        self._jump(ir.JumpKind.RETURN, node, node.value, out)

    @_lowers("Raise")
    def _raised(self, node: cst.Raise, out: list[ir.Statement]) -> None:
        self._jump(ir.JumpKind.RAISE, node, node.exc, out)

    @_lowers("Break")
    def _broken(self, node: cst.Break, out: list[ir.Statement]) -> None:
        self._jump(ir.JumpKind.BREAK, node, None, out)

    @_lowers("Continue")
    def _continued(self, node: cst.Continue, out: list[ir.Statement]) -> None:
        self._jump(ir.JumpKind.CONTINUE, node, None, out)

    def _jump(
        self,
        kind: ir.JumpKind,
        node: cst.CSTNode,
        value: cst.BaseExpression | None,
        out: list[ir.Statement],
    ) -> None:
        index = self.number(node)
        out.append(ir.Jump(kind, None if value is None else self.expr(value), index))

    @_lowers("Global", "Nonlocal")
    def _global(self, node: cst.Global | cst.Nonlocal, out: list[ir.Statement]) -> None:
        names = tuple([item.name.value for item in node.names])
        self.words.update(names)
        self.scope.elsewhere.update(names)
        out.append(ir.Scope(names, isinstance(node, cst.Global), self.number(node)))

    @_lowers("TypeAlias")
    def _type_alias(self, node: cst.TypeAlias, out: list[ir.Statement]) -> None:
        self.scope.bound.add(node.name.value)

    # --- imports ---

    @_lowers("Import", "LazyImport")
    def _import(self, node: cst.Import | cst.LazyImport, out: list[ir.Statement]) -> None:
        for alias in node.names:
            module = _dotted(alias.name)
            root = module.partition(".")[0]
            if alias.asname is not None:
                lowered = ir.Import(_asname(alias.asname), module, None)
            else:
                lowered = ir.Import(root, root, None, "" if module == root else module)
            self._imported(lowered, alias, out)

    @_lowers("ImportFrom", "LazyImportFrom")
    def _import_from(
        self, node: cst.ImportFrom | cst.LazyImportFrom, out: list[ir.Statement]
    ) -> None:
        module = "." * len(node.relative)
        if node.module is not None:
            module += _dotted(node.module)
        if isinstance(node.names, cst.ImportStar):
            out.append(ir.Import("*", module, "*", node=self.number(node)))
            self.words.update(_parts(module))
            return
        for alias in node.names:
            name = _dotted(alias.name)
            bound = name if alias.asname is None else _asname(alias.asname)
            self._imported(ir.Import(bound, module, name), alias, out)

    def _imported(
        self, lowered: ir.Import, alias: cst.ImportAlias, out: list[ir.Statement]
    ) -> None:
        lowered.node = self.number(alias)
        self.scope.bound.add(lowered.bound)
        self.words.add(lowered.bound)
        self.words.update(_parts(lowered.also or lowered.module))
        if lowered.name is not None:
            self.words.add(lowered.name)
        out.append(lowered)

    # --- branches ---

    @_lowers("If")
    def _if(self, node: cst.If, out: list[ir.Statement]) -> None:
        branches: list[tuple[ir.Expr, ir.Block, int]] = []
        orelse: ir.Block = ()
        clause: cst.If | cst.Else | None = node
        while clause is not None:
            if isinstance(clause, cst.Else):
                orelse = self.suite(clause.body)
                break
            index = self.statement(clause)
            test = self.expr(clause.test)
            branches.append((test, self.suite(clause.body), index))
            clause = clause.orelse
        out += _nested(branches, orelse)

    @_lowers("Match")
    def _match(self, node: cst.Match, out: list[ir.Statement]) -> None:
        index = self.statement(node)
        subject = ir.Name(self.hidden("match", index), index)
        out.append(ir.Assign((ir.Name(subject.id),), self.expr(node.subject), index))
        branches: list[tuple[ir.Expr, ir.Block, int]] = []
        orelse: ir.Block = ()
        for case in node.cases:
            index = self.statement(case)
            test, body = self._case(case, subject)
            if test is None:  # later cases cannot be reached, and Python accepts none
                orelse = body
                break
            branches.append((test, body, index))
        out += _nested(branches, orelse)

    def _case(self, node: cst.MatchCase, subject: ir.Name) -> tuple[ir.Expr | None, ir.Block]:
        """A case's test and body; captures are bound in the body, so a guard reads them unbound."""
        pattern = PatternLowering(self)
        pattern.lower(node.pattern, subject)
        tests = pattern.tests
        if node.guard is not None:
            tests.append(self.expr(node.guard))
        return conjunction(tests), (*pattern.captures, *self.suite(node.body))

    # --- loops and contexts ---

    def orelse(self, node: cst.Else | cst.Finally | None) -> ir.Block:
        return () if node is None else self.suite(node.body)

    @_lowers("For")
    def _for(self, node: cst.For, out: list[ir.Statement]) -> None:
        index = self.statement(node)
        iterable = self.expr(node.iter)
        target = self.target(node.target)
        body = self.suite(node.body)
        out.append(ir.For(target, iterable, body, self.orelse(node.orelse), index))

    @_lowers("While")
    def _while(self, node: cst.While, out: list[ir.Statement]) -> None:
        index = self.statement(node)
        test = self.expr(node.test)
        body = self.suite(node.body)
        loop = ir.While(test, body, self.orelse(node.orelse), index)
        out.append(told(loop))

    @_lowers("With")
    def _with(self, node: cst.With, out: list[ir.Statement]) -> None:
        index = self.statement(node)
        items: list[tuple[ir.Expr, ir.Expr | None, int]] = []
        for item in node.items:
            context = self.expr(item.item)
            target = None if item.asname is None else self.target(item.asname.name)
            items.append((context, target, self.number(item) if items else index))
        body = self.suite(node.body)
        for context, target, place in reversed(items):
            body = (ir.With(context, target, body, place),)
        out += body

    @_lowers("Try", "TryStar")
    def _try(self, node: cst.Try | cst.TryStar, out: list[ir.Statement]) -> None:
        index = self.statement(node)
        body = self.suite(node.body)
        handlers = tuple([self._handler(each) for each in node.handlers])
        orelse = self.orelse(node.orelse)
        out.append(ir.Try(body, handlers, orelse, self.orelse(node.finalbody), index))

    def _handler(self, node: cst.ExceptHandler | cst.ExceptStarHandler) -> ir.Handler:
        index = self.statement(node)
        kind = None if node.type is None else self.expr(node.type)
        name = None
        if node.name is not None:
            name = _asname(node.name)
            self.words.add(name)
            self.scope.bound.add(name)
        return ir.Handler(kind, name, self.suite(node.body), index)

    # --- definitions ---

    @_lowers("FunctionDef")
    def _function(self, node: cst.FunctionDef, out: list[ir.Statement]) -> None:
        index = self.statement(node)
        outer_words, self.words = self.words, set()
        decorators = self._decorators(node.decorators)
        name_node = self._defined(node.name)
        parameters = self.parameters(node.params)
        outer_scope, self.scope = self.scope, Scope()
        self.enter(parameters)
        left_out = self._left_out(node.body)
        if left_out is not None:
            self.words |= left_out.words
        lowered = ir.Function(
            node.name.value,
            parameters,
            decorators,
            () if left_out is not None else self.suite(node.body),
            node.asynchronous is not None,
            self.scope.is_generator,
            frozenset(self.words),
            self.scope.locals,
            name_node,
            index,
        )
        self.scope = outer_scope
        self._leave_words(outer_words, node.name.value)
        out.append(lowered if left_out is None else lowered.put_off(left_out))

    def _left_out(self, body: cst.BaseSuite) -> ir.LeftOut | None:
        """The body that a function of an outline has."""
        match body:
            case cst.IndentedBlock(
                body=[cst.SimpleStatementLine(body=[cst.Expr(cst.Integer(mark))])]
            ) if mark.startswith(MARK) and self.left_out:
                return self.left_out[int(mark.removeprefix(MARK), 16)]
            case _:
                return None

    @_lowers("ClassDef")
    def _class(self, node: cst.ClassDef, out: list[ir.Statement]) -> None:
        index = self.statement(node)
        outer_words, self.words = self.words, set()
        decorators = self._decorators(node.decorators)
        name_node = self._defined(node.name)
        bases = tuple([argument.value for argument in self.arguments(node.bases)])
        outer_scope, self.scope = self.scope, Scope()
        body = self.suite(node.body)
        self.scope = outer_scope
        words = frozenset(self.words)
        self._leave_words(outer_words, node.name.value)
        self.words.add("class")
        out.append(ir.Class(node.name.value, bases, decorators, body, words, name_node, index))

    def _decorators(self, nodes: Iterable[cst.Decorator]) -> tuple[ir.Expr, ...]:
        return tuple([self.expr(each.decorator) for each in nodes])

    def _defined(self, name: cst.Name) -> int:
        self.scope.bound.add(name.value)
        return self.number(name)

    def _leave_words(self, outer: set[str], name: str) -> None:
        """Return to the words of the enclosing definition, which holds this one's."""
        outer |= self.words
        outer.add(name)
        self.words = outer


def _nested(branches: list[tuple[ir.Expr, ir.Block, int]], orelse: ir.Block) -> ir.Block:
    """`if`s in each other's `else`, built from the last so that long chains do not recurse."""
    for test, body, index in reversed(branches):
        orelse = (ir.If(test, body, orelse, index),)
    return orelse


def _parts(module: str) -> list[str]:
    return [part for part in module.split(".") if part]


def _dotted(node: cst.BaseExpression) -> str:
    parts: list[str] = []
    while isinstance(node, cst.Attribute):
        parts.append(node.attr.value)
        node = node.value
    if isinstance(node, cst.Name):
        parts.append(node.value)
    return ".".join(reversed(parts))


def _asname(node: cst.AsName) -> str:
    return node.name.value if isinstance(node.name, cst.Name) else ""


_DEFINITIONS = frozenset({cst.FunctionDef, cst.ClassDef})
