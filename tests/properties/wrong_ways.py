"""Defects as another author would put them in: other spellings of those there are, and more."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.properties.edits import (
    Block,
    called,
    each,
    each_node,
    is_call,
    parse_one,
    spots,
)
from tests.properties.mutators import before_backward, makes_optimizer, model_of, mutator

# --- modes -----------------------------------------------------------------------------


@mutator("train-in-eval-mode", "mixed-training-flags")
def eval_before_the_forward(source: str) -> Iterator[str]:
    """`model.eval()` stands in the loop, in front of the forward that a backward follows."""

    def edit(tree: ast.Module, block: Block, index: int) -> bool:
        trained = _switched(tree)
        for at in range(index - 1, -1, -1):
            found = block[at]
            value = found.value if isinstance(found, ast.Assign) else None
            name = ast.unparse(value.func) if isinstance(value, ast.Call) else ""
            if name in trained:
                block.insert(at, parse_one(f"{name}.eval()"))
                return True
        return False

    yield from each(source, is_call("backward"), edit)


def _switched(tree: ast.AST) -> set[str]:
    """What is put in train mode by name."""
    found = {called(n)[0] for n in ast.walk(tree) if isinstance(n, ast.Expr) and is_train(n)}
    return {name for name in found if name.replace(".", "").replace("_", "").isalnum()}


def is_train(statement: ast.stmt) -> bool:
    """`model.train()`, without arguments."""
    plain = is_call("train")(statement) and not statement.value.args  # type: ignore[attr-defined]
    owner = called(statement)[0].lower()
    return plain and not any(w in owner for w in ("trainer", "solver", "experiment", "distiller"))


@mutator("training-flag-assigned")
def assign_training_true(source: str) -> Iterator[str]:
    def edit(tree: ast.Module, block: Block, index: int) -> bool:
        block[index] = parse_one(f"{called(block[index])[0]}.training = True")
        return True

    yield from each(source, is_train, edit)


# --- gradients -------------------------------------------------------------------------


@mutator("backward-under-no-grad", "no-grad-not-entered")
def no_grad_around_the_loop(source: str) -> Iterator[str]:
    def wanted(statement: ast.stmt) -> bool:
        return isinstance(statement, ast.For) and any(map(is_call("backward"), statement.body))

    def edit(tree: ast.Module, block: Block, index: int) -> bool:
        off = parse_one("with torch.no_grad():\n    pass")
        assert isinstance(off, ast.With)
        off.body = [block[index]]
        block[index] = off
        return True

    yield from each(source, wanted, edit)


@mutator("backward-under-no-grad", "step-before-backward", "loss-detached")
def no_grad_on_the_forward(source: str) -> Iterator[str]:
    """A class's `forward` runs with gradients off."""
    made = {c for b, i in spots(ast.parse(source), makes_optimizer) for c in [model_of(b[i])] if c}

    def wanted(node: ast.AST) -> bool:
        if not isinstance(node, ast.ClassDef) or "def forward" not in ast.unparse(node):
            return False
        return any(f"{name} = {node.name}(" in source for name in made)

    def edit(node: ast.AST) -> None:
        assert isinstance(node, ast.ClassDef)
        for function in node.body:
            if isinstance(function, ast.FunctionDef) and function.name == "forward":
                function.decorator_list.append(ast.parse("torch.no_grad()", mode="eval").body)

    yield from each_node(source, wanted, edit)


@mutator("loss-detached")
def data_of_the_loss(source: str) -> Iterator[str]:
    def make(found: ast.Assign) -> ast.stmt:
        return ast.Assign(found.targets, ast.Attribute(found.value, "data", ast.Load()))

    yield from before_backward(source, make)


@mutator("loss-detached")
def number_of_the_loss(source: str) -> Iterator[str]:
    def make(found: ast.Assign) -> ast.stmt:
        target, value = ast.unparse(found.targets[0]), ast.unparse(found.value)
        return parse_one(f"{target} = torch.tensor(({value}).item(), requires_grad=True)")

    yield from before_backward(source, make)


@mutator("loss-detached")
def loss_wants_gradients(source: str) -> Iterator[str]:
    """Detached, and then told to have a gradient, so that backward does not complain."""

    def make(found: ast.Assign) -> ast.stmt:
        target, value = ast.unparse(found.targets[0]), ast.unparse(found.value)
        return parse_one(f"{target} = ({value}).detach().requires_grad_(True)")

    yield from before_backward(source, make)


# --- optimizers ------------------------------------------------------------------------


@mutator("optimizer-over-frozen-params", "peft-frozen-by-hand", harmless_in="wgan_gp:1")
def freeze_by_method(source: str) -> Iterator[str]:
    def edit(tree: ast.Module, block: Block, index: int) -> bool:
        model = model_of(block[index])
        if not model:
            return False
        block.insert(index, parse_one(f"{model}.requires_grad_(False)"))
        return True

    yield from each(source, makes_optimizer, edit)


