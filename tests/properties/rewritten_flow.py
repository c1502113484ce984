"""Rewrites of control flow: loops, conditions, contexts, and what stands between statements."""

from __future__ import annotations

import ast

from tests.properties.edits import Block, Files, blocks, called, is_call, parse_one
from tests.properties.rewriters import each_file, rewriter


def at_head(tree: ast.Module, *texts: str) -> None:
    """Put statements behind the docstring and the imports from the future."""
    at = 0
    for index, statement in enumerate(tree.body[:2]):
        doc = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        future = isinstance(statement, ast.ImportFrom) and statement.module == "__future__"
        at = index + 1 if doc or future else at
    tree.body[at:at] = [s for text in texts for s in ast.parse(text).body]


def own_jumps(loop: ast.stmt, kinds: tuple[type[ast.stmt], ...]) -> bool:
    """Whether a loop holds a `break` or `continue` of its own."""
    todo: list[ast.AST] = list(loop.body)  # type: ignore[attr-defined]
    while todo:
        node = todo.pop()
        if isinstance(node, kinds):
            return True
        if not isinstance(node, (ast.For, ast.While, ast.FunctionDef)):
            todo.extend(ast.iter_child_nodes(node))
    return False


@rewriter
def next_in_while(files: Files) -> Files:
    """`for x in xs` asks an iterator for the next until it has none."""

    def edit(tree: ast.Module) -> None:
        count = 0
        for block in list(blocks(tree)):
            for index in range(len(block) - 1, -1, -1):
                loop = block[index]
                if (
                    not isinstance(loop, ast.For)
                    or loop.orelse
                    or "range(" in ast.unparse(loop.iter)
                ):
                    continue
                count += 1
                items, target = f"items_{count}", ast.unparse(loop.target)
                new = parse_one(
                    f"while True:\n    try:\n        {target} = next({items})\n"
                    "    except StopIteration:\n        break"
                )
                assert isinstance(new, ast.While)
                new.body.extend(loop.body)
                start = parse_one(f"{items} = iter({ast.unparse(loop.iter)})")
                block[index : index + 1] = [start, new]

    return each_file(files, edit)


@rewriter
def count_in_while(files: Files) -> Files:
    """`for epoch in range(n)` counts by hand."""

    def edit(tree: ast.Module) -> None:
        for block in list(blocks(tree)):
            for index in range(len(block) - 1, -1, -1):
                loop = block[index]
                if not isinstance(loop, ast.For) or called(loop.iter)[1]:
                    continue
                call = loop.iter
                if not isinstance(call, ast.Call) or ast.unparse(call.func) != "range":
                    continue
                if len(call.args) > 2 or own_jumps(loop, (ast.Continue,)):
                    continue
                start, stop = ("0", *map(ast.unparse, call.args))[-2:]
                name = ast.unparse(loop.target)
                new = parse_one(f"while {name} < {stop}:\n    pass")
                assert isinstance(new, ast.While)
                new.body = [*loop.body, parse_one(f"{name} += 1")]
                block[index : index + 1] = [parse_one(f"{name} = {start}"), new]

    return each_file(files, edit)


@rewriter
def skip_empty(files: Files) -> Files:
    """Loops over batches go on at once where there is none."""

    def edit(tree: ast.Module) -> None:
        for node in ast.walk(tree):
            if isinstance(node, ast.For) and isinstance(node.iter, (ast.Name, ast.Attribute)):
                name = next(n.id for n in ast.walk(node.target) if isinstance(n, ast.Name))
                node.body.insert(0, parse_one(f"if {name} is None:\n    continue"))

    return each_file(files, edit)


def _is_off(node: ast.AST) -> bool:
    return isinstance(node, ast.With) and ast.unparse(node.items[0].context_expr) in (
        "torch.no_grad()",
        "torch.inference_mode()",
    )


