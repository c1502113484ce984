"""Defects of the right call on the wrong thing, and of things made the wrong way."""

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
from tests.properties.mutators import mutator, switches_to_train


def _plain(method: str, statement: ast.stmt) -> bool:
    if method == "train" and not switches_to_train(statement):
        return False
    return is_call(method)(statement) and not statement.value.args  # type: ignore[attr-defined]


# --- modes -----------------------------------------------------------------------------


@mutator("train-in-eval-mode", "mixed-training-flags")
def eval_for_train(source: str) -> Iterator[str]:
    def edit(tree: ast.Module, block: Block, index: int) -> bool:
        block[index] = parse_one(f"{called(block[index])[0]}.eval()")
        return True

    yield from each(source, lambda s: _plain("train", s), edit)


@mutator("train-in-eval-mode", "mixed-training-flags")
def train_false(source: str) -> Iterator[str]:
    def edit(tree: ast.Module, block: Block, index: int) -> bool:
        block[index] = parse_one(f"{called(block[index])[0]}.train(False)")
        return True

    yield from each(source, lambda s: _plain("train", s), edit)


@mutator("partial-mode-overridden", harmless_in="momentum_contrast:1 lightning_transfer")
def freeze_statistics_once(source: str) -> Iterator[str]:
    """BatchNorm is put in eval mode before the epochs, each of which calls `train()`."""
    if "BatchNorm" not in source:
        return

    def edit(tree: ast.Module, block: Block, index: int) -> bool:
        model = _model_of(block[index])
        if not model:
            return False
        loop = (
            f"for layer in {model}.modules():\n"
            "    if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):\n"
            "        layer.eval()"
        )
        block.insert(index + 1, parse_one(loop))
        return True

    yield from each(source, _makes_optimizer, edit)


# --- optimizers ------------------------------------------------------------------------


def _makes_optimizer(statement: ast.stmt) -> bool:
    if not isinstance(statement, ast.Assign):
        return False
    named = is_optimizer_name(ast.unparse(statement.targets[0]).replace("_", ".").lower())
    optimizer = named or "optimizer" in ast.unparse(statement.targets[0])
    return optimizer and "parameters()" in ast.unparse(statement.value)


def _model_of(statement: ast.stmt) -> str:
    """The one model whose parameters an optimizer is given."""
    assert isinstance(statement, ast.Assign)
    found = [called(n) for n in ast.walk(statement.value) if isinstance(n, ast.Call)]
    models = [receiver for receiver, method in found if method == "parameters"]
    return models[0] if len(models) == 1 and "lambda" not in ast.unparse(statement) else ""


@mutator("gradients-without-optimizer", "optimizer-misses-params")
def parameters_of_the_other_model(source: str) -> Iterator[str]:
    """The second of two optimizers gets the first one's parameters."""

    def edit(tree: ast.Module, block: Block, index: int) -> bool:
        model = _model_of(block[index])
        others = [s for s in block[:index] if _makes_optimizer(s) and _model_of(s) != model]
        if not model or not others or not _model_of(others[0]):
            return False
        text = ast.unparse(block[index]).replace(
            f"{model}.parameters()", f"{_model_of(others[0])}.parameters()"
        )
        block[index] = parse_one(text)
        return ast.unparse(others[0].targets[0]) != ast.unparse(block[index].targets[0])  # type: ignore[attr-defined]

    yield from each(source, _makes_optimizer, edit)


def _of_the_other(source: str, method: str) -> Iterator[str]:
    """An optimizer's call goes to the other optimizer that the block calls so."""

    def wanted(statement: ast.stmt) -> bool:
        last = called(statement)[0].lower() if isinstance(statement, ast.Expr) else ""
        return is_call(method)(statement) and ("optim" in last or "opt" in last)

    def edit(tree: ast.Module, block: Block, index: int) -> bool:
        mine = called(block[index])[0]
        others = [called(s)[0] for s in block if wanted(s) and called(s)[0] != mine]
        if not others:
            return False
        block[index] = parse_one(f"{others[0]}.{method}()")
        return True

    yield from each(source, wanted, edit)


