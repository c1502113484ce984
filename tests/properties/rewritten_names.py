"""Rewrites of names, calls and where things are kept."""

from __future__ import annotations

import ast
import builtins
import copy

from tests.properties.edits import Block, Files, blocks, called, parse_one, written
from tests.properties.rewriters import each_file, only_file, rewriter, stored
from tests.properties.rewritten_flow import at_head


def functions_of(tree: ast.Module) -> dict[str, ast.FunctionDef]:
    return {s.name: s for s in tree.body if isinstance(s, ast.FunctionDef)}


def _generates(function: ast.AST) -> bool:
    return any(isinstance(n, (ast.Yield, ast.YieldFrom)) for n in ast.walk(function))


class Replace(ast.NodeTransformer):
    """Loads of names become other expressions."""

    def __init__(self, new: dict[str, str], attributes: dict[str, str] | None = None) -> None:
        self.new = new
        self.attributes = attributes or {}

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id in self.new and isinstance(node.ctx, ast.Load):
            return ast.parse(self.new[node.id], mode="eval").body
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        node.attr = self.attributes.get(node.attr, node.attr)
        return node


# --- names -----------------------------------------------------------------------------


@rewriter
def rename_definitions(files: Files) -> Files:
    """The project's functions and classes, and the methods no library calls, lose their names."""
    trees = [ast.parse(text) for text in files.values()]
    tops = [s for t in trees for s in t.body if isinstance(s, (ast.FunctionDef, ast.ClassDef))]
    used = {n.value for t in trees for n in ast.walk(t) if isinstance(n, ast.Constant)}
    names = {s.name: f"thing_{i}" for i, s in enumerate(tops)}
    libraries = {"Module", "Sequential", "Dataset", "Trainer", "TrainerCallback", "nn.Module"}
    methods: dict[str, str] = {}
    kept: set[str] = set()
    for top in tops:
        inner = [s.name for s in ast.walk(top) if isinstance(s, ast.FunctionDef) and s is not top]
        if not isinstance(top, ast.ClassDef):
            continue
        free = not {ast.unparse(b).rsplit(".", 1)[-1] for b in top.bases} & libraries
        for method in inner:
            if free and not method.startswith("__") and method not in used:
                methods.setdefault(method, f"act_{len(methods)}")
            else:
                kept.add(method)
    api = {"train", "eval", "step", "forward", "backward", "zero_grad", "update", "parameters"}
    api |= {"sample", "state_dict", "load_state_dict", "reset", "log_prob", "entropy", "mean"}
    methods = {k: v for k, v in methods.items() if k not in kept | api}

    def edit(tree: ast.Module) -> None:
        for node in ast.walk(tree):
            if isinstance(node, ast.Name):
                node.id = names.get(node.id, node.id)
            elif isinstance(node, ast.Attribute):
                node.attr = methods.get(node.attr, node.attr)
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    alias.name = names.get(alias.name, alias.name)
        for statement in tree.body:
            if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
                statement.name = names[statement.name]
            if isinstance(statement, ast.ClassDef):
                for method in statement.body:
                    if isinstance(method, ast.FunctionDef):
                        method.name = methods.get(method.name, method.name)

    return each_file(files, edit)


@rewriter
def whole_names(files: Files) -> Files:
    """`nn.Linear` becomes `torch.nn.Linear`, and so on."""
    whole = {"nn": "torch.nn", "F": "torch.nn.functional", "optim": "torch.optim"}

    def edit(tree: ast.Module) -> None:
        bound = {
            a.asname or a.name
            for s in ast.walk(tree)
            if isinstance(s, (ast.Import, ast.ImportFrom))
            for a in s.names
        }
        Replace({k: v for k, v in whole.items() if k in bound}).visit(tree)
        at_head(tree, "import torch.nn\nimport torch.nn.functional\nimport torch.optim")

    return each_file(files, edit)


@rewriter
def import_members(files: Files) -> Files:
    """What the library gives is imported one by one."""

    def edit(tree: ast.Module) -> None:
        _ = tree
        modules = {"nn": "torch.nn", "torch.nn": "torch.nn", "torch.optim": "torch.optim"}
        modules |= {"F": "torch.nn.functional", "optim": "torch.optim", "torch": "torch"}
        taken: dict[str, str] = {}

        class Members(ast.NodeTransformer):
            def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
                text = ast.unparse(node.value)
                plain = node.attr not in (
                    "nn",
                    "optim",
                    "utils",
                    "functional",
                    "distributed",
                    "amp",
                )
                lone = node.attr not in ("lr_scheduler", "multiprocessing", "cuda", "func")
                if text in modules and plain and lone and isinstance(node.ctx, ast.Load):
                    name = f"{node.attr}_of_{text.replace('.', '_')}"
                    taken[name] = f"from {modules[text]} import {node.attr} as {name}"
                    return ast.Name(name, ast.Load())
                self.generic_visit(node)
                return node

        Members().visit(tree)
        at_head(tree, *taken.values())

    return each_file(files, edit)


