"""The syntax-free program that the interpreter runs.

Lowering keeps evaluation order and drops everything else: types, formatting, docstrings. Every
node that a finding can point at carries `node`, an index into the module's syntax table; rows
and columns are computed from it only when something is reported there. -1 means "nowhere".

Classes here are plain and slotted because a large file makes hundreds of thousands of them; they
are never changed after lowering.
"""

from __future__ import annotations

import re
from collections.abc import Set
from enum import Enum
from typing import Any, NamedTuple, Protocol, TypeAlias


class Node:
    """Anything with a place in the source."""

    __slots__ = ("node",)
    node: int


class SequenceKind(Enum):
    """What a `Sequence` displays."""

    TUPLE = "tuple"
    LIST = "list"
    SET = "set"
    SLICE = "slice"
    TEXT = "text"  # an f-string's parts


class ComprehensionKind(Enum):
    """What a comprehension makes; only a GENERATOR is one-shot and lazy."""

    LIST = "list"
    SET = "set"
    DICT = "dict"
    GENERATOR = "generator"


class JumpKind(Enum):
    """How a statement leaves the straight line."""

    RETURN = "return"
    BREAK = "break"
    CONTINUE = "continue"
    RAISE = "raise"


class ParameterKind(Enum):
    """How a parameter takes its argument."""

    POSITIONAL_ONLY = "positional-only"
    POSITIONAL = "positional"
    STAR = "star"
    KEYWORD_ONLY = "keyword-only"
    DOUBLE_STAR = "double-star"


# --- expressions ---------------------------------------------------------------------------


class Name(Node):
    """A variable read."""

    __slots__ = ("id",)

    def __init__(self, id: str, node: int = -1) -> None:
        self.id = id
        self.node = node


class Literal(Node):
    """A constant: number, string, bytes, bool, None or Ellipsis."""

    __slots__ = ("value",)

    def __init__(self, value: object, node: int = -1) -> None:
        self.value = value
        self.node = node


class Attribute(Node):
    """`value.attr`."""

    __slots__ = ("attr", "value")

    def __init__(self, value: Expr, attr: str, node: int = -1) -> None:
        self.value = value
        self.attr = attr
        self.node = node


class Subscript(Node):
    """`value[index]`; a slice is a `Sequence` of its bounds with kind SLICE."""

    __slots__ = ("index", "value")

    def __init__(self, value: Expr, index: Expr, node: int = -1) -> None:
        self.value = value
        self.index = index
        self.node = node


class Argument:
    """One argument of a call. `star` is 1 for `*x`, 2 for `**x`."""

    __slots__ = ("name", "star", "value")

    def __init__(self, value: Expr, name: str | None = None, star: int = 0) -> None:
        self.value = value
        self.name = name
        self.star = star


class Call(Node):
    """`func(args)`."""

    __slots__ = ("args", "func")

    def __init__(self, func: Expr, args: tuple[Argument, ...], node: int = -1) -> None:
        self.func = func
        self.args = args
        self.node = node


class Compare(Node):
    """`left op right`; chains are lowered to a `BoolOp` of pairs. Ops as in Python source."""

    __slots__ = ("left", "op", "right")

    def __init__(self, left: Expr, op: str, right: Expr, node: int = -1) -> None:
        self.left = left
        self.op = op
        self.right = right
        self.node = node


class BoolOp(Node):
    """`and` / `or` over two or more values, short-circuiting."""

    __slots__ = ("op", "values")

    def __init__(self, op: str, values: tuple[Expr, ...], node: int = -1) -> None:
        self.op = op
        self.values = values
        self.node = node


class BinOp(Node):
    """Arithmetic: `left op right`."""

    __slots__ = ("left", "op", "right")

    def __init__(self, left: Expr, op: str, right: Expr, node: int = -1) -> None:
        self.left = left
        self.op = op
        self.right = right
        self.node = node


class UnaryOp(Node):
    """`not x`, `-x`, `+x`, `~x`; op is `not`, `-`, `+` or `~`."""

    __slots__ = ("op", "value")

    def __init__(self, op: str, value: Expr, node: int = -1) -> None:
        self.op = op
        self.value = value
        self.node = node


class IfExp(Node):
    """`body if test else orelse`."""

    __slots__ = ("body", "orelse", "test")

    def __init__(self, test: Expr, body: Expr, orelse: Expr, node: int = -1) -> None:
        self.test = test
        self.body = body
        self.orelse = orelse
        self.node = node