@rewriter
def context_as_decorator(files: Files) -> Files:
    """A function that switches gradients off and has no backward does so by its decorator."""

    def edit(tree: ast.Module) -> None:
        for node in ast.walk(tree):
            if not isinstance(node, ast.FunctionDef) or not node.body:
                continue
            text = ast.unparse(node)
            if any(word in text for word in ("backward(", "yield", ".grad(", "requires_grad_")):
                continue
            offs = [s for s in node.body if _is_off(s)]
            if len(offs) != 1:
                continue
            (off,) = offs
            assert isinstance(off, ast.With)
            at = node.body.index(off)
            node.body[at : at + 1] = off.body
            node.decorator_list.append(off.items[0].context_expr)

    return each_file(files, edit)


@rewriter
def decorator_as_context(files: Files) -> Files:
    def edit(tree: ast.Module) -> None:
        for node in ast.walk(tree):
            if not isinstance(node, ast.FunctionDef) or len(node.decorator_list) != 1:
                continue
            text = ast.unparse(node.decorator_list[0])
            if text in ("torch.no_grad()", "torch.inference_mode()"):
                new = parse_one(f"with {text}:\n    pass")
                assert isinstance(new, ast.With)
                new.body, node.body, node.decorator_list = node.body, [new], []

    return each_file(files, edit)


def contexts(files: Files, head: str, change: object) -> Files:
    def edit(tree: ast.Module) -> None:
        assert callable(change)
        if head:
            at_head(tree, head)
        for block in list(blocks(tree)):
            for index in range(len(block) - 1, -1, -1):
                found = block[index]
                if isinstance(found, ast.With) and _is_off(found) and len(found.items) == 1:
                    block[index : index + 1] = change(found)

    return each_file(files, edit)


@rewriter
def context_in_a_name(files: Files) -> Files:
    def change(found: ast.With) -> Block:
        made = parse_one(f"without = {ast.unparse(found.items[0].context_expr)}")
        found.items[0].context_expr = ast.Name("without", ast.Load())
        return [made, found]

    return contexts(files, "", change)


@rewriter
def context_on_a_stack(files: Files) -> Files:
    def change(found: ast.With) -> Block:
        enter = parse_one(f"stack.enter_context({ast.unparse(found.items[0].context_expr)})")
        new = parse_one("with contextlib.ExitStack() as stack:\n    pass")
        assert isinstance(new, ast.With)
        new.body = [enter, *found.body]
        return [new]

    return contexts(files, "import contextlib", change)


@rewriter
def context_beside_another(files: Files) -> Files:
    def change(found: ast.With) -> Block:
        other = ast.parse("contextlib.nullcontext()", mode="eval").body
        found.items.append(ast.withitem(other))
        return [found]

    return contexts(files, "import contextlib", change)


@rewriter
def context_by_hand(files: Files) -> Files:
    """Gradients are switched off and put back as they were."""

    def change(found: ast.With) -> Block:
        new = parse_one("try:\n    pass\nfinally:\n    torch.set_grad_enabled(before)")
        assert isinstance(new, ast.Try)
        new.body = found.body
        head = ("before = torch.is_grad_enabled()", "torch.set_grad_enabled(False)")
        return [*map(parse_one, head), new]

    return contexts(files, "", change)


@rewriter
def set_grad_enabled_for_no_grad(files: Files) -> Files:
    def change(found: ast.With) -> Block:
        call = "torch.set_grad_enabled(False)"
        found.items[0].context_expr = ast.parse(call, mode="eval").body
        return [found]

    return contexts(files, "", change)


@rewriter
def turn_conditions(files: Files) -> Files:
    """`if a: b else: c` becomes `if not a: c else: b`."""

    def edit(tree: ast.Module) -> None:
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and node.orelse:
                node.test = ast.UnaryOp(ast.Not(), node.test)
                node.body, node.orelse = node.orelse, node.body

    return each_file(files, edit)


