"""Rewrites of how things are said: loops, branches, contexts, aliases, and where code stands."""

from __future__ import annotations

import ast
import copy

from tests.properties.edits import Block, Files, blocks, called, is_call, parse_one, written
from tests.properties.rewriters import each_file, only_file, parted, rewriter, stored
from tests.properties.rewritten_flow import at_head, contexts, own_jumps
from tests.properties.rewritten_names import Replace, body_names, functions_of

MODES = ("train", "eval", "step", "zero_grad", "backward")


def _statements(tree: ast.AST) -> list[tuple[Block, int]]:
    """Where every statement stands, the last of a block first."""
    return [(b, i) for b in list(blocks(tree)) for i in range(len(b) - 1, -1, -1)]


def _as_block(text: str, body: Block) -> ast.stmt:
    """A statement whose body is `pass` gets this one."""
    made = parse_one(text)
    made.body = body  # type: ignore[attr-defined]
    return made


# --- loops -----------------------------------------------------------------------------


@rewriter
def unpack_in_the_body(files: Files) -> Files:
    """`for x, y in loader` becomes `for batch in loader: x, y = batch`."""

    def edit(tree: ast.Module) -> None:
        for node in [n for n in ast.walk(tree) if isinstance(n, ast.For)]:
            if isinstance(node.target, ast.Tuple):
                taken = ast.Assign([node.target], ast.Name("one_batch", ast.Load()))
                node.target = ast.Name("one_batch", ast.Store())
                node.body.insert(0, taken)

    return each_file(files, edit)


@rewriter
def number_the_rounds(files: Files) -> Files:
    """`for x in xs` becomes `for number, x in enumerate(xs)`."""

    def edit(tree: ast.Module) -> None:
        for node in [n for n in ast.walk(tree) if isinstance(n, ast.For)]:
            if "enumerate(" not in ast.unparse(node.iter):
                number = ast.Name("number", ast.Store())
                node.target = ast.Tuple([number, node.target], ast.Store())
                node.iter = ast.Call(ast.Name("enumerate", ast.Load()), [node.iter], [])

    return each_file(files, edit)


@rewriter
def break_out_of_while(files: Files) -> Files:
    """`for epoch in range(n)` is an endless loop that is left."""

    def edit(tree: ast.Module) -> None:
        for block, index in _statements(tree):
            loop = block[index]
            call = loop.iter if isinstance(loop, ast.For) else None
            if not isinstance(call, ast.Call) or ast.unparse(call.func) != "range":
                continue
            assert isinstance(loop, ast.For)
            if len(call.args) > 2 or own_jumps(loop, (ast.Continue,)) or loop.orelse:
                continue
            start, stop = ("0", *map(ast.unparse, call.args))[-2:]
            name = ast.unparse(loop.target)
            leave = parse_one(f"if {name} >= {stop}:\n    break")
            body = [leave, *loop.body, parse_one(f"{name} = {name} + 1")]
            new = _as_block("while True:\n    pass", body)
            block[index : index + 1] = [parse_one(f"{name} = {start}"), new]

    return each_file(files, edit)


@rewriter
def comprehensions_as_loops(files: Files) -> Files:
    """`x = [f(y) for y in ys if c]` is a list that a loop fills."""

    def edit(tree: ast.Module) -> None:
        for block, index in _statements(tree):
            found = block[index]
            value = found.value if isinstance(found, ast.Assign) else None
            if not isinstance(value, ast.ListComp) or len(value.generators) != 1:
                continue
            assert isinstance(found, ast.Assign)
            if not isinstance(found.targets[0], ast.Name) or "self" in ast.unparse(found):
                continue
            (part,) = value.generators
            name = found.targets[0].id
            inside: Block = [parse_one(f"{name}.append({ast.unparse(value.elt)})")]
            for test in part.ifs:
                inside = [ast.If(test, inside, [])]
            if name in {n.id for n in ast.walk(value) if isinstance(n, ast.Name)}:
                continue
            loop = ast.For(part.target, part.iter, inside, [])
            block[index : index + 1] = [parse_one(f"{name} = []"), loop]

    return each_file(files, edit)


