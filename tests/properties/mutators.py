"""Defects put into healthy programs, one at a time, with the rules that may tell them."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.properties.edits import (
    Block,
    blocks,
    called,
    each,
    each_node,
    is_call,
    is_optimizer_name,
    parse_one,
    written,
)

Make = Callable[[str], Iterator[str]]


@dataclass(frozen=True)
class Mutator:
    """How a defect is put in, and the names of the rules that may report it."""

    name: str
    make: Make
    expected: frozenset[str]
    harmless_in: frozenset[str] = frozenset()
    """Programs, or `program:n` for their n-th mutant, in which this is no defect."""


MUTATORS: list[Mutator] = []


def mutator(*expected: str, harmless_in: str = "") -> Callable[[Make], Make]:
    """Add a function to the list."""

    def added(make: Make) -> Make:
        fine = frozenset(harmless_in.split())
        MUTATORS.append(Mutator(make.__name__, make, frozenset(expected), fine))
        return make

    return added


def _delete(tree: ast.Module, block: Block, index: int) -> bool:
    del block[index]
    return True


def _is_optimizer_call(*methods: str) -> Callable[[ast.stmt], bool]:
    wanted = is_call(*methods)

    def check(statement: ast.stmt) -> bool:
        return wanted(statement) and is_optimizer_name(called(statement)[0])

    return check


def _is_step(statement: ast.stmt) -> bool:
    receiver, method = called(statement) if isinstance(statement, ast.Expr) else ("", "")
    return method == "step" and (is_optimizer_name(receiver) or receiver == "scaler")


def _is_backward(statement: ast.stmt) -> bool:
    return is_call("backward")(statement)


def _neighbour(
    block: Block, index: int, wanted: Callable[[ast.stmt], bool], forward: bool
) -> int | None:
    order = range(index + 1, len(block)) if forward else range(index - 1, -1, -1)
    return next((i for i in order if wanted(block[i])), None)


def _same_optimizer(statement: ast.stmt) -> Callable[[ast.stmt], bool]:
    name = called(statement)[0]
    return lambda other: _is_step(other) and (called(other)[0] == name or name == "scaler")


def switches_to_train(statement: ast.stmt) -> bool:
    """`model.train(...)`, and not the method of a trainer or an experiment."""
    owner = called(statement)[0].lower() if isinstance(statement, ast.Expr) else ""
    return is_call("train")(statement) and not any(
        word in owner for word in ("trainer", "experiment", "solver")
    )


# --- modes -----------------------------------------------------------------------------


@mutator(
    "train-in-eval-mode",
    "mixed-training-flags",
    harmless_in="amp_accumulate:0 two_groups:0 denoising_diffusion:0 evaluating_context:0"
    " lora_tiny:1 mean_teacher:0 momentum_contrast:0 adapters_in_turn:0 fabric_loop:1"
    " feature_distill wgan_gp",
)
def drop_train(source: str) -> Iterator[str]:
    def plain(statement: ast.stmt) -> bool:
        return switches_to_train(statement) and not statement.value.args  # type: ignore[attr-defined]

    yield from each(source, plain, _delete)


@mutator(
    "train-in-eval-mode",
    "eval-in-train-mode",  # `train(phase == "train")`: nothing switches any more
    harmless_in="hf_trainer:0 segmentation_solver:1 feature_distill",
)
def forget_restore(source: str) -> Iterator[str]:
    def restoring(statement: ast.stmt) -> bool:
        return switches_to_train(statement) and bool(statement.value.args)  # type: ignore[attr-defined]

    yield from each(source, restoring, _delete)


@mutator("train-in-eval-mode")
def train_once_before_all(source: str) -> Iterator[str]:
    """`model.train()` goes in front of the epoch loop that held it."""
    tree = ast.parse(source)
    for block in (
        n.body for n in ast.walk(tree) if hasattr(n, "body") and isinstance(n.body, list)
    ):
        for index, loop in enumerate(block):
            if not isinstance(loop, ast.For):
                continue
            first = loop.body[0]
            evaluates = any(is_call("eval")(s) for s in ast.walk(loop) if isinstance(s, ast.Expr))
            if is_call("train")(first) and (evaluates or "evaluate(" in ast.unparse(loop)):
                del loop.body[0]
                block.insert(index, first)
                yield written(tree)
                return


@mutator(
    "eval-in-train-mode",
    "reference-model-in-train-mode",
    harmless_in="distill:1 transfer:0 adversarial:0 cells:0 denoising_diffusion:0"
    " denoising_diffusion:1 segmentation_solver:0 lora_tiny:1 forecaster:1 simclr_probe:1"
    " vit_args:1 wgan_gp:0",
)
def drop_eval(source: str) -> Iterator[str]:
    yield from each(source, is_call("eval"), _delete)


@mutator("reference-model-in-train-mode")
def drop_teacher_eval(source: str) -> Iterator[str]:
    yield from each(source, is_call("eval", of="teacher"), _delete)


@mutator("training-flag-assigned", harmless_in="transfer:0")
def assign_training_flag(source: str) -> Iterator[str]:
    def edit(tree: ast.Module, block: Block, index: int) -> bool:
        block[index] = parse_one(f"{called(block[index])[0]}.training = False")
        return True

    yield from each(source, is_call("eval"), edit)


@mutator("method-not-called")
def drop_parentheses(source: str) -> Iterator[str]:
    def wanted(statement: ast.stmt) -> bool:
        receiver, method = called(statement) if isinstance(statement, ast.Expr) else ("", "")
        names = ("train", "eval", "step", "zero_grad", "backward")
        bare = method in names and not statement.value.args  # type: ignore[attr-defined]
        return bare and "scaler" not in receiver

    def edit(tree: ast.Module, block: Block, index: int) -> bool:
        block[index].value = block[index].value.func  # type: ignore[attr-defined]
        return True

    yield from each(source, wanted, edit)


# --- gradients off ---------------------------------------------------------------------


def _switches_off(statement: ast.stmt) -> bool:
    if not isinstance(statement, ast.With):
        return False
    text = ast.unparse(statement.items[0].context_expr)
    return text in ("torch.no_grad()", "torch.inference_mode()")


def _unwrap(tree: ast.Module, block: Block, index: int) -> bool:
    block[index : index + 1] = block[index].body  # type: ignore[attr-defined]
    return True


@mutator(
    "eval-without-no-grad",
    "gradients-without-optimizer",
    harmless_in="distill:1 lbfgs:0 cells:0 denoising_diffusion:0 lora_tiny:0 mean_teacher:1"
    " momentum_contrast feature_distill:1 ppo template:0 template:1 wgan_gp:0",
)
def drop_no_grad(source: str) -> Iterator[str]:
    yield from each(source, _switches_off, _unwrap)


@mutator(
    "eval-without-no-grad",
    harmless_in="denoising_diffusion:0 mean_teacher:0 momentum_contrast vit_args wgan_gp",
)
def drop_no_grad_decorator(source: str) -> Iterator[str]:
    def wanted(node: ast.AST) -> bool:
        return isinstance(node, ast.FunctionDef) and any(map(off, node.decorator_list))

    def off(decorator: ast.expr) -> bool:
        return ast.unparse(decorator) in ("torch.no_grad()", "torch.inference_mode()")

    def edit(node: ast.AST) -> None:
        assert isinstance(node, ast.FunctionDef)
        node.decorator_list = [d for d in node.decorator_list if not off(d)]

    yield from each_node(source, wanted, edit)


@mutator("no-grad-not-entered")
def no_grad_as_statement(source: str) -> Iterator[str]:
    def edit(tree: ast.Module, block: Block, index: int) -> bool:
        context = block[index].items[0].context_expr  # type: ignore[attr-defined]
        block[index : index + 1] = [ast.Expr(context), *block[index].body]  # type: ignore[attr-defined]
        return True

    yield from each(source, _switches_off, edit)


@mutator("no-grad-not-entered")
def no_grad_without_parentheses(source: str) -> Iterator[str]:
    def edit(tree: ast.Module, block: Block, index: int) -> bool:
        item = block[index].items[0]  # type: ignore[attr-defined]
        item.context_expr = item.context_expr.func
        return True

    yield from each(source, _switches_off, edit)


@mutator(
    "grad-mode-leaked",
    "backward-under-no-grad",
    harmless_in="lbfgs:0 cells:0 denoising_diffusion:0 lora_tiny:0 momentum_contrast:0"
    " fabric_loop:1 kaggle_kernel:1 lightning_transfer:0",
)
def leave_gradients_off(source: str) -> Iterator[str]:
    def edit(tree: ast.Module, block: Block, index: int) -> bool:
        off = parse_one("torch.set_grad_enabled(False)")
        block[index : index + 1] = [off, *block[index].body]  # type: ignore[attr-defined]
        return True

    yield from each(source, _switches_off, edit)


def before_backward(source: str, make: Callable[[ast.Assign], ast.stmt | None]) -> Iterator[str]:
    """Change the assignment of what the backward that follows it runs on."""

    def edit(tree: ast.Module, block: Block, index: int) -> bool:
        name = ast.unparse(block[index].value.func.value)  # type: ignore[attr-defined]
        names = {name, *_scaled(block[index])}
        for at in range(index - 1, -1, -1):
            found = block[at]
            if isinstance(found, ast.Assign) and ast.unparse(found.targets[0]) in names:
                if isinstance(found.value, ast.Constant):
                    return False  # `loss = 0` before a loop that adds to it
                new = make(found)
                if new is None:
                    return False
                block[at] = new
                return True
        return False

    yield from each(source, _is_backward, edit)


def _scaled(statement: ast.stmt) -> list[str]:
    return [ast.unparse(a) for c in ast.walk(statement) if isinstance(c, ast.Call) for a in c.args]


@mutator("loss-detached")
def item_of_loss(source: str) -> Iterator[str]:
    def make(found: ast.Assign) -> ast.stmt:
        call = ast.Attribute(found.value, "item", ast.Load())
        return ast.Assign(found.targets, ast.Call(call, [], []))

    yield from before_backward(source, make)


@mutator("loss-detached")
def detach_loss(source: str) -> Iterator[str]:
    def make(found: ast.Assign) -> ast.stmt:
        call = ast.Attribute(found.value, "detach", ast.Load())
        return ast.Assign(found.targets, ast.Call(call, [], []))

    yield from before_backward(source, make)


@mutator("loss-detached")
def wrap_loss_anew(source: str) -> Iterator[str]:
    def make(found: ast.Assign) -> ast.stmt:
        target, value = ast.unparse(found.targets[0]), ast.unparse(found.value)
        return parse_one(f"{target} = torch.tensor({value}, requires_grad=True)")

    yield from before_backward(source, make)


@mutator("backward-under-no-grad")
def loss_under_no_grad(source: str) -> Iterator[str]:
    """The forward and the loss of a training step move under no_grad."""

    def edit(tree: ast.Module, block: Block, index: int) -> bool:
        start = index
        while start and isinstance(block[start - 1], (ast.Assign, ast.With)):
            start -= 1
        if start == index:
            return False
        inside = ast.With([ast.withitem(ast.parse("torch.no_grad()", mode="eval").body)], [])
        inside.body = block[start:index]
        block[start:index] = [inside]
        return True

    yield from each(source, _is_backward, edit)


# --- the step --------------------------------------------------------------------------


@mutator(
    "missing-zero-grad", harmless_in="amp_accumulate:0 amp_steps:0 lora_tiny:0 bert_finetune:0"
)
def drop_zero_grad(source: str) -> Iterator[str]:
    yield from each(source, is_call("zero_grad"), _delete)


@mutator("zero-grad-wipes-gradients")
def zero_grad_after_backward(source: str) -> Iterator[str]:
    def edit(tree: ast.Module, block: Block, index: int) -> bool:
        name = called(block[index])[0]
        at = _neighbour(block, index, _is_backward, True)
        if at is None:
            at = _neighbour(block, index, _is_backward, False)
        if at is None or not any(_same_optimizer(block[index])(s) for s in block):
            return False
        moved = block.pop(index)
        at = next(i for i, s in enumerate(block) if _is_backward(s) and i >= at - 1)
        block.insert(at + 1, moved)
        return bool(name)

    yield from each(source, is_call("zero_grad"), edit)


@mutator("step-before-backward", "zero-grad-wipes-gradients")
def step_before_backward(source: str) -> Iterator[str]:
    def edit(tree: ast.Module, block: Block, index: int) -> bool:
        at = _neighbour(block, index, _is_backward, False)
        if at is None:
            return False
        block.insert(at, block.pop(index))
        return True

    yield from each(source, _is_step, edit)


@mutator("step-before-backward", "scheduler-before-optimizer", harmless_in="accelerated")
def drop_step(source: str) -> Iterator[str]:
    yield from each(source, _is_step, _delete)


@mutator("step-before-backward")
def drop_backward(source: str) -> Iterator[str]:
    yield from each(source, _is_backward, _delete)


def _is_clip(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and "clip_grad" in called(statement)[1]


@mutator("clip-misplaced")
def clip_after_step(source: str) -> Iterator[str]:
    def edit(tree: ast.Module, block: Block, index: int) -> bool:
        at = _neighbour(block, index, _is_step, True)
        if at is None:
            return False
        block.insert(at, block.pop(index))
        return True

    yield from each(source, _is_clip, edit)


@mutator("clip-misplaced")
def clip_before_backward(source: str) -> Iterator[str]:
    def edit(tree: ast.Module, block: Block, index: int) -> bool:
        at = _neighbour(block, index, _is_backward, False)
        if at is None:
            return False
        block.insert(at, block.pop(index))
        return True

    yield from each(source, _is_clip, edit)


@mutator("clip-before-unscale")
def drop_unscale(source: str) -> Iterator[str]:
    yield from each(source, is_call("unscale_"), _delete)


@mutator("scaler-bypassed")
def bypass_scaler(source: str) -> Iterator[str]:
    def edit(tree: ast.Module, block: Block, index: int) -> bool:
        (optimizer,) = block[index].value.args  # type: ignore[attr-defined]
        block[index] = parse_one(f"{ast.unparse(optimizer)}.step()")
        for others in blocks(tree):  # unscaled by hand, a plain step would do no harm
            others[:] = [s for s in others if not is_call("unscale_")(s)]
        return True

    yield from each(source, is_call("step", of="scaler"), edit)


@mutator("scheduler-before-optimizer")
def scheduler_first(source: str) -> Iterator[str]:
    """The scheduler's step becomes the first statement of its block."""

    def wanted(statement: ast.stmt) -> bool:
        plain = is_call("step")(statement) and "()" in ast.unparse(statement)
        receiver = called(statement)[0] if plain else ""
        return "scheduler" in receiver or "warmup" in receiver

    def edit(tree: ast.Module, block: Block, index: int) -> bool:
        if index == 0:
            return False
        block.insert(0, block.pop(index))
        return True

    for text in each(source, wanted, edit):
        if "with accelerator.accumulate" not in text and "% accumulation_steps" not in text:
            yield text