@rewriter
def calls_by_condition(files: Files) -> Files:
    """`if a: b()` becomes `b() if a else None`."""

    def edit(tree: ast.Module) -> None:
        for block in list(blocks(tree)):
            for index, node in enumerate(block):
                if not isinstance(node, ast.If) or len(node.body) != 1 or len(node.orelse) > 1:
                    continue
                both = [*node.body, *node.orelse]
                if not all(isinstance(s, ast.Expr) for s in both):
                    continue
                values = [s.value for s in both if isinstance(s, ast.Expr)]
                other = values[1] if len(values) == 2 else ast.Constant(None)
                block[index] = ast.Expr(ast.IfExp(node.test, values[0], other))

    return each_file(files, edit)


@rewriter
def stopped_by_the_keyboard(files: Files) -> Files:
    """Loops over epochs may be stopped, and then say so."""

    def edit(tree: ast.Module) -> None:
        for block in list(blocks(tree)):
            for index, node in enumerate(block):
                if isinstance(node, ast.For) and "range(" in ast.unparse(node.iter):
                    new = parse_one(
                        "try:\n    pass\nexcept KeyboardInterrupt:\n    print('stopped')\n    raise"
                    )
                    assert isinstance(new, ast.Try)
                    new.body = [node]
                    block[index] = new

    return each_file(files, edit)


@rewriter
def check_values(files: Files) -> Files:
    """What goes backward is checked and printed first."""

    def edit(tree: ast.Module) -> None:
        for block in list(blocks(tree)):
            for index in range(len(block) - 1, -1, -1):
                found = block[index]
                if not is_call("backward")(found) or _is_scaled(found) or found.value.args:  # type: ignore[attr-defined]
                    continue
                name = called(found)[0]
                texts = (
                    f"if not torch.isfinite({name}).all():\n    raise ValueError(f'loss {{{name}}}')",
                    f"assert {name}.dim() == 0",
                    f"print(f'loss {{{name}.item():.4f}}', float({name}.detach()))",
                )
                block[index:index] = [parse_one(t) for t in texts]

    return each_file(files, edit)


def _is_scaled(statement: ast.stmt) -> bool:
    return not called(statement)[0].replace(".", "").replace("_", "").isalnum()


@rewriter
def resume_where_asked(files: Files) -> Files:
    """After an optimizer is made, its state is read if the user says so."""

    def edit(tree: ast.Module) -> None:
        at_head(tree, "import os")
        for block in list(blocks(tree)):
            for index in range(len(block) - 1, -1, -1):
                found = block[index]
                if not isinstance(found, ast.Assign) or "torch.optim." not in ast.unparse(found):
                    continue
                name = ast.unparse(found.targets[0])
                if "lr_scheduler" in ast.unparse(found) or "opt" not in name:
                    continue
                resume = f"    {name}.load_state_dict(torch.load(os.environ['RESUME']))"
                block.insert(index + 1, parse_one(f"if os.environ.get('RESUME'):\n{resume}"))

    return each_file(files, edit)


@rewriter
def move_to_device(files: Files) -> Files:
    """A model goes to its device before the optimizer takes its parameters."""

    def edit(tree: ast.Module) -> None:
        for block in list(blocks(tree)):
            for index in range(len(block) - 1, -1, -1):
                found = block[index]
                if not isinstance(found, ast.Assign) or "torch.optim." not in ast.unparse(found):
                    continue
                calls = [n for n in ast.walk(found.value) if isinstance(n, ast.Call)]
                owners = [called(c)[0] for c in calls if called(c)[1] == "parameters"]
                if len(owners) == 1 and owners[0].isidentifier():
                    where = "'cuda' if torch.cuda.is_available() else 'cpu'"
                    block.insert(index, parse_one(f"{owners[0]} = {owners[0]}.to(device={where})"))

    return each_file(files, edit)


@rewriter
def through_a_generator(files: Files) -> Files:
    """Loops run over a generator that gives what it is given."""

    def edit(tree: ast.Module) -> None:
        for node in ast.walk(tree):
            if isinstance(node, ast.For) and "range(" not in ast.unparse(node.iter):
                node.iter = ast.Call(ast.Name("each_of", ast.Load()), [node.iter], [])
        at_head(tree, "def each_of(items):\n    for item in items:\n        yield item")

    return each_file(files, edit)