# --- branches --------------------------------------------------------------------------


@rewriter
def leave_early(files: Files) -> Files:
    """A condition around the end of a loop's or function's body becomes one that leaves it."""

    def edit(tree: ast.Module) -> None:
        for node in list(ast.walk(tree)):
            if not isinstance(node, (ast.For, ast.While, ast.FunctionDef)) or not node.body:
                continue
            last = node.body[-1]
            if not isinstance(last, ast.If) or last.orelse or len(last.body) < 2:
                continue
            if any(isinstance(n, (ast.Yield, ast.YieldFrom)) for n in ast.walk(node)):
                continue
            leave = "return" if isinstance(node, ast.FunctionDef) else "continue"
            guard = ast.If(ast.UnaryOp(ast.Not(), last.test), [parse_one(leave)], [])
            node.body[-1:] = [guard, *last.body]

    return each_file(files, edit)


@rewriter
def choices_as_branches(files: Files) -> Files:
    """`x = a if c else b` becomes `if c: x = a else: x = b`."""

    def edit(tree: ast.Module) -> None:
        for block, index in _statements(tree):
            found = block[index]
            value = found.value if isinstance(found, (ast.Assign, ast.Return, ast.Expr)) else None
            if isinstance(value, ast.IfExp):
                one, other = copy.deepcopy(found), copy.deepcopy(found)
                one.value, other.value = value.body, value.orelse  # type: ignore[attr-defined]
                block[index] = ast.If(value.test, [one], [other])

    return each_file(files, edit)


@rewriter
def branches_as_choices(files: Files) -> Files:
    """`if c: x = a else: x = b` becomes `x = a if c else b`."""

    def edit(tree: ast.Module) -> None:
        for block, index in _statements(tree):
            node = block[index]
            if not isinstance(node, ast.If) or len(node.body) != 1 or len(node.orelse) != 1:
                continue
            a, b = node.body[0], node.orelse[0]
            if not (isinstance(a, ast.Assign) and isinstance(b, ast.Assign)):
                continue
            if ast.dump(a.targets[0]) == ast.dump(b.targets[0]):
                block[index] = ast.Assign(a.targets, ast.IfExp(node.test, a.value, b.value))

    return each_file(files, edit)


@rewriter
def never_run(files: Files) -> Files:
    """Code that never runs stands beside the code that does."""
    idle = "def not_called(model, optimizer):\n    model.eval()\n    optimizer.zero_grad()"

    def edit(tree: ast.Module) -> None:
        for block, index in _statements(tree):
            if called(block[index])[1] in MODES and isinstance(block[index], ast.Expr):
                twin = copy.deepcopy(block[index])
                block.insert(index, ast.If(ast.Constant(False), [twin], []))
        at_head(tree, idle)

    return each_file(files, edit)


@rewriter
def guard_the_rounds(files: Files) -> Files:
    """What goes wrong in a round is told and raised again."""

    def edit(tree: ast.Module) -> None:
        text = "try:\n    pass\nexcept RuntimeError as error:\n    print(error)\n    raise"
        for node in list(ast.walk(tree)):
            if isinstance(node, ast.For) and any(map(is_call("backward"), node.body)):
                node.body = [_as_block(text, node.body)]

    return each_file(files, edit)


# --- contexts --------------------------------------------------------------------------


@rewriter
def enter_and_exit(files: Files) -> Files:
    """`with torch.no_grad()` is entered and left by its methods."""

    def change(found: ast.With) -> Block:
        new = parse_one("try:\n    pass\nfinally:\n    off.__exit__(None, None, None)")
        new.body = found.body  # type: ignore[attr-defined]
        made = parse_one(f"off = {ast.unparse(found.items[0].context_expr)}")
        return [made, parse_one("off.__enter__()"), new]

    return contexts(files, "", change)


OFF = """
class GradientsOff:
    def __enter__(self):
        self.before = torch.is_grad_enabled()
        torch.set_grad_enabled(False)
        return self

    def __exit__(self, kind, value, trace):
        torch.set_grad_enabled(self.before)
"""