# --- optimizers and freezing -------------------------------------------------------------


def makes_optimizer(statement: ast.stmt) -> bool:
    if not isinstance(statement, ast.Assign):
        return False
    return is_optimizer_name(ast.unparse(statement.targets[0])) and ".parameters()" in ast.unparse(
        statement.value
    )


def model_of(statement: ast.stmt) -> str:
    """The model whose parameters an optimizer is given, whole and directly."""
    assert isinstance(statement, ast.Assign)
    found = [called(n) for n in ast.walk(statement.value) if isinstance(n, ast.Call)]
    models = [receiver for receiver, method in found if method == "parameters"]
    return models[0] if len(models) == 1 and "lambda" not in ast.unparse(statement) else ""


def _after_making(source: str, *texts: str, before: bool = False) -> Iterator[str]:
    def edit(tree: ast.Module, block: Block, index: int) -> bool:
        model = model_of(block[index])
        if not model:
            return False
        at = index if before else index + 1
        block[at:at] = [parse_one(t.format(model=model)) for t in texts]
        return True

    yield from each(source, makes_optimizer, edit)


@mutator("optimizer-over-frozen-params", "peft-frozen-by-hand", harmless_in="transfer:0 wgan_gp:1")
def freeze_everything(source: str) -> Iterator[str]:
    yield from _after_making(
        source, "for p in {model}.parameters():\n    p.requires_grad = False", before=True
    )


