"""Rewrites that leave a program's meaning as it is, and so may not change what is found."""

from __future__ import annotations

import ast
import builtins
import json
from collections.abc import Callable
from typing import NamedTuple

from tests.properties.edits import Block, Files, blocks, called, parse_one, written

Rewrite = Callable[[Files], "Files | None"]
REWRITERS: dict[str, Rewrite] = {}


def rewriter(make: Rewrite) -> Rewrite:
    """Add a function to the table."""
    REWRITERS[make.__name__] = make
    return make


def each_file(files: Files, edit: Callable[[ast.Module], None]) -> Files:
    result = {}
    for name, text in files.items():
        tree = ast.parse(text)
        edit(tree)
        result[name] = written(tree)
    return result


def _is_definition(statement: ast.stmt) -> bool:
    return isinstance(statement, (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef))


def only_file(files: Files) -> tuple[str, ast.Module] | None:
    """The one file of a program that has no others."""
    if len(files) != 1:
        return None
    ((name, text),) = files.items()
    return name, ast.parse(text)


NEW_NAMES = {
    "model": "network",
    "net": "mlp",
    "student": "small",
    "teacher": "big",
    "optimizer": "adam_like",
    "opt": "o",
    "loss": "cost",
    "outputs": "scores",
    "output": "result_now",
    "scheduler": "lr_plan",
    "criterion": "measure",
    "trainer": "runner",
    "loss_fn": "cost_fn",
}


@rewriter
def rename_variables(files: Files) -> Files:
    """Local names change; names that are also keywords or attributes stay."""
    nodes = [node for text in files.values() for node in ast.walk(ast.parse(text))]
    used = {node.arg for node in nodes if isinstance(node, ast.keyword)}
    names = {old: new for old, new in NEW_NAMES.items() if old not in used}

    def edit(tree: ast.Module) -> None:
        for node in ast.walk(tree):
            if isinstance(node, ast.Name):
                node.id = names.get(node.id, node.id)
            elif isinstance(node, ast.arg):
                node.arg = names.get(node.arg, node.arg)

    return each_file(files, edit)


@rewriter
def wrap_in_if_true(files: Files) -> Files:
    def edit(tree: ast.Module) -> None:
        for block in list(blocks(tree)):
            for index, statement in enumerate(block):
                if isinstance(statement, (ast.For, ast.With)):
                    block[index] = ast.If(ast.Constant(True), [statement], [])

    return each_file(files, edit)


@rewriter
def wrap_in_try(files: Files) -> Files:
    def edit(tree: ast.Module) -> None:
        for block in list(blocks(tree)):
            for index, statement in enumerate(block):
                if isinstance(statement, ast.For):
                    last = [parse_one("print('done')")]
                    block[index] = ast.Try([statement], [], [], last)

    return each_file(files, edit)


@rewriter
def add_unrelated(files: Files) -> Files:
    """Logging, counters and timing between all statements."""
    texts = ("noticed = 0", "noticed = len('ab') + 1", "print('at', noticed)", "import time")

    def edit(tree: ast.Module) -> None:
        for block in list(blocks(tree)):
            count = len(block)
            for index in range(count, 0, -1):
                last = block[index - 1]
                if isinstance(last, (ast.Return, ast.ImportFrom)):
                    continue
                block.insert(index, parse_one(texts[(index + count) % 4]))
                block.insert(index, parse_one("noticed = 1"))

    return each_file(files, edit)


@rewriter
def log_everything(files: Files) -> Files:
    """A logger gets the epoch and the loss as a number after each step."""

    def edit(tree: ast.Module) -> None:
        for block in list(blocks(tree)):
            for index in range(len(block), 0, -1):
                method = called(block[index - 1])[1]
                if method in ("step", "train", "eval") and isinstance(block[index - 1], ast.Expr):
                    block.insert(index, parse_one("logging.getLogger('run').info('step done')"))
        tree.body.insert(0, parse_one("import logging"))

    return each_file(files, edit)


@rewriter
def into_main(files: Files) -> Files | None:
    """A flat script becomes a function behind the usual guard."""
    found = only_file(files)
    if found is None:
        return None
    name, tree = found
    script = [s for s in tree.body if not _is_definition(s)]
    if any(isinstance(s, ast.If) for s in script) or len(script) < 4 or closes_over(tree, script):
        return None
    body = [s for s in tree.body if _is_definition(s)]
    main = _function("main_program", [], script)
    tree.body = [*body, main, parse_one("if __name__ == '__main__':\n    main_program()")]
    return {name: written(tree)}


def closes_over(tree: ast.Module, script: Block) -> bool:
    """Whether functions use the script's variables."""
    made = {name for statement in script for name in stored(statement)}
    functions = [s for s in tree.body if isinstance(s, (ast.FunctionDef, ast.ClassDef))]
    local = [{a.arg for a in ast.walk(f) if isinstance(a, ast.arg)} | stored(f) for f in functions]
    return any(
        n.id in made - mine
        for f, mine in zip(functions, local, strict=True)
        for n in ast.walk(f)
        if isinstance(n, ast.Name)
    )