def _behind_imports(files: Files, text: str) -> Files:
    def edit(tree: ast.Module) -> None:
        kinds = (ast.Import, ast.ImportFrom)
        used = "gradients_off()" in ast.unparse(tree) or "GradientsOff()" in ast.unparse(tree)
        last = [i for i, s in enumerate(tree.body) if isinstance(s, kinds)]
        if used and last:
            tree.body[last[-1] + 1 : last[-1] + 1] = ast.parse(text).body

    return each_file(files, edit)


def _in_place_of_no_grad(files: Files, text: str) -> Files:
    def change(found: ast.With) -> Block:
        found.items[0].context_expr = ast.parse(text, mode="eval").body
        return [found]

    return contexts(files, "", change)


@rewriter
def context_of_a_class(files: Files) -> Files:
    """A class of the project's own turns gradients off and puts them back."""
    return _behind_imports(_in_place_of_no_grad(files, "GradientsOff()"), OFF)


@rewriter
def context_of_a_generator(files: Files) -> Files:
    text = (
        "import contextlib\n@contextlib.contextmanager\ndef gradients_off():\n"
        "    with torch.no_grad():\n        yield"
    )
    return _behind_imports(_in_place_of_no_grad(files, "gradients_off()"), text)


# --- names and aliases -----------------------------------------------------------------


@rewriter
def bound_methods(files: Files) -> Files:
    """`optimizer.step()` becomes `act = optimizer.step; act()`."""

    def edit(tree: ast.Module) -> None:
        for block, index in _statements(tree):
            found = block[index]
            call = found.value if isinstance(found, ast.Expr) else None
            if called(found)[1] in MODES and isinstance(call, ast.Call):
                if "super()" in ast.unparse(call):
                    continue
                block.insert(index, ast.Assign([ast.Name("act", ast.Store())], call.func))
                call.func = ast.Name("act", ast.Load())

    return each_file(files, edit)


@rewriter
def attributes_in_locals(files: Files) -> Files:
    """A method reads `self.model` and the like once, into variables of its own."""

    def edit(tree: ast.Module) -> None:
        for cls in [n for n in ast.walk(tree) if isinstance(n, ast.ClassDef)]:
            written_to = {
                n.attr
                for f in cls.body
                if isinstance(f, ast.FunctionDef) and f.name != "__init__"
                for n in ast.walk(f)
                if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)
            }
            made = _set_by_constructor(cls)
            for function in cls.body:
                if isinstance(function, ast.FunctionDef) and function.name != "__init__":
                    _read_once(function, made - written_to)

    return each_file(files, edit)


def _set_by_constructor(cls: ast.ClassDef) -> set[str]:
    start = [f for f in cls.body if isinstance(f, ast.FunctionDef) and f.name == "__init__"]
    return {
        n.attr
        for f in start
        for n in ast.walk(f)
        if isinstance(n, ast.Attribute)
        and isinstance(n.ctx, ast.Store)
        and ast.unparse(n.value) == "self"
    }


def _read_once(function: ast.FunctionDef, names: set[str]) -> None:
    used: dict[str, None] = {}

    class Read(ast.NodeTransformer):
        def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
            self.generic_visit(node)
            own = isinstance(node.value, ast.Name) and node.value.id == "self"
            if own and node.attr in names and isinstance(node.ctx, ast.Load):
                used[node.attr] = None
                return ast.Name(f"my_{node.attr}", ast.Load())
            return node

    decorated = function.decorator_list
    if any("static" in ast.unparse(d) or "class" in ast.unparse(d) for d in decorated):
        return
    function.body = [Read().visit(s) for s in function.body]
    function.body[:0] = [parse_one(f"my_{n} = self.{n}") for n in used]