@mutator("step-before-backward", "zero-grad-wipes-gradients", "missing-zero-grad")
def step_of_the_other_optimizer(source: str) -> Iterator[str]:
    yield from _of_the_other(source, "step")


@mutator("missing-zero-grad", "zero-grad-wipes-gradients")
def zero_grad_of_the_other_optimizer(source: str) -> Iterator[str]:
    yield from _of_the_other(source, "zero_grad")


@mutator("optimizer-stale-model")
def make_the_model_again(source: str) -> Iterator[str]:
    """The line that makes the model comes once more after the optimizer."""

    def edit(tree: ast.Module, block: Block, index: int) -> bool:
        model = _model_of(block[index])
        for found in block[:index]:
            if isinstance(found, ast.Assign) and ast.unparse(found.targets[0]) == model:
                if model not in ast.unparse(found.value):
                    block.insert(index + 1, found)
                    return True
        return False

    yield from each(source, _makes_optimizer, edit)


@mutator("exhausted-parameter-iterator")
def generator_for_list(source: str) -> Iterator[str]:
    """A list of parameters that is used twice becomes a generator."""

    def wanted(statement: ast.stmt) -> bool:
        return (
            isinstance(statement, ast.Assign)
            and isinstance(statement.value, ast.ListComp)
            and "parameters()" in ast.unparse(statement)
        )

    def edit(tree: ast.Module, block: Block, index: int) -> bool:
        found = block[index]
        assert isinstance(found, ast.Assign)
        assert isinstance(found.value, ast.ListComp)
        name = ast.unparse(found.targets[0])
        found.value = ast.GeneratorExp(found.value.elt, found.value.generators)
        uses = [n for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id == name]
        return sum(isinstance(n.ctx, ast.Load) for n in uses) > 1

    yield from each(source, wanted, edit)


@mutator("exhausted-parameter-iterator")
def parameters_kept_for_clipping(source: str) -> Iterator[str]:
    """`params = model.parameters()` goes to the optimizer and then to the clipping."""
    for block, index in spots(ast.parse(source), _makes_optimizer):
        model = _model_of(block[index])
        clip = f"clip_grad_norm_({model}.parameters()"
        if not model or clip not in source or f"({model}.parameters()" not in source:
            continue
        tree = ast.parse(source)
        block, index = next(
            (b, i)
            for b, i in spots(tree, _makes_optimizer)
            if ast.unparse(b[i]) == ast.unparse(block[index])
        )
        if clip not in "\n".join(ast.unparse(s) for s in block):
            continue  # another function clips
        text = ast.unparse(block[index]).replace(f"{model}.parameters()", "params")
        block[index : index + 1] = [
            parse_one(f"params = {model}.parameters()"),
            parse_one(text),
        ]
        yield written(tree).replace(clip, "clip_grad_norm_(params")


@mutator("requires-grad-misset")
def freeze_by_attribute(source: str) -> Iterator[str]:
    """`model.requires_grad = False` in front of the optimizer."""

    def edit(tree: ast.Module, block: Block, index: int) -> bool:
        model = _model_of(block[index])
        if not model:
            return False
        block.insert(index, parse_one(f"{model}.requires_grad = False"))
        return True

    yield from each(source, _makes_optimizer, edit)


# --- modules ---------------------------------------------------------------------------


@mutator("unregistered-submodule")
def plain_containers(source: str) -> Iterator[str]:
    """`nn.ModuleList([...])` and `nn.ModuleDict({...})` become what they are given."""

    def wanted(statement: ast.stmt) -> bool:
        value = statement.value if isinstance(statement, ast.Assign) else None
        names = ("nn.ModuleList", "nn.ModuleDict")
        return isinstance(value, ast.Call) and ast.unparse(value.func) in names

    def edit(tree: ast.Module, block: Block, index: int) -> bool:
        found = block[index]
        assert isinstance(found, ast.Assign)
        assert isinstance(found.value, ast.Call)
        found.value = found.value.args[0]
        return True

    yield from each(source, wanted, edit)