@mutator(
    "optimizer-over-frozen-params",
    "peft-frozen-by-hand",
    "optimizer-includes-frozen-params",
    harmless_in="wgan_gp:1",
)
def freeze_everything_after(source: str) -> Iterator[str]:
    yield from _after_making(source, "{model}.requires_grad_(False)")


@mutator("optimizer-stale-model", harmless_in="variational:0 lightning_transfer")
def copy_model_after_optimizer(source: str) -> Iterator[str]:
    for text in _after_making(source, "{model} = __import__('copy').deepcopy({model})"):
        name = "deepcopy"
        yield "from copy import deepcopy\n" + text.replace("__import__('copy').deepcopy", name)


def _moved_before(source: str, wanted: Callable[[ast.stmt], bool]) -> Iterator[str]:
    def edit(tree: ast.Module, block: Block, index: int) -> bool:
        at = next((i for i in range(index) if wanted(block[i])), None)
        if at is None:
            return False
        block.insert(at, block.pop(index))
        return True

    yield from each(source, makes_optimizer, edit)


@mutator("optimizer-misses-params")
def optimizer_before_head(source: str) -> Iterator[str]:
    def wanted(statement: ast.stmt) -> bool:
        new = isinstance(statement, ast.Assign) and "nn." in ast.unparse(statement.value)
        return new and isinstance(statement.targets[0], ast.Attribute)  # type: ignore[attr-defined]

    for text in _moved_before(source, wanted):
        if "self.optimizer" not in text:
            yield text