def stored(tree: ast.AST) -> set[str]:
    names = [n for n in ast.walk(tree) if isinstance(n, ast.Name)]
    return {n.id for n in names if isinstance(n.ctx, ast.Store)}


@rewriter
def into_class(files: Files) -> Files | None:
    """A flat script becomes the method of an object."""
    done = into_main(files)
    if done is None:
        return None
    ((name, text),) = done.items()
    tree = ast.parse(text)
    main = tree.body[-2]
    assert isinstance(main, ast.FunctionDef)
    main.name = "run"
    main.args.args = [ast.arg("self")]
    experiment = ast.ClassDef("Experiment", [], [], [main], [])
    tree.body[-2:] = [experiment, parse_one("Experiment().run()")]
    return {name: written(tree)}


class Parted(NamedTuple):
    """A program of one file, with what can go to a file of its own."""

    name: str
    imports: list[ast.stmt]
    moved: list[ast.FunctionDef | ast.ClassDef]
    rest: list[ast.stmt]


def parted(files: Files) -> Parted | None:
    """Functions and classes apart from what runs them; None if they need each other."""
    found = only_file(files)
    if found is None:
        return None
    name, tree = found
    imports = [s for s in tree.body if isinstance(s, (ast.Import, ast.ImportFrom))]
    made = [s for s in tree.body if isinstance(s, (ast.FunctionDef, ast.ClassDef))]
    moved = [s for s in made if s.name != "main"]
    rest = [s for s in tree.body if s not in moved and s not in imports]
    if not moved or not rest or closes_over(tree, rest):
        return None
    return Parted(name, imports, moved, rest)


@rewriter
def split_files(files: Files) -> Files | None:
    """Functions and classes go to a module of their own."""
    found = parted(files)
    if found is None:
        return None
    name, imports, moved, rest = found
    bring = ast.ImportFrom("parts_of_it", [ast.alias(s.name) for s in moved], 0)
    parts = written(ast.Module([*imports, *moved], []))
    return {name: written(ast.Module([*imports, bring, *rest], [])), "parts_of_it.py": parts}


@rewriter
def keyword_arguments(files: Files) -> Files:
    """Arguments that libraries name are given by name."""

    def edit(tree: ast.Module) -> None:
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            method = called(node)[1]
            if method == "zero_grad" and not node.keywords:
                node.keywords = [ast.keyword("set_to_none", ast.Constant(True))]
            elif method in ("Adam", "AdamW", "SGD", "RMSprop", "LBFGS", "Adadelta") and node.args:
                node.keywords.insert(0, ast.keyword("params", node.args.pop(0)))
            elif method == "train" and not node.args:
                node.keywords = [ast.keyword("mode", ast.Constant(True))]
            elif method in ("cross_entropy", "mse_loss", "nll_loss") and len(node.args) == 2:
                node.keywords[:0] = [
                    ast.keyword(k, v) for k, v in zip(("input", "target"), node.args, strict=True)
                ]
                node.args = []

    return each_file(files, edit)


@rewriter
def alias_imports(files: Files) -> Files:
    """`import torch` becomes `import torch as th`, and so on."""
    aliases = {"torch": "th", "nn": "layers", "F": "fun", "optim": "optimizers", "models": "zoo"}

    def edit(tree: ast.Module) -> None:
        renamed: dict[str, str] = {}
        dotted = {
            a.name.split(".")[0]
            for s in ast.walk(tree)
            if isinstance(s, ast.Import)
            for a in s.names
            if "." in a.name and a.asname is None
        }
        for statement in ast.walk(tree):
            if isinstance(statement, (ast.Import, ast.ImportFrom)):
                for alias in statement.names:
                    bound = alias.asname or alias.name
                    if bound in aliases and bound not in dotted:
                        alias.asname = renamed[bound] = aliases[bound]
        for node in ast.walk(tree):
            if isinstance(node, ast.Name):
                node.id = renamed.get(node.id, node.id)

    return each_file(files, edit)


TIMED = """
def timed(function):
    @functools.wraps(function)
    def inner(*args, **kwargs):
        start = clock.time()
        result = function(*args, **kwargs)
        print(function.__name__, clock.time() - start)
        return result
    return inner
"""


@rewriter
def decorate(files: Files) -> Files:
    """Every function of a file is timed."""

    def edit(tree: ast.Module) -> None:
        functions = [s for s in tree.body if isinstance(s, ast.FunctionDef)]
        if not functions:
            return
        for function in functions:
            function.decorator_list.insert(0, ast.Name("timed", ast.Load()))
        head = ast.parse("import functools\nimport time as clock\n" + TIMED).body
        kinds = (ast.FunctionDef, ast.ClassDef)
        at = next((i for i, s in enumerate(tree.body) if isinstance(s, kinds)), 0)
        tree.body[at:at] = head

    return each_file(files, edit)