@mutator("functional-dropout-always-on")
def attention_dropout_always(source: str) -> Iterator[str]:
    old = "dropout_p=self.dropout if self.training else 0.0"
    if old in source:
        yield source.replace(old, "dropout_p=self.dropout")


@mutator("train-override-broken", harmless_in="lightning_transfer:2")
def train_without_super(source: str) -> Iterator[str]:
    def wanted(node: ast.AST) -> bool:
        return isinstance(node, ast.ClassDef) and any(
            "Module" in ast.unparse(b) for b in node.bases
        )

    def edit(node: ast.AST) -> None:
        assert isinstance(node, ast.ClassDef)
        node.body.append(parse_one("def train(self, mode=True):\n    print('mode', mode)"))

    yield from each_node(source, wanted, edit)


@mutator("loss-activation-mismatch", harmless_in="amp_steps:0 gan:0 seq2seq:0 lightning_transfer")
def activation_at_the_end(source: str) -> Iterator[str]:
    """What a class's last line returns gets the activation that the loss applies too."""
    if "CrossEntropyLoss" in source or "cross_entropy" in source:
        new = "torch.softmax({}, dim=-1)"
    elif "BCEWithLogitsLoss" in source:
        new = "torch.sigmoid({})"
    else:
        return

    def wanted(node: ast.AST) -> bool:
        if not isinstance(node, ast.FunctionDef) or node.name != "forward":
            return False
        last = node.body[-1]
        value = last.value if isinstance(last, ast.Return) else None
        return isinstance(value, ast.Call) and ast.unparse(value.func).startswith("self.")

    def edit(node: ast.AST) -> None:
        assert isinstance(node, ast.FunctionDef)
        last = node.body[-1]
        assert isinstance(last, ast.Return)
        assert last.value is not None
        node.body[-1] = parse_one("return " + new.format(ast.unparse(last.value)))

    yield from each_node(source, wanted, edit)


@mutator("loss-activation-mismatch")
def raw_into_nll(source: str) -> Iterator[str]:
    """The log_softmax that the loss needs is gone."""
    if "nll_loss" not in source and "NLLLoss" not in source:
        return

    def wanted(node: ast.AST) -> bool:
        return isinstance(node, ast.Return) and ".log_softmax(" in ast.unparse(node)

    def edit(node: ast.AST) -> None:
        assert isinstance(node, ast.Return)
        assert isinstance(node.value, ast.Call)
        call = node.value
        method = isinstance(call.func, ast.Attribute) and not ast.unparse(call).startswith("F.")
        node.value = call.func.value if method else call.args[0]  # type: ignore[attr-defined]

    yield from each_node(source, wanted, edit)


# --- adapters and processes ----------------------------------------------------------------


def _after_adapters(source: str, text: str) -> Iterator[str]:
    def wanted(statement: ast.stmt) -> bool:
        return isinstance(statement, ast.Assign) and "get_peft_model(" in ast.unparse(statement)

    def edit(tree: ast.Module, block: Block, index: int) -> bool:
        name = ast.unparse(block[index].targets[0])  # type: ignore[attr-defined]
        block.insert(index + 1, parse_one(text.format(model=name)))
        return True

    yield from each(source, wanted, edit)


@mutator("peft-frozen-by-hand")
def freeze_after_adapters(source: str) -> Iterator[str]:
    yield from _after_adapters(
        source, "for p in {model}.parameters():\n    p.requires_grad = False"
    )


@mutator("peft-trained-merged")
def merge_before_training(source: str) -> Iterator[str]:
    yield from _after_adapters(source, "{model}.merge_adapter()")


@mutator("peft-disable-not-entered")
def disable_as_statement(source: str) -> Iterator[str]:
    yield from _after_adapters(source, "{model}.disable_adapter()")


@mutator("peft-inference-config")
def config_for_inference(source: str) -> Iterator[str]:
    if "LoraConfig(" in source:
        yield source.replace("LoraConfig(", "LoraConfig(inference_mode=True, ")


@mutator("ddp-forward-bypassed")
def forward_of_the_wrapped(source: str) -> Iterator[str]:
    if "model = DDP(" in source and "out = model(x)" in source:
        yield source.replace("out = model(x)", "out = model.module(x)")