class Sequence(Node):
    """A tuple, list or set display, a slice, or an f-string's expressions."""

    __slots__ = ("items", "kind")

    def __init__(self, kind: SequenceKind, items: tuple[Expr, ...], node: int = -1) -> None:
        self.kind = kind
        self.items = items
        self.node = node


class Starred(Node):
    """`*value` inside a display or a target."""

    __slots__ = ("value",)

    def __init__(self, value: Expr, node: int = -1) -> None:
        self.value = value
        self.node = node


class Mapping(Node):
    """A dict display; a key of None is `**value`."""

    __slots__ = ("items",)

    def __init__(self, items: tuple[tuple[Expr | None, Expr], ...], node: int = -1) -> None:
        self.items = items
        self.node = node


class Generator(Node):
    """One `for target in iter if conditions` of a comprehension."""

    __slots__ = ("conditions", "iter", "target")

    def __init__(
        self,
        target: Expr,
        iter: Expr,
        conditions: tuple[Expr, ...],
        node: int = -1,
    ) -> None:
        self.target = target
        self.iter = iter
        self.conditions = conditions
        self.node = node


class Comprehension(Node):
    """`[element for ...]`; a dict comprehension's `key` is set."""

    __slots__ = ("element", "generators", "key", "kind")

    def __init__(
        self,
        kind: ComprehensionKind,
        element: Expr,
        generators: tuple[Generator, ...],
        key: Expr | None = None,
        node: int = -1,
    ) -> None:
        self.kind = kind
        self.element = element
        self.generators = generators
        self.key = key
        self.node = node


class Lambda(Node):
    """`lambda parameters: body`; the function's body is one RETURN jump."""

    __slots__ = ("function",)

    def __init__(self, function: Function, node: int = -1) -> None:
        self.function = function
        self.node = node


class Walrus(Node):
    """`target := value`."""

    __slots__ = ("target", "value")

    def __init__(self, target: Name, value: Expr, node: int = -1) -> None:
        self.target = target
        self.value = value
        self.node = node


class Await(Node):
    """`await value`."""

    __slots__ = ("value",)

    def __init__(self, value: Expr, node: int = -1) -> None:
        self.value = value
        self.node = node


class Yield(Node):
    """`yield value` or `yield from value`."""

    __slots__ = ("is_from", "value")

    def __init__(self, value: Expr | None, is_from: bool = False, node: int = -1) -> None:
        self.value = value
        self.is_from = is_from
        self.node = node


Expr: TypeAlias = (
    Name
    | Literal
    | Attribute
    | Subscript
    | Call
    | Compare
    | BoolOp
    | BinOp
    | UnaryOp
    | IfExp
    | Sequence
    | Starred
    | Mapping
    | Comprehension
    | Lambda
    | Walrus
    | Await
    | Yield
)


# --- statements ----------------------------------------------------------------------------


class Expression(Node):
    """An expression as a statement.

    `last_in_cell`: a notebook displays its value. `before_definition`: the next statement is a
    `def` or `class`, so that a decorator's `@` may have been forgotten.
    """

    __slots__ = ("before_definition", "last_in_cell", "value")

    def __init__(
        self,
        value: Expr,
        last_in_cell: bool = False,
        before_definition: bool = False,
        node: int = -1,
    ) -> None:
        self.value = value
        self.last_in_cell = last_in_cell
        self.before_definition = before_definition
        self.node = node


class Assign(Node):
    """`targets[0] = targets[1] = value`; an annotation without value is not lowered."""

    __slots__ = ("targets", "value")

    def __init__(self, targets: tuple[Expr, ...], value: Expr, node: int = -1) -> None:
        self.targets = targets
        self.value = value
        self.node = node


class AugAssign(Node):
    """`target op= value`; `op` without the equals sign."""

    __slots__ = ("op", "target", "value")

    def __init__(self, target: Expr, op: str, value: Expr, node: int = -1) -> None:
        self.target = target
        self.op = op
        self.value = value
        self.node = node


class Delete(Node):
    """`del targets`."""

    __slots__ = ("targets",)

    def __init__(self, targets: tuple[Expr, ...], node: int = -1) -> None:
        self.targets = targets
        self.node = node


class If(Node):
    """`if test: body else: orelse`; `match` and `assert` come here too.

    `assert test` is an If with an empty body and a raising orelse.
    """

    __slots__ = ("body", "orelse", "test")

    def __init__(self, test: Expr, body: Block, orelse: Block, node: int = -1) -> None:
        self.test = test
        self.body = body
        self.orelse = orelse
        self.node = node