# --- calls -----------------------------------------------------------------------------


@rewriter
def methods_by_name(files: Files) -> Files:
    """`model.train()` becomes `getattr(model, 'train')()`."""

    def edit(tree: ast.Module) -> None:
        names = ("train", "eval", "step", "zero_grad", "backward", "parameters")
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                if node.func.attr in names and "super(" not in ast.unparse(node.func):
                    text = f"getattr(_, {node.func.attr!r})"
                    new = ast.parse(text, mode="eval").body
                    assert isinstance(new, ast.Call)
                    new.args[0] = node.func.value
                    node.func = new

    return each_file(files, edit)


@rewriter
def explicit_modes(files: Files) -> Files:
    """`train()` and `eval()` become `train(True)` and `train(False)`."""

    def edit(tree: ast.Module) -> None:
        own = {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Call)
                and called(node)[1] in ("train", "eval")
                and not node.args
            ):
                assert isinstance(node.func, ast.Attribute)
                if node.func.attr in own or node.keywords or "trainer" in called(node)[0]:
                    continue
                node.args = [ast.Constant(node.func.attr == "train")]
                node.func.attr = "train"

    return each_file(files, edit)


@rewriter
def starred_arguments(files: Files) -> Files:
    """The project's functions get their arguments from a tuple."""

    def edit(tree: ast.Module) -> None:
        known = functions_of(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in known and node.args:
                if not any(isinstance(a, ast.Starred) for a in node.args):
                    node.args = [ast.Starred(ast.Tuple(node.args, ast.Load()), ast.Load())]

    return each_file(files, edit)


@rewriter
def arguments_by_dict(files: Files) -> Files:
    """The project's functions get their arguments by name from a dict."""

    def edit(tree: ast.Module) -> None:
        known = functions_of(tree)
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            function = known.get(ast.unparse(node.func))
            if function is None or function.args.vararg or function.decorator_list:
                continue
            names = [a.arg for a in function.args.args][: len(node.args)]
            if len(names) == len(node.args) and not any(
                isinstance(a, ast.Starred) for a in node.args
            ):
                given = ast.Dict([ast.Constant(n) for n in names], node.args)
                node.args, node.keywords = [], [ast.keyword(None, given), *node.keywords]

    return each_file(files, edit)


@rewriter
def partial_calls(files: Files) -> Files:
    """`f(a, b)` becomes `partial(f, a)(b)` where f is the project's."""

    def edit(tree: ast.Module) -> None:
        known = functions_of(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in known and node.args:
                if isinstance(node.args[0], ast.Starred):
                    continue
                part = ast.Call(ast.Name("partial", ast.Load()), [node.func, node.args[0]], [])
                node.func, node.args = part, node.args[1:]
        at_head(tree, "from functools import partial")

    return each_file(files, edit)


@rewriter
def calls_in_lambdas(files: Files) -> Files:
    """Statements that only call run in a lambda."""

    def edit(tree: ast.Module) -> None:
        for block in list(blocks(tree)):
            for index, found in enumerate(block):
                if not isinstance(found, ast.Expr) or not isinstance(found.value, ast.Call):
                    continue
                text = ast.unparse(found)
                if "super(" not in text and "yield" not in text and called(found)[1]:
                    block[index] = parse_one(f"(lambda: {text})()")

    return each_file(files, edit)


@rewriter
def walrus(files: Files) -> Files:
    """`loss = f(x)` and the `loss.backward()` behind it are one expression."""

    def edit(tree: ast.Module) -> None:
        for block in list(blocks(tree)):
            for index in range(len(block) - 1, 0, -1):
                first, then = block[index - 1], block[index]
                if called(then)[1] != "backward" or not isinstance(first, ast.Assign):
                    continue
                name = first.targets[0]
                if isinstance(name, ast.Name) and called(then)[0] == name.id:
                    assert isinstance(then, ast.Expr)
                    assert isinstance(then.value, ast.Call)
                    assert isinstance(then.value.func, ast.Attribute)
                    then.value.func.value = ast.NamedExpr(name, first.value)
                    del block[index - 1]

    return each_file(files, edit)


@rewriter
def extract_values(files: Files) -> Files:
    """What is assigned from a call comes from a function of its own."""

    def edit(tree: ast.Module) -> None:
        known = set(dir(builtins)) | {
            n for s in tree.body for n in _bound_at_top(s) if not isinstance(s, ast.Assign)
        }
        made: Block = []
        for function in [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]:
            for block in blocks(function):
                for found in block:
                    if _movable(found) and len(made) < 40:
                        assert isinstance(found, ast.Assign)
                        names = sorted(body_names(found.value) - known)
                        name = f"value_{len(made)}"
                        text = f"def {name}({', '.join(names)}):\n    return None"
                        new = parse_one(text)
                        assert isinstance(new, ast.FunctionDef)
                        new.body = [ast.Return(found.value)]
                        made.append(new)
                        found.value = ast.parse(f"{name}({', '.join(names)})", mode="eval").body
        last = [i for i, s in enumerate(tree.body) if isinstance(s, (ast.Import, ast.ImportFrom))]
        at = last[-1] + 1 if last else 0
        tree.body[at:at] = made

    return each_file(files, edit)


def _bound_at_top(statement: ast.stmt) -> list[str]:
    if isinstance(statement, (ast.Import, ast.ImportFrom)):
        return [(a.asname or a.name).split(".")[0] for a in statement.names]
    return [statement.name] if isinstance(statement, (ast.FunctionDef, ast.ClassDef)) else []


def _movable(statement: ast.stmt) -> bool:
    if not isinstance(statement, ast.Assign) or not isinstance(statement.value, ast.Call):
        return False
    kinds = (ast.Lambda, ast.ListComp, ast.GeneratorExp, ast.DictComp, ast.Yield, ast.NamedExpr)
    free = not any(isinstance(n, kinds) for n in ast.walk(statement.value))
    return free and "super(" not in ast.unparse(statement)


def body_names(tree: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}


@rewriter
def inline_calls(files: Files) -> Files:
    """A call of a project's function that returns nothing is replaced by its body."""

    def edit(tree: ast.Module) -> None:
        known = {n: f for n, f in functions_of(tree).items() if _inlinable(f)}
        for block in list(blocks(tree)):
            for index in range(len(block) - 1, -1, -1):
                found = block[index]
                call = found.value if isinstance(found, ast.Expr) else None
                if not isinstance(call, ast.Call) or ast.unparse(call.func) not in known:
                    continue
                function = known[ast.unparse(call.func)]
                given = _given(function, call)
                if given is not None and not any(block is b for b in blocks(function)):
                    block[index : index + 1] = _body_for(function, given)

    return each_file(files, edit)


def _inlinable(function: ast.FunctionDef) -> bool:
    kinds = (ast.Return, ast.Yield, ast.Global, ast.Nonlocal, ast.FunctionDef, ast.Lambda)
    inner = [n for n in ast.walk(function) if n is not function]
    plain = not function.decorator_list and not function.args.vararg and not function.args.kwarg
    return plain and not any(isinstance(n, kinds) for n in inner)


def _given(function: ast.FunctionDef, call: ast.Call) -> dict[str, ast.expr] | None:
    names = [a.arg for a in function.args.args]
    if any(isinstance(a, ast.Starred) for a in call.args) or len(call.args) > len(names):
        return None
    given = dict(zip(names, call.args, strict=False))
    given |= {k.arg: k.value for k in call.keywords if k.arg}
    defaults = function.args.defaults
    for name, value in zip(names[len(names) - len(defaults) :], defaults, strict=True):
        given.setdefault(name, value)
    return given if set(given) == set(names) else None


def _body_for(function: ast.FunctionDef, given: dict[str, ast.expr]) -> Block:
    body = copy.deepcopy(function.body)
    local = {n for s in body for n in stored(s)} | set(given)
    names = {n: f"{function.name}_{n}" for n in local}
    for statement in body:
        for node in ast.walk(statement):
            if isinstance(node, ast.Name):
                node.id = names.get(node.id, node.id)
    starts: Block = [
        ast.Assign([ast.Name(names[n], ast.Store())], copy.deepcopy(v)) for n, v in given.items()
    ]
    return starts + body


# --- where things are kept ---------------------------------------------------------------


def _packed(files: Files, head: str, make: str, read: str) -> Files:
    """After an optimizer is made, it and its model are read from what packs them."""

    def edit(tree: ast.Module) -> None:
        if head:
            at_head(tree, head)
        for block in list(blocks(tree)):
            for index in range(len(block) - 1, -1, -1):
                found = block[index]
                if not isinstance(found, ast.Assign) or "torch.optim." not in ast.unparse(found):
                    continue
                optimizer = ast.unparse(found.targets[0])
                calls = [n for n in ast.walk(found.value) if isinstance(n, ast.Call)]
                owners = [called(c)[0] for c in calls if called(c)[1] == "parameters"]
                rest = block[index + 1 :]
                if len(set(owners)) != 1 or not owners[0].isidentifier():
                    continue
                model = owners[0]
                if not optimizer.isidentifier() or {model, optimizer} & _rebound(rest):
                    continue
                parts = f"parts_{optimizer}"
                new = {n: read.format(p=parts, n=n) for n in (model, optimizer)}
                block[index + 1 :] = [Replace(new).visit(s) for s in rest]
                block.insert(index + 1, parse_one(make.format(p=parts, m=model, o=optimizer)))

    return each_file(files, edit)


def _rebound(rest: Block) -> set[str]:
    inner = {a.arg for s in rest for a in ast.walk(s) if isinstance(a, ast.arg)}
    return inner | {n for s in rest for n in stored(s)}


@rewriter
def packed_in_a_dict(files: Files) -> Files:
    return _packed(files, "", "{p} = {{'{m}': {m}, '{o}': {o}}}", "{p}['{n}']")


@rewriter
def packed_in_a_namespace(files: Files) -> Files:
    head = "from types import SimpleNamespace"
    return _packed(files, head, "{p} = SimpleNamespace({m}={m}, {o}={o})", "{p}.{n}")


@rewriter
def packed_in_a_list(files: Files) -> Files:
    """The model and the optimizer come back from a tuple under other names."""

    def edit(tree: ast.Module) -> None:
        for block in list(blocks(tree)):
            for index in range(len(block) - 1, -1, -1):
                found = block[index]
                if not isinstance(found, ast.Assign) or "torch.optim." not in ast.unparse(found):
                    continue
                name = ast.unparse(found.targets[0])
                calls = [n for n in ast.walk(found.value) if isinstance(n, ast.Call)]
                owners = [called(c)[0] for c in calls if called(c)[1] == "parameters"]
                if len(set(owners)) == 1 and owners[0].isidentifier() and name.isidentifier():
                    texts = (f"both = [{owners[0]}, {name}]", f"{owners[0]}, {name} = both")
                    block[index + 1 : index + 1] = [parse_one(t) for t in texts]

    return each_file(files, edit)


@rewriter
def tuple_assignments(files: Files) -> Files:
    """Two assignments that do not need each other are one."""

    def edit(tree: ast.Module) -> None:
        for block in list(blocks(tree)):
            index = 0
            while index + 1 < len(block):
                a, b = block[index], block[index + 1]
                if isinstance(a, ast.Assign) and isinstance(b, ast.Assign):
                    target, other = a.targets[0], b.targets[0]
                    names = isinstance(target, ast.Name) and isinstance(other, ast.Name)
                    if names and target.id not in body_names(b.value):  # type: ignore[attr-defined]
                        both = ast.Tuple([target, other], ast.Store())
                        values = ast.Tuple([a.value, b.value], ast.Load())
                        block[index : index + 2] = [ast.Assign([both], values)]
                index += 1

    return each_file(files, edit)


@rewriter
def model_behind_property(files: Files) -> Files:
    """`self.model` of a class that is no module is a property."""

    def edit(tree: ast.Module) -> None:
        for node in ast.walk(tree):
            if not isinstance(node, ast.ClassDef) or "Module" in "".join(
                map(ast.unparse, node.bases)
            ):
                continue
            for name in ("model", "net", "vae", "actor"):
                stores = [
                    n
                    for n in ast.walk(node)
                    if isinstance(n, ast.Attribute)
                    and n.attr == name
                    and isinstance(n.ctx, (ast.Store, ast.Del))
                    and ast.unparse(n.value) == "self"
                ]
                for store in stores:
                    store.attr = f"_{name}"
                if stores:
                    text = f"@property\ndef {name}(self):\n    return self._{name}"
                    node.body.append(parse_one(text))

    return each_file(files, edit)


@rewriter
def static_methods(files: Files) -> Files | None:
    """The functions of a program are static methods of one class."""
    found = only_file(files)
    if found is None:
        return None
    name, tree = found
    chosen = {n: f for n, f in functions_of(tree).items() if not f.decorator_list}
    at_import = {n for s in tree.body if not isinstance(s, ast.FunctionDef) for n in body_names(s)}
    chosen = {n: f for n, f in chosen.items() if n not in at_import or n == "main"}
    if len(chosen) < 2:
        return None
    first = min(tree.body.index(f) for f in chosen.values())
    inside = [s for s in tree.body if s in list(chosen.values())]
    tree.body = [s for s in tree.body if s not in inside]
    tools = ast.ClassDef("Steps", [], [], list(inside), [])
    Replace({n: f"Steps.{n}" for n in chosen}).visit(tree)
    Replace({n: f"Steps.{n}" for n in chosen}).visit(tools)
    for function in inside:
        assert isinstance(function, ast.FunctionDef)
        function.decorator_list.append(ast.Name("staticmethod", ast.Load()))
    tree.body.insert(min(first, len(tree.body)), tools)
    return {name: written(tree)}


@rewriter
def global_variables(files: Files) -> Files | None:
    """What `main` and its like make is global."""
    found = only_file(files)
    if found is None:
        return None
    name, tree = found
    changed = False
    for function in functions_of(tree).values():
        if function.name not in ("main", "run", "train", "fit", "main_worker"):
            continue
        if any(isinstance(n, (ast.FunctionDef, ast.ListComp, ast.Nonlocal)) for n in function.body):
            continue
        made = [
            s.targets[0].id
            for s in function.body
            if isinstance(s, ast.Assign) and isinstance(s.targets[0], ast.Name)
        ]
        names = sorted(set(made) - {a.arg for a in function.args.args})
        if names:
            function.body.insert(0, parse_one(f"global {', '.join(names)}"))
            changed = True
    return {name: written(tree)} if changed else None


@rewriter
def nested_functions(files: Files) -> Files | None:
    """The functions of a program live inside the one that runs it."""
    found = only_file(files)
    if found is None:
        return None
    name, tree = found
    known = functions_of(tree)
    last = list(known.values())[-1:]
    if not last or len(known) < 2 or last[0].decorator_list:
        return None
    outside = {n for s in tree.body if not isinstance(s, ast.FunctionDef) for n in body_names(s)}
    inside = [f for f in known.values() if f is not last[0]]
    local = stored(last[0]) | {a.arg for a in last[0].args.args}
    if any(f.name in outside or f.name in local for f in inside):
        return None
    used = {n for f in known.values() for n in body_names(f)}
    if any(f.name not in used for f in inside):
        return None  # nobody could call it there
    tree.body = [s for s in tree.body if s not in inside]
    last[0].body[:0] = inside
    return {name: written(tree)}


@rewriter
def script_in_attributes(files: Files) -> Files | None:
    """A flat script is an object: what it makes are attributes, its loops a method."""
    found = only_file(files)
    if found is None:
        return None
    name, tree = found
    kinds = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
    script = [s for s in tree.body if not isinstance(s, kinds)]
    made = [s for s in script if isinstance(s, ast.Assign) and isinstance(s.targets[0], ast.Name)]
    names = {s.targets[0].id for s in made if isinstance(s.targets[0], ast.Name)}
    rest = [s for s in tree.body if s not in script]
    used = {n for s in rest for n in body_names(s)}
    if len(made) < 4 or names & used or any("__name__" in ast.unparse(s) for s in script):
        return None
    for node in (n for s in script for n in ast.walk(s)):
        if isinstance(node, (ast.ListComp, ast.Lambda, ast.GeneratorExp)):
            return None
    for statement in script:
        _ToSelf(names).visit(statement)
    at = next((i for i, s in enumerate(script) if isinstance(s, (ast.For, ast.Try))), len(script))
    init = parse_one("def __init__(self):\n    pass")
    run = parse_one("def run(self):\n    pass")
    assert isinstance(init, ast.FunctionDef)
    assert isinstance(run, ast.FunctionDef)
    init.body, run.body = script[:at] or init.body, script[at:] or run.body
    whole = ast.ClassDef("Experiment", [], [], [init, run], [])
    tree.body = [*rest, whole, parse_one("Experiment().run()")]
    return {name: written(tree)}


class _ToSelf(ast.NodeTransformer):
    def __init__(self, names: set[str]) -> None:
        self.names = names

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id in self.names:
            return ast.Attribute(ast.Name("self", ast.Load()), node.id, node.ctx)
        return node