@mutator("optimizer-misses-params")
def new_head_after_optimizer(source: str) -> Iterator[str]:
    for name in ("fc", "head", "classifier"):
        if f"{name} = nn." not in source or "self.model = model" in source:
            continue
        for text in _after_making(source, f"{{model}}.{name} = nn.Linear(64, 3)"):
            if f".{name}.parameters()" not in text:
                yield text


@mutator(
    "optimizer-includes-frozen-params",
    "freeze-after-optimizer",
    "optimizer-misses-params",
    harmless_in="momentum_contrast simclr_probe",
)
def optimizer_before_freezing(source: str) -> Iterator[str]:
    def wanted(statement: ast.stmt) -> bool:
        return isinstance(statement, ast.For) and "requires_grad = False" in ast.unparse(statement)

    yield from _moved_before(source, wanted)


@mutator("exhausted-parameter-iterator")
def count_what_the_optimizer_needs(source: str) -> Iterator[str]:
    def edit(tree: ast.Module, block: Block, index: int) -> bool:
        model = model_of(block[index])
        if not model:
            return False
        for node in ast.walk(block[index]):
            for name, value in ast.iter_fields(node):
                if isinstance(value, list):
                    for i, item in enumerate(value):
                        if isinstance(item, ast.Call) and called(item)[1] == "parameters":
                            value[i] = ast.Name("chosen", ast.Load())
                del name
        block[index:index] = [
            parse_one(f"chosen = filter(lambda p: p.requires_grad, {model}.parameters())"),
            parse_one("print(sum(p.numel() for p in chosen))"),
        ]
        return True

    yield from each(source, makes_optimizer, edit)