@rewriter
def modes_assigned(files: Files) -> Files:
    """`model.eval()` becomes `model = model.eval()`, where `model` is the block's own."""

    def edit(tree: ast.Module) -> None:
        functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
        for scope in functions:
            own = {a.arg for a in scope.args.args} | stored(scope)
            inner = {n for f in functions if f is not scope for n in body_names(f)}
            for block, index in _statements(scope):
                name, method = called(block[index])
                if (
                    method in ("train", "eval")
                    and name in own
                    and isinstance(block[index], ast.Expr)
                ):
                    if any(f is not scope and _holds(f, block) for f in functions):
                        continue
                    if name not in inner or name in {a.arg for a in scope.args.args}:
                        block[index] = parse_one(f"{name} = {ast.unparse(block[index])}")

    return each_file(files, edit)


def _holds(outer: ast.AST, block: Block) -> bool:
    return any(block is b for b in blocks(outer)) and isinstance(outer, ast.FunctionDef)


@rewriter
def settings_in_a_class(files: Files) -> Files | None:
    """Constants at the top are fields of a dataclass."""
    found = only_file(files)
    if found is None:
        return None
    name, tree = found
    plain = [
        s
        for s in tree.body
        if isinstance(s, ast.Assign)
        and isinstance(s.targets[0], ast.Name)
        and isinstance(s.value, ast.Constant)
        and isinstance(s.value.value, (int, float, str))
    ]
    names = {s.targets[0].id for s in plain if isinstance(s.targets[0], ast.Name)}
    nodes = [n for n in ast.walk(tree) if isinstance(n, ast.Name)]
    again = [n.id for n in nodes if isinstance(n.ctx, ast.Store)]
    arguments = {n.arg for n in ast.walk(tree) if isinstance(n, ast.arg)}
    names = {n for n in names if again.count(n) == 1 and n not in arguments}
    if not names:
        return None
    fields = [s for s in plain if ast.unparse(s.targets[0]) in names]
    at = tree.body.index(fields[0])
    tree.body = [s for s in tree.body if s not in fields]
    Replace({n: f"settings.{n}" for n in names}).visit(tree)
    lines = "\n".join(
        f"    {ast.unparse(s.targets[0])}: object = {ast.unparse(s.value)}" for s in fields
    )
    text = f"import dataclasses\n@dataclasses.dataclass\nclass Settings:\n{lines}\nsettings = Settings()"
    tree.body[at:at] = ast.parse(text).body
    return {name: written(tree)}


@rewriter
def named_arguments(files: Files) -> Files:
    """The project's functions get all their arguments by name."""

    def edit(tree: ast.Module) -> None:
        known = functions_of(tree)
        for node in [n for n in ast.walk(tree) if isinstance(n, ast.Call)]:
            function = known.get(ast.unparse(node.func))
            if function is None or any(isinstance(a, ast.Starred) for a in node.args):
                continue
            names = [a.arg for a in function.args.args]
            if len(node.args) <= len(names) and not function.args.vararg:
                given = [ast.keyword(n, a) for n, a in zip(names, node.args, strict=False)]
                node.keywords[:0], node.args = given, []

    return each_file(files, edit)


@rewriter
def parents_by_name(files: Files) -> Files:
    """`super().__init__()` becomes `super(Net, self).__init__()`."""

    def edit(tree: ast.Module) -> None:
        for cls in [n for n in ast.walk(tree) if isinstance(n, ast.ClassDef)]:
            for node in ast.walk(cls):
                if isinstance(node, ast.Call) and ast.unparse(node) == "super()":
                    names = (cls.name, "self")
                    node.args = [ast.Name(n, ast.Load()) for n in names]

    return each_file(files, edit)


# --- calls in pieces -------------------------------------------------------------------


@rewriter
def losses_in_names(files: Files) -> Files:
    """`loss_of(model(x), y).backward()` is done in three lines."""

    def edit(tree: ast.Module) -> None:
        for block, index in _statements(tree):
            found = block[index]
            if not is_call("backward")(found):
                continue
            call = found.value  # type: ignore[attr-defined]
            loss = call.func.value
            if not isinstance(loss, ast.Call) or called(loss)[1] == "scale":
                continue
            before = [ast.Assign([ast.Name("this_loss", ast.Store())], loss)]
            if loss.args and isinstance(loss.args[0], ast.Call):
                before.insert(0, ast.Assign([ast.Name("this_out", ast.Store())], loss.args[0]))
                loss.args[0] = ast.Name("this_out", ast.Load())
            call.func.value = ast.Name("this_loss", ast.Load())
            block[index:index] = before

    return each_file(files, edit)