class For(Node):
    """`for target in iter: body else: orelse`."""

    __slots__ = ("body", "iter", "orelse", "target")

    def __init__(
        self,
        target: Expr,
        iter: Expr,
        body: Block,
        orelse: Block,
        node: int = -1,
    ) -> None:
        self.target = target
        self.iter = iter
        self.body = body
        self.orelse = orelse
        self.node = node


class While(Node):
    """`while test: body else: orelse`."""

    __slots__ = ("body", "orelse", "test")

    def __init__(self, test: Expr, body: Block, orelse: Block, node: int = -1) -> None:
        self.test = test
        self.body = body
        self.orelse = orelse
        self.node = node


class With(Node):
    """One item of a `with`; several items are nested."""

    __slots__ = ("body", "context", "target")

    def __init__(self, context: Expr, target: Expr | None, body: Block, node: int = -1) -> None:
        self.context = context
        self.target = target
        self.body = body
        self.node = node


class Handler(Node):
    """`except type as name: body`; type None is a bare except."""

    __slots__ = ("body", "name", "type")

    def __init__(self, type: Expr | None, name: str | None, body: Block, node: int = -1) -> None:
        self.type = type
        self.name = name
        self.body = body
        self.node = node


class Try(Node):
    """`try: body except...: handlers else: orelse finally: final`."""

    __slots__ = ("body", "final", "handlers", "orelse")

    def __init__(
        self,
        body: Block,
        handlers: tuple[Handler, ...],
        orelse: Block,
        final: Block,
        node: int = -1,
    ) -> None:
        self.body = body
        self.handlers = handlers
        self.orelse = orelse
        self.final = final
        self.node = node


class Jump(Node):
    """return, break, continue or raise, with the value returned or raised."""

    __slots__ = ("kind", "value")

    def __init__(self, kind: JumpKind, value: Expr | None = None, node: int = -1) -> None:
        self.kind = kind
        self.value = value
        self.node = node


class Import(Node):
    """`import a.b as c` binds `c` to `a.b`; `from .a import b` binds `b` to `.a` + `b`.

    `module` keeps its leading dots. `name` is None for a plain import, `"*"` for a star import.
    `import a.b` without `as` binds the root: bound = "a", module = "a", also = "a.b".
    """

    __slots__ = ("also", "bound", "module", "name")

    def __init__(
        self,
        bound: str,
        module: str,
        name: str | None,
        also: str = "",
        node: int = -1,
    ) -> None:
        self.bound = bound
        self.module = module
        self.name = name
        self.also = also
        self.node = node


class Scope(Node):
    """`global names` or `nonlocal names`."""

    __slots__ = ("is_global", "names")

    def __init__(self, names: tuple[str, ...], is_global: bool, node: int = -1) -> None:
        self.names = names
        self.is_global = is_global
        self.node = node


class Parameter:
    """One formal parameter."""

    __slots__ = ("annotation", "default", "kind", "name")

    def __init__(
        self,
        name: str,
        kind: ParameterKind = ParameterKind.POSITIONAL,
        default: Expr | None = None,
        annotation: Expr | None = None,
    ) -> None:
        self.name = name
        self.kind = kind
        self.default = default
        self.annotation = annotation


class Function(Node):
    """`def name(parameters): body`.

    `words` holds every attribute and variable name that the body mentions, nested functions
    included, and `class` if there is one in it: the call-graph slice is cut by it. `locals` are
    the names it binds (parameters, assignments, loops, imports, nested definitions) minus global
    and nonlocal ones.
    `node` spans the whole definition, `name_node` only the header's name.

    A body that was left out is parsed when it, the locals or `is_generator` are first asked for.
    """

    __slots__ = (
        "body",
        "decorators",
        "is_async",
        "is_generator",
        "later",
        "locals",
        "name",
        "name_node",
        "parameters",
        "words",
    )
    later: LeftOut | None

    def __init__(
        self,
        name: str,
        parameters: tuple[Parameter, ...],
        decorators: tuple[Expr, ...],
        body: Block,
        is_async: bool = False,
        is_generator: bool = False,
        words: frozenset[str] = frozenset(),
        locals: frozenset[str] = frozenset(),
        name_node: int = -1,
        node: int = -1,
    ) -> None:
        self.name = name
        self.parameters = parameters
        self.decorators = decorators
        self.body = body
        self.is_async = is_async
        self.is_generator = is_generator
        self.words = words
        self.locals = locals
        self.name_node = name_node
        self.node = node
        self.later = None

    def put_off(self, later: LeftOut) -> Function:
        """Have the body made when somebody asks for it."""
        del self.body, self.locals, self.is_generator
        self.later = later
        return self

    def may_show(self, pattern: re.Pattern[str]) -> bool:
        """Whether its code, strings and comments apart, may hold what a pattern finds.

        It may if its body was not left out: of that there is no text. Who parsed it since then
        makes no difference, so that the answer does not depend on what else was checked.
        """
        return self.later is None or pattern.search(self.later.code()) is not None

    def __getattr__(self, name: str) -> Any:
        """An attribute that is not there: what is inside a function whose body was left out."""
        if name not in Inside._fields or self.later is None:
            raise AttributeError(name)
        inside = self.later.inside()
        if inside is None:
            return getattr(_NOTHING, name)
        self.body, self.is_generator, inner = inside
        self.locals = inner.union(parameter.name for parameter in self.parameters)
        return getattr(self, name)