@mutator("requires-grad-misset")
def freeze_the_module(source: str) -> Iterator[str]:
    """`for p in m.parameters(): p.requires_grad = False` becomes `m.requires_grad = False`."""

    def wanted(statement: ast.stmt) -> bool:
        return (
            isinstance(statement, ast.For)
            and called(statement.iter)[1] == "parameters"
            and "requires_grad = False" in ast.unparse(statement)
        )

    def edit(tree: ast.Module, block: Block, index: int) -> bool:
        block[index] = parse_one(f"{called(block[index].iter)[0]}.requires_grad = False")  # type: ignore[attr-defined]
        return True

    yield from each(source, wanted, edit)


@mutator("requires-grad-misset")
def misspell_requires_grad(source: str) -> Iterator[str]:
    if ".requires_grad = False" in source:
        yield source.replace(".requires_grad = False", ".require_grad = False")


# --- modules, several processes, adapters ---------------------------------------------------


@mutator("functional-dropout-always-on")
def untie_dropout(source: str) -> Iterator[str]:
    def wanted(node: ast.AST) -> bool:
        return called(node)[1] == "dropout" and "self.training" in ast.unparse(node)

    def edit(node: ast.AST) -> None:
        assert isinstance(node, ast.Call)
        node.args = node.args[:2]
        node.keywords = [k for k in node.keywords if k.arg != "training"]

    yield from each_node(source, lambda n: isinstance(n, ast.Call) and wanted(n), edit)