@rewriter
def outputs_in_place(files: Files) -> Files:
    """What is used once, in the next line, is put there: `loss = f(model(x), y)`."""

    def edit(tree: ast.Module) -> None:
        for scope in [tree, *(n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef))]:
            loads = [
                n.id
                for n in ast.walk(scope)
                if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)
            ]
            for block in blocks(scope):
                for index in range(len(block) - 2, -1, -1):
                    first, then = block[index], block[index + 1]
                    if not isinstance(first, ast.Assign) or not isinstance(first.value, ast.Call):
                        continue
                    name = first.targets[0]
                    if not isinstance(name, ast.Name) or loads.count(name.id) != 1:
                        continue
                    value = then.value if isinstance(then, ast.Assign) else None
                    if isinstance(value, ast.Call) and value.args:
                        if ast.unparse(value.args[0]) == name.id:
                            value.args[0] = first.value
                            del block[index]

    return each_file(files, edit)


@rewriter
def sums_written_out(files: Files) -> Files:
    """`total += x` becomes `total = total + x`, where `total` is a name."""

    def edit(tree: ast.Module) -> None:
        tensors = {
            n.id
            for f in ast.walk(tree)
            if isinstance(f, ast.FunctionDef) and f.name == "forward"
            for n in ast.walk(f)
            if isinstance(n, ast.Name)
        }
        for block, index in _statements(tree):
            found = block[index]
            if isinstance(found, ast.AugAssign) and isinstance(found.target, ast.Name):
                if found.target.id not in tensors:
                    old = ast.Name(found.target.id, ast.Load())
                    value = ast.BinOp(old, found.op, found.value)
                    block[index] = ast.Assign([found.target], value)

    return each_file(files, edit)


@rewriter
def parameters_in_a_list(files: Files) -> Files:
    """An optimizer gets one group that holds a list."""

    def edit(tree: ast.Module) -> None:
        for node in [n for n in ast.walk(tree) if isinstance(n, ast.Call)]:
            last = ast.unparse(node.func).rsplit(".", 1)[-1]
            if last in ("Adam", "AdamW", "SGD", "RMSprop") and node.args:
                first = node.args[0]
                if called(first)[1] == "parameters":
                    text = f"[{{'params': list({ast.unparse(first)})}}]"
                    node.args[0] = ast.parse(text, mode="eval").body

    return each_file(files, edit)


@rewriter
def clear_by_hand(files: Files) -> Files:
    """`optimizer.zero_grad()` sets each gradient to None."""

    def edit(tree: ast.Module) -> None:
        for block, index in _statements(tree):
            owner, method = called(block[index])
            last = owner.rsplit(".", 1)[-1]
            plain = isinstance(block[index], ast.Expr) and last.startswith("opt")
            if method == "zero_grad" and plain and "[" not in owner:
                block[index] = parse_one(
                    f"for group in {owner}.param_groups:\n    for p in group['params']:\n"
                    "        p.grad = None"
                )

    return each_file(files, edit)


@rewriter
def losses_as_functions(files: Files) -> Files:
    """`nn.CrossEntropyLoss()` becomes the function that it calls."""
    names = {"CrossEntropyLoss": "cross_entropy", "MSELoss": "mse_loss", "NLLLoss": "nll_loss"}

    def edit(tree: ast.Module) -> None:
        for node in ast.walk(tree):
            for field, value in ast.iter_fields(node):
                if isinstance(value, ast.Call) and not (value.args or value.keywords):
                    owner, last = called(value)
                    if owner in ("nn", "torch.nn") and last in names:
                        text = f"{owner}.functional.{names[last]}"
                        setattr(node, field, ast.parse(text, mode="eval").body)

    return each_file(files, edit)


# --- where code stands -----------------------------------------------------------------