@rewriter
def as_notebook(files: Files) -> Files | None:
    """Every statement at the top becomes a cell."""
    found = only_file(files)
    if found is None:
        return None
    name, tree = found
    cells = [
        {
            "cell_type": "code",
            "metadata": {},
            "outputs": [],
            "execution_count": None,
            "source": ast.unparse(s).splitlines(keepends=True),
        }
        for s in tree.body
    ]
    kernel = {"kernelspec": {"language": "python", "name": "python3", "display_name": "Python 3"}}
    book = {"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
    return {name.replace(".py", ".ipynb"): json.dumps(book)}


@rewriter
def extract_function(files: Files) -> Files:
    """Neighbouring calls without a result (backward, clip, step) move into a function."""

    def edit(tree: ast.Module) -> None:
        known = {n for s in tree.body for n in _bound(s) if _is_definition(s)} | set(dir(builtins))
        made: list[ast.stmt] = []
        for block in list(blocks(tree)):
            start = 0
            while start < len(block):
                end = start
                while end < len(block) and _extractable(block[end]):
                    end += 1
                if end - start >= 2:
                    name = f"do_part_{len(made)}"
                    run = block[start:end]
                    names = sorted(_loads(run) - known)
                    made.append(_function(name, names, run))
                    block[start:end] = [parse_one(f"{name}({', '.join(names)})")]
                start = max(end, start) + 1
        kinds = (ast.Import, ast.ImportFrom)
        at = next((i for i, s in enumerate(tree.body) if not isinstance(s, kinds)), 0)
        tree.body[at:at] = made

    return each_file(files, edit)


def _bound(statement: ast.stmt) -> list[str]:
    if isinstance(statement, (ast.Import, ast.ImportFrom)):
        return [(a.asname or a.name).split(".")[0] for a in statement.names]
    return [statement.name] if isinstance(statement, (ast.FunctionDef, ast.ClassDef)) else []


def _extractable(statement: ast.stmt) -> bool:
    """A call whose result is dropped, outside methods and constructors."""
    if not isinstance(statement, ast.Expr) or not called(statement)[1]:
        return False
    text = ast.unparse(statement)
    return "super(" not in text and "self" not in text and "parser" not in text


def _loads(run: Block) -> set[str]:
    return {n.id for s in run for n in ast.walk(s) if isinstance(n, ast.Name)}


def _function(name: str, names: list[str], run: Block) -> ast.stmt:
    made = parse_one(f"def {name}({', '.join(names)}):\n    pass")
    assert isinstance(made, ast.FunctionDef)
    made.body = list(run)
    return made


@rewriter
def through_temporaries(files: Files) -> Files:
    """`x = f(y)` becomes `held = f(y); x = held`."""

    def edit(tree: ast.Module) -> None:
        for block in list(blocks(tree)):
            for index in range(len(block) - 1, -1, -1):
                found = block[index]
                if isinstance(found, ast.Assign) and isinstance(found.value, ast.Call):
                    if not isinstance(found.targets[0], ast.Name):
                        continue
                    new = ast.Assign([ast.Name("held", ast.Store())], found.value)
                    found.value = ast.Name("held", ast.Load())
                    block.insert(index, new)

    return each_file(files, edit)


@rewriter
def annotate(files: Files) -> Files:
    """Simple assignments get a type, functions a docstring."""

    def edit(tree: ast.Module) -> None:
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                node.body.insert(0, parse_one("'''What it does.'''"))
                for argument in node.args.args:
                    if argument.arg != "self":
                        argument.annotation = ast.Constant("object")
        for block in list(blocks(tree)):
            for index, found in enumerate(block):
                if isinstance(found, ast.Assign) and isinstance(found.targets[0], ast.Name):
                    kind = ast.Constant("object")
                    block[index] = ast.AnnAssign(found.targets[0], kind, found.value, 1)

    return each_file(files, edit)


@rewriter
def progress_bars(files: Files) -> Files:
    """Loops run over tqdm."""

    def edit(tree: ast.Module) -> None:
        for node in ast.walk(tree):
            if isinstance(node, ast.For) and isinstance(node.iter, (ast.Name, ast.Attribute)):
                node.iter = ast.Call(ast.Name("tqdm", ast.Load()), [node.iter], [])
        at = 1 if isinstance(tree.body[0], ast.Expr) else 0
        tree.body.insert(at, parse_one("from tqdm.auto import tqdm"))

    return each_file(files, edit)


@rewriter
def functions_last_first(files: Files) -> Files:
    """Definitions change their order."""

    def edit(tree: ast.Module) -> None:
        at = [i for i, s in enumerate(tree.body) if isinstance(s, ast.FunctionDef)]
        turned = [tree.body[i] for i in reversed(at)]
        for index, function in zip(at, turned, strict=True):
            tree.body[index] = function

    return each_file(files, edit)