@mutator("layer-created-in-forward")
def make_dropout_in_forward(source: str) -> Iterator[str]:
    for name in ("dropout", "drop"):
        if f"self.{name} = nn.Dropout" in source and f"(self.{name}(" in source:
            yield source.replace(f"self.{name}(", "nn.Dropout(0.5)(")


@mutator("unregistered-submodule")
def plain_list_of_layers(source: str) -> Iterator[str]:
    if "nn.ModuleList(" in source:
        yield source.replace("nn.ModuleList(", "list(")


@mutator("loss-activation-mismatch")
def softmax_before_cross_entropy(source: str) -> Iterator[str]:
    for text in ("logits = self.model(x)\n            loss", "pred = net(x)\n"):
        if text in source:
            line = text.split("\n")[0]
            name, value = line.split(" = ")
            yield source.replace(line, f"{name} = torch.softmax({value}, dim=1)", 1)
    for text in ("criterion(outputs, labels)", "loss_fn(model(images), labels)\n    loss.backward"):
        if text in source:
            head, rest = text.split("(", 1)
            value = "outputs" if rest.startswith("outputs") else "model(images)"
            new = f"{head}(torch.softmax({value}, dim=1)" + rest.removeprefix(value)
            yield source.replace(text, new, 1)


@mutator("ddp-forward-bypassed")
def train_around_ddp(source: str) -> Iterator[str]:
    if "criterion(ddp_model(x), y)" in source:
        yield source.replace("criterion(ddp_model(x), y)", "criterion(ddp_model.module(x), y)")
        yield source.replace("criterion(ddp_model(x), y)", "criterion(model(x), y)")


@mutator("sampler-epoch-not-set")
def drop_set_epoch(source: str) -> Iterator[str]:
    yield from each(source, is_call("set_epoch"), _delete)


@mutator("peft-loaded-frozen")
def drop_is_trainable(source: str) -> Iterator[str]:
    if ", is_trainable=True" in source:
        yield source.replace(", is_trainable=True", "")


@mutator("peft-inference-config")
def inference_config(source: str) -> Iterator[str]:
    if "lora_dropout=0.1," in source:
        yield source.replace("lora_dropout=0.1,", "lora_dropout=0.1, inference_mode=True,")


@mutator("peft-merge-discarded")
def drop_merged(source: str) -> Iterator[str]:
    if "merged = model.merge_and_unload()" in source and "merged.save" in source:
        text = source.replace("merged = model.merge", "model.merge")
        yield text.replace("merged.save", "model.save")


@mutator("optimizer-misses-params")
def adapters_after_optimizer(source: str) -> Iterator[str]:
    line = "    model = get_peft_model(base, config)\n"
    made = "    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)\n"
    if line in source and made in source:
        text = source.replace(line, "").replace(made, made.replace("model.", "base.") + line)
        yield text


@mutator("peft-frozen-by-hand")
def freeze_adapters(source: str) -> Iterator[str]:
    line = "    model = get_peft_model(base, config)\n"
    if line in source:
        frozen = "    for p in model.parameters():\n        p.requires_grad = False\n"
        yield source.replace(line, line + frozen)