def _split(files: Files, bring: str, star: bool) -> Files | None:
    found = parted(files)
    if found is None:
        return None
    name, imports, moved, rest = found
    parts = written(ast.Module([*imports, *moved], []))
    if not star:
        replace = Replace({s.name: f"kit.{s.name}" for s in moved})
        rest = [replace.visit(s) for s in rest]
    head = [*imports, parse_one(bring)]
    return {name: written(ast.Module([*head, *rest], [])), "kit.py": parts}


@rewriter
def parts_by_star(files: Files) -> Files | None:
    """Functions and classes come from another file, all of them."""
    return _split(files, "from kit import *", True)


@rewriter
def parts_by_module(files: Files) -> Files | None:
    """Functions and classes are asked of another file: `kit.train(...)`."""
    return _split(files, "import kit", False)


@rewriter
def methods_of_one(files: Files) -> Files | None:
    """The functions of a program are methods of one object."""
    found = only_file(files)
    if found is None:
        return None
    name, tree = found
    chosen = {n: f for n, f in functions_of(tree).items() if not f.decorator_list}
    outside = [s for s in tree.body if not isinstance(s, ast.FunctionDef)]
    guard = [s for s in outside if isinstance(s, ast.If)]
    at_import = {n for s in outside if s not in guard for n in body_names(s)}
    chosen = {n: f for n, f in chosen.items() if n not in at_import}
    if len(chosen) < 2 or any("def " in ast.unparse(s) for f in chosen.values() for s in f.body):
        return None
    inside = list(chosen.values())
    first = min(tree.body.index(f) for f in inside)
    tree.body = [s for s in tree.body if s not in inside]
    for function in inside:
        Replace({n: f"self.{n}" for n in chosen}).visit(function)
        function.args.args.insert(0, ast.arg("self"))
    Replace({n: f"job.{n}" for n in chosen}).visit(tree)
    made = [ast.ClassDef("Job", [], [], list(inside), []), parse_one("job = Job()")]
    tree.body[first:first] = made
    return {name: written(tree)}


@rewriter
def run_by_asyncio(files: Files) -> Files | None:
    """`main()` is awaited."""
    found = only_file(files)
    if found is None:
        return None
    name, tree = found
    last = tree.body[-1]
    if not isinstance(last, ast.If) or "__name__" not in ast.unparse(last.test):
        return None
    text = "async def run_all():\n    pass"
    last.body, body = [parse_one("asyncio.run(run_all())")], last.body
    tree.body.insert(len(tree.body) - 1, _as_block(text, body))
    at_head(tree, "import asyncio")
    return {name: written(tree)}


SHELL = """
class Shell({base}):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, *args, **kwargs):
        return self.inner(*args, **kwargs)
"""


@rewriter
def model_in_a_shell(files: Files) -> Files | None:
    """A model is put into a module that calls it."""
    found = only_file(files)
    if found is None:
        return None
    name, tree = found
    classes = {s.name for s in tree.body if isinstance(s, ast.ClassDef)}
    text = ast.unparse(tree)
    api = {"train", "eval", "parameters", "state_dict", "load_state_dict", "zero_grad", "to"}
    changed = False
    for block, index in _statements(tree):
        made = block[index]
        value = made.value if isinstance(made, ast.Assign) else None
        if not isinstance(value, ast.Call) or ast.unparse(value.func) not in classes:
            continue
        assert isinstance(made, ast.Assign)
        target = made.targets[0]
        if not isinstance(target, ast.Name) or target.id not in ("model", "net", "network"):
            continue
        asked = {
            n.attr
            for n in ast.walk(tree)
            if isinstance(n, ast.Attribute) and ast.unparse(n.value).endswith(target.id)
        }
        given = any(f"{c}({target.id}" in text for c in classes)  # whose parts it asks for
        if asked <= api and not given:
            block.insert(index + 1, parse_one(f"{target.id} = Shell({target.id})"))
            changed = True
    if not changed or "DDP(" in text or "get_peft_model" in text:
        return None
    base = "nn.Module" if "nn.Module" in text else "torch.nn.Module"
    at = next(i for i, s in enumerate(tree.body) if isinstance(s, ast.ClassDef))
    tree.body[at:at] = ast.parse(SHELL.format(base=base)).body
    return {name: written(tree)}