class LeftOut(Protocol):
    """A function's body before it is parsed."""

    @property
    def words(self) -> Set[str]:
        """The names in it, and perhaps some more."""

    def code(self) -> str:
        """Its text without strings and comments."""

    def inside(self) -> Inside | None:
        """What parsing gives; None if the parser refuses it."""


class Inside(NamedTuple):
    """What a function's body tells."""

    body: Block
    is_generator: bool
    locals: frozenset[str]
    """Without the parameters."""


_NOTHING = Inside((), False, frozenset())


class Class(Node):
    """`class name(bases): body`; keywords of the class statement are dropped."""

    __slots__ = ("bases", "body", "decorators", "name", "name_node", "words")

    def __init__(
        self,
        name: str,
        bases: tuple[Expr, ...],
        decorators: tuple[Expr, ...],
        body: Block,
        words: frozenset[str] = frozenset(),
        name_node: int = -1,
        node: int = -1,
    ) -> None:
        self.name = name
        self.bases = bases
        self.decorators = decorators
        self.body = body
        self.words = words
        self.name_node = name_node
        self.node = node


Statement: TypeAlias = (
    Expression
    | Assign
    | AugAssign
    | Delete
    | If
    | For
    | While
    | With
    | Try
    | Jump
    | Import
    | Scope
    | Function
    | Class
)

Block: TypeAlias = tuple[Statement, ...]


class Module:
    """One lowered file.

    `tree` is the syntax room's handle for computing spans; flow never looks inside. `words` are
    all names mentioned in the file, `length` is its number of lines. A notebook runs cell by cell,
    which is top to bottom.
    """

    __slots__ = ("body", "is_notebook", "length", "path", "tree", "words")

    def __init__(
        self,
        path: str,
        body: Block,
        words: frozenset[str] = frozenset(),
        is_notebook: bool = False,
        tree: Any = None,
        length: int = 0,
    ) -> None:
        self.path = path
        self.body = body
        self.words = words
        self.is_notebook = is_notebook
        self.tree = tree
        self.length = length


class Sketch(NamedTuple):
    """What a file's text shows without being parsed; more rather than less than is there."""

    words: frozenset[str]
    """All names in its code."""
    methods: dict[str, frozenset[str]]
    """By the name of a function inside something, the words of interest in its body."""
    definitions: dict[str, frozenset[str]]
    """The same for what is defined at the top, variables included."""
    imports: dict[str, tuple[str, str | None]]
    """By the name that is bound: the module, and the name in it, if one is taken from it."""
    has_star: bool
    """It imports everything from some file."""
    exported: frozenset[str] | None
    """What its `__all__` lists, if that is one plain list."""

    def may_give(self, name: str) -> bool:
        """Whether the file may define or import a name."""
        return self.has_star or name in self.words

    def may_export(self, name: str) -> bool:
        """Whether `import *` from the file may give a name."""
        return self.may_give(name) if self.exported is None else name in self.exported


def spelled(e: Expr | None) -> str:
    """An expression as the user wrote it, as far as a name needs it."""
    match e:
        case Name(id=name):
            return name
        case Attribute(value=owner, attr=attr):
            return f"{spelled(owner)}.{attr}"
        case Subscript(value=owner):
            return f"{spelled(owner)}[...]"
        case Call(func=func):
            return f"{spelled(func)}(...)"
        case Await(value=inner):
            return spelled(inner)
        case _:
            return "it"
