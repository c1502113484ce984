"""Defects that stand in the wrong place: moved, or in the wrong loop, block or order."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.properties.edits import (
    Block,
    called,
    each,
    each_node,
    is_call,
    is_optimizer_name,
    parse_one,
    spots,
    written,
)
from tests.properties.mutators import mutator

EVALUATIONS = ("evaluat", "valid", "accuracy", "score", "test(", "translate", "estimate")
LOOPS = (ast.For, ast.While)


def _has_backward(tree: ast.AST) -> bool:
    return any(is_call("backward")(s) for s in ast.walk(tree) if isinstance(s, ast.stmt))


def _evaluates(statement: ast.stmt) -> bool:
    if not isinstance(statement, (ast.Assign, ast.Expr)):
        return False
    calls = [ast.unparse(n.func) + "(" for n in ast.walk(statement) if isinstance(n, ast.Call)]
    text = ast.unparse(statement)
    return "eval()" not in text and any(name in call for call in calls for name in EVALUATIONS)


@mutator("train-in-eval-mode", harmless_in="mean_teacher fabric_loop")
def evaluate_within_the_epoch(source: str) -> Iterator[str]:
    """What is evaluated after the loop over batches is evaluated after each batch."""

    def edit(tree: ast.Module, block: Block, index: int) -> bool:
        loops = [s for s in block[:index] if isinstance(s, LOOPS) and _has_backward(s)]
        if not loops or "def " in ast.unparse(block[index]):
            return False
        loops[-1].body.append(block.pop(index))
        return True

    yield from each(source, _evaluates, edit)


@mutator("train-in-eval-mode")
def train_before_the_epochs(source: str) -> Iterator[str]:
    """`model.train()` leaves the loop over epochs, wherever in its body it stood."""

    def wanted(statement: ast.stmt) -> bool:
        return isinstance(statement, LOOPS) and any(is_call("train")(s) for s in statement.body)

    def edit(tree: ast.Module, block: Block, index: int) -> bool:
        body = block[index].body  # type: ignore[attr-defined]
        at = next(i for i, s in enumerate(body) if is_call("train")(s))
        evaluates = any(_evaluates(s) or is_call("eval")(s) for s in body)
        if at == 0 or not evaluates or not _has_backward(block[index]):
            return False  # at the head of the loop: `train_once_before_all`
        block.insert(index, body.pop(at))
        return True

    yield from each(source, wanted, edit)


@mutator("missing-zero-grad")
def zero_grad_before_the_loop(source: str) -> Iterator[str]:
    def wanted(statement: ast.stmt) -> bool:
        return (
            isinstance(statement, LOOPS)
            and any(is_call("backward")(s) for s in statement.body)
            and any(is_call("zero_grad")(s) for s in statement.body)
        )

    def edit(tree: ast.Module, block: Block, index: int) -> bool:
        body = block[index].body  # type: ignore[attr-defined]
        at = next(i for i, s in enumerate(body) if is_call("zero_grad")(s))
        block.insert(index, body.pop(at))
        return True

    yield from each(source, wanted, edit)


@mutator("zero-grad-wipes-gradients", "step-before-backward", "missing-zero-grad")
def step_after_the_loop(source: str) -> Iterator[str]:
    """The optimizer steps once, after the loop over batches."""

    def wanted(statement: ast.stmt) -> bool:
        return (
            isinstance(statement, LOOPS)
            and any(is_call("backward")(s) for s in statement.body)
            and any(is_call("zero_grad")(s) for s in statement.body)
        )

    def edit(tree: ast.Module, block: Block, index: int) -> bool:
        body = block[index].body  # type: ignore[attr-defined]
        steps = [s for s in body if is_call("step")(s) and is_optimizer_name(called(s)[0])]
        if not steps:
            return False
        body.remove(steps[-1])
        block.insert(index + 1, steps[-1])
        return True

    yield from each(source, wanted, edit)


@mutator("clip-before-unscale")
def unscale_after_clipping(source: str) -> Iterator[str]:
    def edit(tree: ast.Module, block: Block, index: int) -> bool:
        for at in range(index + 1, len(block)):
            if "clip_grad" in ast.unparse(block[at]):
                block.insert(at, block.pop(index))
                return True
        return False

    yield from each(source, is_call("unscale_"), edit)


@mutator(
    "backward-under-no-grad",
    "no-grad-not-entered",
    harmless_in="closures:0 phases:0 multi_task simclr_probe:1",
)
def no_grad_on_the_training_function(source: str) -> Iterator[str]:
    def wanted(node: ast.AST) -> bool:
        return isinstance(node, ast.FunctionDef) and _has_backward(node)

    def edit(node: ast.AST) -> None:
        assert isinstance(node, ast.FunctionDef)
        node.decorator_list.append(ast.parse("torch.no_grad()", mode="eval").body)

    yield from each_node(source, wanted, edit)


def _forward_before_backward(block: Block, index: int) -> int | None:
    """Where the nearest name is assigned that the loss of this backward is computed from."""
    loss = next((i for i in range(index - 1, -1, -1) if isinstance(block[i], ast.Assign)), None)
    if loss is None:
        return None
    used = {n.id for n in ast.walk(block[loss]) if isinstance(n, ast.Name)}
    for at in range(loss - 1, -1, -1):
        found = block[at]
        if isinstance(found, ast.Assign) and isinstance(found.value, ast.Call):
            target = found.targets[0]
            forward = isinstance(found.value.func, (ast.Name, ast.Attribute))
            name = ast.unparse(found.value.func)
            plain = forward and not name.startswith(("torch.", "F.", "nn."))
            plain = plain and not name.endswith((".to", ".cuda", ".float"))
            if plain and isinstance(target, ast.Name) and target.id in used:
                return at
    return None


@mutator(
    "backward-under-no-grad",
    "loss-detached",
    "step-before-backward",
    harmless_in="distill:0 mean_teacher:0 gan:0",
)
def forward_under_no_grad(source: str) -> Iterator[str]:
    def edit(tree: ast.Module, block: Block, index: int) -> bool:
        at = _forward_before_backward(block, index)
        if at is None:
            return False
        off = parse_one("with torch.no_grad():\n    pass")
        assert isinstance(off, ast.With)
        off.body = [block[at]]
        block[at] = off
        return True

    yield from each(source, is_call("backward"), edit)


@mutator("loss-detached", "step-before-backward", harmless_in="distill:0 mean_teacher:0 gan:0")
def detach_output(source: str) -> Iterator[str]:
    def edit(tree: ast.Module, block: Block, index: int) -> bool:
        at = _forward_before_backward(block, index)
        if at is None:
            return False
        found = block[at]
        assert isinstance(found, ast.Assign)
        found.value = ast.Call(ast.Attribute(found.value, "detach", ast.Load()), [], [])
        return True

    yield from each(source, is_call("backward"), edit)


@mutator(
    "train-in-eval-mode",
    # Evaluated under one condition and left under another: two that nothing relates.
    harmless_in="actor_critic hf_trainer lora_tiny mean_teacher:1 two_groups feature_distill",
)
def return_before_restoring(source: str) -> Iterator[str]:
    """An early return stands between `eval()` and the `train()` that puts it right."""

    def edit(tree: ast.Module, block: Block, index: int) -> bool:
        if not any(is_call("eval")(s) for s in block[:index]):
            return False
        if not any(block is f.body for f in ast.walk(tree) if isinstance(f, ast.FunctionDef)):
            return False
        block.insert(index, parse_one("if torch.rand(()) < 0.5:\n    return None"))
        return True

    yield from each(source, is_call("train"), edit)


@mutator("optimizer-misses-params", "optimizer-over-frozen-params")
def keep_the_first_optimizer(source: str) -> Iterator[str]:
    """What is unfrozen is in no optimizer, since the second one is never made."""
    count = len(_second_optimizers(ast.parse(source)))
    for at in range(count):
        tree = ast.parse(source)
        block, index = _second_optimizers(tree)[at]
        del block[index]
        yield written(tree)


def _second_optimizers(tree: ast.Module) -> list[tuple[Block, int]]:
    def makes(statement: ast.stmt) -> bool:
        return (
            isinstance(statement, ast.Assign)
            and is_optimizer_name(ast.unparse(statement.targets[0]))
            and "parameters()" in ast.unparse(statement)
        )

    def name(statement: ast.stmt) -> str:
        return ast.unparse(statement.targets[0])  # type: ignore[attr-defined]

    return [
        (b, i)
        for b, i in spots(tree, makes)
        if any(makes(s) and name(s) == name(b[i]) for s in b[:i])
    ]