@mutator("optimizer-misses-params", "optimizer-stale-model")
def layer_after_the_optimizer(source: str) -> Iterator[str]:
    """A linear layer of the model is replaced by a new one of its size."""
    layers = {
        cls.name: [
            s.targets[0].attr
            for f in cls.body
            if isinstance(f, ast.FunctionDef) and f.name == "__init__"
            for s in f.body
            if isinstance(s, ast.Assign)
            and isinstance(s.targets[0], ast.Attribute)
            and ast.unparse(s.value).startswith("nn.Linear(")
        ]
        for cls in ast.parse(source).body
        if isinstance(cls, ast.ClassDef)
    }

    def edit(tree: ast.Module, block: Block, index: int) -> bool:
        model = model_of(block[index])
        text = ast.unparse(tree)
        made = [names[-1] for c, names in layers.items() if names and f"{model} = {c}(" in text]
        if not model or not made:
            return False
        layer = f"{model}.{made[0]}"
        new = f"{layer} = nn.Linear({layer}.in_features, {layer}.out_features)"
        block.insert(index + 1, parse_one(new))
        return True

    yield from each(source, makes_optimizer, edit)


@mutator("requires-grad-misset")
def assign_the_method(source: str) -> Iterator[str]:
    if ".requires_grad = False" in source:
        yield source.replace(".requires_grad = False", ".requires_grad_ = False")


@mutator("requires-grad-misset")
def compare_for_assign(source: str) -> Iterator[str]:
    if ".requires_grad = False" in source:
        yield source.replace(".requires_grad = False", ".requires_grad == False")


# --- modules ---------------------------------------------------------------------------


@mutator("layer-created-in-forward")
def layer_in_forward(source: str) -> Iterator[str]:
    """A layer of constant size is made where it is called."""

    def constant(statement: ast.stmt) -> str:
        value = statement.value if isinstance(statement, ast.Assign) else None
        target = ast.unparse(statement.targets[0]) if isinstance(statement, ast.Assign) else ""
        if not isinstance(value, ast.Call) or not target.startswith("self."):
            return ""
        kinds = ("nn.Linear", "nn.Dropout", "nn.BatchNorm1d", "nn.BatchNorm2d", "nn.Conv2d")
        known = ast.unparse(value.func) in kinds
        plain = all(isinstance(a, ast.Constant) for a in value.args) and not value.keywords
        once = source.count(f"{target} = ") == 1 and f"{target}(" in source
        return target if known and plain and once else ""

    def edit(tree: ast.Module, block: Block, index: int) -> bool:
        target = constant(block[index])
        made = block[index].value  # type: ignore[attr-defined]
        del block[index]

        class Made(ast.NodeTransformer):
            def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
                self.generic_visit(node)
                return made if ast.unparse(node) == target else node

        Made().visit(tree)
        return True

    yield from each(source, lambda s: bool(constant(s)), edit)


def _overridden(source: str, text: str) -> Iterator[str]:
    def wanted(node: ast.AST) -> bool:
        bases = [ast.unparse(b) for b in node.bases] if isinstance(node, ast.ClassDef) else []
        return any(b in ("nn.Module", "torch.nn.Module", "Module") for b in bases)

    def edit(node: ast.AST) -> None:
        assert isinstance(node, ast.ClassDef)
        node.body.append(parse_one(text))

    yield from each_node(source, wanted, edit)


@mutator("train-override-broken")
def train_ignores_the_mode(source: str) -> Iterator[str]:
    yield from _overridden(source, "def train(self, mode=True):\n    return super().train()")


@mutator("train-override-broken")
def eval_of_its_own(source: str) -> Iterator[str]:
    yield from _overridden(source, "def eval(self):\n    self.training = False\n    return self")


# --- adapters and processes --------------------------------------------------------------


@mutator("peft-nested")
def adapters_twice(source: str) -> Iterator[str]:
    def wanted(statement: ast.stmt) -> bool:
        return isinstance(statement, ast.Assign) and "get_peft_model(" in ast.unparse(statement)

    def edit(tree: ast.Module, block: Block, index: int) -> bool:
        found = block[index]
        assert isinstance(found, ast.Assign)
        assert isinstance(found.value, ast.Call)
        name = ast.unparse(found.targets[0])
        config = ast.unparse(found.value.args[1]) if len(found.value.args) > 1 else ""
        block.insert(index + 1, parse_one(f"{name} = get_peft_model({name}, {config})"))
        return bool(config)

    yield from each(source, wanted, edit)


@mutator("peft-not-activated", "optimizer-misses-params")
def drop_set_adapter(source: str) -> Iterator[str]:
    def edit(tree: ast.Module, block: Block, index: int) -> bool:
        del block[index]
        return True

    yield from each(source, is_call("set_adapter"), edit)


@mutator("ddp-forward-bypassed")
def forward_past_the_wrapper(source: str) -> Iterator[str]:
    """The call of what DDP wraps, in a function that runs backward."""
    wrapped = [
        ast.unparse(s.targets[0])
        for s in ast.walk(ast.parse(source))
        if isinstance(s, ast.Assign) and ast.unparse(s.value).startswith(("DDP(", "nn.parallel.D"))
    ]

    def edit(tree: ast.Module, block: Block, index: int) -> bool:
        for at in range(index - 1, -1, -1):
            found = block[at]
            value = found.value if isinstance(found, ast.Assign) else None
            if isinstance(value, ast.Call) and ast.unparse(value.func) in wrapped:
                value.func = ast.Attribute(value.func, "module", ast.Load())
                return True
        return False

    yield from each(source, is_call("backward"), edit)
