"""What is read from module classes without running them."""

from __future__ import annotations

from textwrap import dedent, indent

import pytest

from trainlint.core.events import (
    FunctionalDropout,
    LayerCreatedInForward,
    ModeOverride,
    ModuleClassDefined,
)
from trainlint.core.facts import Certainty
from trainlint.flow import ir
from trainlint.flow.activation import Outputs, output_activation
from trainlint.flow.overrides import overrides_of
from trainlint.flow.project import ClassInfo, ModuleInfo, Project
from trainlint.flow.record import Recorder
from trainlint.flow.sensitivity import own_sensitivity
from trainlint.flow.shape import SHAPE_EVENTS, look_at
from trainlint.syntax.lower import lower
from trainlint.syntax.sketch import sketch

HEAD = """
import torch
import torch.nn as tn
import torch.nn.functional as fn
from torch.nn import Linear as Dense, Module as Base, functional
from torch.nn.functional import dropout as drop, scaled_dot_product_attention as attend
"""


class Files:
    """A project in memory: dotted module names are file names."""

    def __init__(self, **files: str) -> None:
        self.files = files

    def load(self, path: str) -> ir.Module | None:
        return lower(HEAD + dedent(self.files[path]), path)

    def sketch(self, path: str) -> ir.Sketch | None:
        return sketch(HEAD + dedent(self.files[path]), frozenset(), frozenset())

    def find(self, dotted: str, from_path: str) -> str | None:
        return dotted if dotted in self.files else None

    def mentioned_elsewhere(self, name: str, path: str) -> bool:
        return False


def module(source: str, **others: str) -> ModuleInfo:
    project = Project(Files(**others))
    return project.add(lower(HEAD + dedent(source), "main.py"))


def last_class(source: str, **others: str) -> ClassInfo:
    info = module(source, **others)
    classes = [s for s in info.module.body if isinstance(s, ir.Class)]
    return info.class_info(classes[-1])


class Listening(Recorder):
    """Keeps the events instead of handing them to rules."""

    def __init__(self) -> None:
        super().__init__({event: [] for event in SHAPE_EVENTS})
        self.events: list[object] = []

    def raise_event(self, event: object, *_: object) -> None:
        self.events.append(event)


def events(kind: type, source: str, **others: str) -> list:
    recorder = Listening()
    look_at(module(source, **others), recorder)
    return [event for event in recorder.events if isinstance(event, kind)]


def in_class(body: str, base: str = "Base") -> str:
    return f"class Net({base}):\n{indent(dedent(body).strip(), '    ')}\n"


def dropouts(body: str) -> list[FunctionalDropout]:
    return events(FunctionalDropout, in_class(body))


# --- functional dropouts -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "training"),
    [
        ("drop(x, 0.5)", "missing"),
        ("fn.dropout2d(x)", "missing"),
        ("functional.dropout(x, p=self.p)", "missing"),
        ("torch.nn.functional.dropout(x, 0.5, True)", "true"),
        ("drop(x, training=False)", "false"),
        ("drop(x, 0.5, self.training)", "tied"),
        ("drop(x, 0.5, flag)", "unknown"),
        ("drop(x, *rest)", "unknown"),
        ("drop(x, rate)", "unknown"),
        ("drop(x, self.p * self.training)", "tied"),
        ("drop(x, self.q)", "unknown"),
        ("attend(x, x, x, None, self.p)", "missing"),
        ("attend(x, x, x, dropout_p=self.layer.p)", "missing"),
        ("attend(x, x, x, dropout_p=self.p if self.training else 0.0)", "tied"),
        ("attend(x, x, x, dropout_p=float(self.p))", "missing"),
        ("attend(x, x, x, dropout_p=self.elsewhere)", "unknown"),
    ],
)
def test_how_a_dropout_follows_the_mode(call: str, training: str) -> None:
    (event,) = dropouts(f"""
    def __init__(self, p, **others):
        super().__init__()
        self.p, self.q, self.layer = p, p, tn.Dropout(p)
    def eval(self):
        self.q = 0.0
        return super().eval()
    def forward(self, x, rate=0.1, flag=True, rest=()):
        return {call}
    """)
    assert event.training == training
    assert event.probability_zero is not Certainty.YES
    assert not event.guarded


@pytest.mark.parametrize("given", ["0.0", "p=0", "self.none", "p=NOTHING"])
def test_a_probability_of_zero(given: str) -> None:
    source = "NOTHING = 0.0\n" + in_class(f"""
    def __init__(self):
        self.none = 0.0
    def forward(self, x):
        return drop(x, {given})
    """)
    (event,) = events(FunctionalDropout, source)
    assert event.probability_zero is Certainty.YES


def test_attention_without_a_probability_never_drops() -> None:
    (event,) = dropouts("def forward(self, x): return attend(x, x, x)")
    assert event.probability_zero is Certainty.YES


@pytest.mark.parametrize(
    "body",
    [
        "def forward(self, x):\n    if self.training:\n        x = drop(x)\n    return x",
        "def forward(self, x):\n    if not self.training:\n        return x\n    return drop(x)",
        "def forward(self, x): return drop(x) if self.training else x",
        "def forward(self, x): return self.training and drop(x) or x",
        "def forward(self, x, is_train=True):\n    if is_train:\n        x = drop(x)",
        "def training_step(self, x): return drop(x)",
        "def mc_forward(self, x): return drop(x)",
        """
        def forward(self, x):
            return self.noisy(x) if self.training else x
        def noisy(self, x):
            return self.inner(x)
        def inner(self, x):
            return drop(x)
        """,
    ],
)
def test_dropouts_under_a_test_of_the_mode(body: str) -> None:
    (event,) = dropouts(body)
    assert event.guarded


def test_a_helper_that_is_also_called_in_eval_mode_is_not_guarded() -> None:
    (event,) = dropouts("""
    def forward(self, x):
        if self.training:
            x = self.inner(x)
        return self.inner(x)
    def inner(self, x):
        return drop(x)
    """)
    assert not event.guarded


def test_classes_that_are_no_modules_raise_nothing() -> None:
    source = "class Net:\n    def forward(self, x): return drop(x)\nx = drop(torch.ones(3))"
    assert not events(FunctionalDropout, source)


def test_an_imported_base_makes_a_module() -> None:
    source = "from nets import Middle\n" + in_class("def f(self, x): return drop(x)", "Middle")
    found = events(FunctionalDropout, source, nets="class Middle(tn.Module): pass")
    assert [event.training for event in found] == ["missing"]


# --- overrides of train and eval -----------------------------------------------------------


def override(body: str) -> ModeOverride:
    (found,) = overrides_of(last_class(in_class(body)))
    return found


@pytest.mark.parametrize(
    ("signature", "takes"),
    [
        ("self, mode=True", True),
        ("self, mode", True),
        ("self, *args, **kwargs", True),
        ("self", False),
        ("self, *, mode=True", False),
        ("self, loader, epochs", False),
    ],
)
def test_whether_train_takes_a_mode(signature: str, takes: bool) -> None:
    assert override(f"def train({signature}): return super().train()").takes_mode is takes


@pytest.mark.parametrize(
    ("body", "reaches"),
    [
        ("super().train(mode)", True),
        ("super(Net, self).train(mode)", True),
        ("tn.Module.train(self, mode)", True),
        ("self.training = mode\nfor child in self.children():\n    child.train(mode)", True),
        ("self.body.train(mode)", True),
        ("self.switch(mode)", True),
        ("switch(self)", True),
        ("self.training = mode\nself.norm.eval()", False),
        ("print(mode)", False),
    ],
)
def test_whether_the_mode_reaches_the_children(body: str, reaches: bool) -> None:
    found = override("def train(self, mode=True):\n" + indent(body + "\nreturn self", "    "))
    assert found.calls_super is reaches
    assert found.returns_self
    assert found.uses_mode is ("mode" in body)


@pytest.mark.parametrize(
    ("body", "returns"),
    [
        ("return self", True),
        ("return super().train(mode)", True),
        ("out = super().train(mode)\nself.x = 1\nreturn out", True),
        ("if mode:\n    return self\nreturn super().train(mode)", True),
        ("super().train(mode)", False),
        ("if mode:\n    return self\nself.x = 1", False),
        ("return None", False),
        ("raise NotImplementedError", True),
    ],
)
def test_whether_train_returns_the_module(body: str, returns: bool) -> None:
    found = override("def train(self, mode=True):\n" + indent(body, "    "))
    assert found.returns_self is returns


def test_idioms_that_fix_the_mode_on_purpose() -> None:
    assert override("def train(self, mode=True): return self").inert
    assert override("def train(self, mode=True): return super().train(False)").forces_eval
    assert override(
        "def train(self, mode=False): super().train(mode=False); return self"
    ).forces_eval
    assert not override("def train(self, mode=True): return super().train(mode)").forces_eval


def test_a_training_loop_by_the_name_of_train() -> None:
    assert override("def train(self, loader):\n    self.loss(loader).backward()").runs_training


@pytest.mark.parametrize(
    "body",
    [
        "def eval(self): return self.train(False)",
        "def eval(self):\n    super().eval()\n    return self",
        "@abstractmethod\ndef train(self, loader): ...",
        "def training_step(self): pass",
    ],
)
def test_overrides_that_change_nothing(body: str) -> None:
    assert not overrides_of(last_class(in_class(body)))


def test_a_pair_that_switches_the_parts_by_itself() -> None:
    train = "def train(self):\n    for part in self.parts:\n        part.train()\n"
    evaluate = "def eval(self):\n    for part in self.parts:\n        part.eval()\n"
    assert not overrides_of(last_class(in_class(train + evaluate)))
    assert not override(train).takes_mode
    assert override(evaluate).calls_super


@pytest.mark.parametrize(
    ("value", "flag"),
    [("True", True), ("train", True), ("mode == 'x'", True), ("disabled", False), ("None", False)],
)
def test_attributes_that_hide_the_method(value: str, flag: bool) -> None:
    body = f"def __init__(self, train=False, mode=''):\n    self.train = {value}"
    found = overrides_of(last_class(in_class(body)))
    assert [override.is_attribute for override in found] == [True] * flag


# --- plain containers ----------------------------------------------------------------------


def kept(body: str, forward: str = "return self.layers[0](x)") -> list[tuple[str, str]]:
    source = in_class(
        "def __init__(self, n, teacher):\n    super().__init__()\n"
        + indent(dedent(body).strip(), "    ")
        + f"\ndef forward(self, x):\n    {forward}"
    )
    block = "class Own(Dense): pass\n"
    block += "class Block(Base):\n    def __init__(self):\n        self.fc = Dense(2, 2)\n"
    *_, event = events(ModuleClassDefined, block + source)
    return [(name, container) for name, container, _ in event.unregistered]


@pytest.mark.parametrize(
    ("body", "container"),
    [
        ("self.layers = [Dense(1, 1), Dense(1, 1)]", "list"),
        ("self.layers = [Dense(1, 1) for _ in range(n)]", "list"),
        ("self.layers = [(Dense(1, 1), tn.ReLU()) for _ in range(n)]", "list"),
        ("self.layers = (Block().to('cpu'), Block())", "tuple"),
        ("self.layers = tuple(Block() for _ in range(n))", "tuple"),
        ("self.layers = {'a': tn.BatchNorm1d(2)}", "dict"),
        ("self.layers = []\nfor _ in range(n):\n    self.layers = self.layers + [Own()]", "list"),
        ("self.layers = []\nfor _ in range(n):\n    self.layers += [Own()]", "list"),
        ("self.layers = []\nfor _ in range(n):\n    self.layers.extend([Own()])", "list"),
        ("self.layers = dict(a=Dense(1, 1))", "dict"),
        ("self.layers = [Dense(1, 1)] * n", "list"),
        ("self.layers = [tn.Parameter(torch.ones(2)) for _ in range(n)]", "list"),
        ("self.layers = []\nfor _ in range(n):\n    self.layers.append(Block())", "list"),
        ("self.layers = []\nself.layers += [Block(), Block()]", "list"),
        ("self.layers = {}\nfor i in range(n):\n    self.layers[i] = Block()", "dict"),
        (
            "ps = []\nfor _ in range(n):\n    b = Block()\n    ps.append(b)\nself.layers = ps",
            "list",
        ),
        ("self.layers = [tn.utils.spectral_norm(Dense(1, 1)) for _ in range(n)]", "list"),
    ],
)
def test_layers_in_plain_containers(body: str, container: str) -> None:
    assert kept(body) == [("layers", container)]


@pytest.mark.parametrize(
    "body",
    [
        "self.layers = tn.ModuleList([Dense(1, 1), Dense(1, 1)])",
        "self.layers = [tn.ReLU(), tn.Tanh()]",
        "self.layers = [Dense(1, 1)]",
        "self.layers = [teacher, teacher]",
        "self.layers = [Dense, tn.Conv2d]",
        "self.layers = [tn.Parameter(torch.ones(2), requires_grad=False), 1]",
        "self.layers = [Block(), Block()]\nself.net = tn.Sequential(*self.layers)",
        "self.layers = [Block(), Block()]\nself.layers = tn.ModuleList(self.layers)",
        "self.layers = [Block(), Block()]\nself.more = tn.ModuleList(b for b in self.layers)",
        "self.layers = [Block(), Block()]\nfor b in self.layers: self.add_module('b', b)",
        "self.a = a = Block()\nself.layers = [a, a]",
        "a = Block()\nself.a = a\nself.layers = [a, a]",
        "parts = [Block(), Block()]\nself.net = tn.Sequential(*parts)\nself.layers = parts",
        "self.layers = [Block(), Block()]\nregister(self.layers)",
    ],
)
def test_containers_that_are_healthy(body: str) -> None:
    assert kept(body) == []


def test_a_container_that_nothing_uses() -> None:
    assert kept("self.layers = [Block(), Block()]", "return x") == []


# --- layers made in forward ----------------------------------------------------------------


def created(body: str) -> list[tuple[str, bool, bool]]:
    source = in_class("def forward(self, x):\n" + indent(dedent(body).strip(), "    "))
    found = events(LayerCreatedInForward, source)
    return [(event.layer, event.sensitive, event.parametric) for event in found]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("return tn.Dropout(0.5)(x)", ("tn.Dropout", True, False)),
        ("return Dense(2, 2).to(x.device)(x)", ("Dense", False, True)),
        ("norm = tn.BatchNorm1d(3)\nreturn norm(x)", ("tn.BatchNorm1d", True, True)),
        (
            "net = tn.Sequential(tn.ReLU(), Dense(1, 1))\nreturn net(x)",
            ("tn.Sequential", False, True),
        ),
        ("return tn.BatchNorm1d(3, affine=False)(x)", ("tn.BatchNorm1d", True, False)),
        ("import torch.nn as inner\nreturn inner.Linear(1, 1)(x)", ("inner.Linear", False, True)),
    ],
)
def test_layers_made_in_forward(body: str, expected: tuple[str, bool, bool]) -> None:
    assert created(body) == [expected]


@pytest.mark.parametrize(
    "body",
    [
        "return tn.ReLU()(x)",
        "return tn.Dropout(0.0)(x)",
        "return tn.Dropout(0.5 if self.training else 0.0)(x)",
        "return tn.Dropout(0.5)(x) if self.training else x",
        "return tn.LayerNorm(3, elementwise_affine=False)(x)",
        "return tn.InstanceNorm2d(3)(x)",
        "if self.fc is None:\n    self.fc = Dense(1, 1)\nreturn self.fc(x)",
        "fc = Dense(1, 1)\nself.fc = fc\nreturn fc(x)",
        "blur = tn.Conv2d(1, 1, 3)\nblur.weight = self.kernel\nreturn blur(x)",
        "d = tn.Dropout(0.1)\nd.train(self.training)\nreturn d(x)",
        "return Dense(1, 1)",
        "return tn.CrossEntropyLoss()(x, x)",
    ],
)
def test_layers_that_may_be_made_in_forward(body: str) -> None:
    assert created(body) == []


def test_helpers_of_forward_count_and_builders_do_not() -> None:
    source = in_class("""
    def __init__(self):
        self.build(1)
    def build(self, x):
        return Dense(1, 1)(x)
    def unused(self, x):
        return Dense(1, 1)(x)
    def inner(self, x):
        return tn.Embedding(1, 1)(x)
    def forward(self, x):
        return self.inner(x) + self.build(x)
    """)
    assert [e.layer for e in events(LayerCreatedInForward, source)] == ["tn.Embedding"]


# --- the last activation -------------------------------------------------------------------

PARTS = {"fc": "none", "act": "sigmoid", "flat": "same", "layers.-1": "none"}


def activation(body: str, base: str = "Base", **others: str) -> str | Outputs:
    return output_activation(last_class(in_class(body, base), **others), lambda n: PARTS.get(n, ""))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("return self.fc(x)", "none"),
        ("return self.act(self.fc(x))", "sigmoid"),
        ("return self.flat(self.fc(x))", "none"),
        ("x = self.fc(x)\nreturn fn.softmax(x, dim=1)", "softmax"),
        ("return torch.sigmoid(self.fc(x)).view(-1)", "sigmoid"),
        ("return self.fc(x).log_softmax(-1).squeeze(1)", "log_softmax"),
        ("return torch.flatten(self.fc(x), 1)[:, 0]", "none"),
        ("return fn.softmax(x, 1)[:, 0]", ""),
        ("return tn.Softmax(dim=1)(self.fc(x))", "softmax"),
        ("return self.layers[-1](x)", "none"),
        ("for layer in self.layers:\n    x = layer(x)\nreturn x", "none"),
        ("head = self.fc\nreturn head(x)", "none"),
        ("x, y = self.fc(x), fn.relu(x)\nreturn y", "relu"),
        ("if x:\n    x = self.fc(x)\nelse:\n    x = self.flat(self.fc(x))\nreturn x", "none"),
        ("return self.fc(x) * 2", ""),
        ("return self.other(x)", ""),
        ("return self.fc(x), x", Outputs(((0, "none"), (1, "")))),
        ("out = {'a': self.fc(x)}\nreturn out", Outputs((("a", "none"),))),
        ("out = {'a': self.fc(x)}\nout['a'] = x\nreturn out", ""),
        ("x = self.fc(x)\nif self.training:\n    return x\nreturn x.sigmoid()", ""),
        ("return x if self.training else fn.relu(x)", ""),
        ("x = self.fc(x)\nx += 1\nreturn x", ""),
        ("return fn.dropout(self.fc(x))", ""),
        ("pass", ""),
    ],
)
def test_the_last_activation(body: str, expected: str | Outputs) -> None:
    assert activation("def forward(self, x):\n" + indent(body, "    ")) == expected


def test_activations_through_methods_and_bases() -> None:
    parent = """
    class Parent(Base):
        def forward(self, x):
            return self.head(self.fc(x))
        def head(self, z):
            return z
    """
    child = "def forward(self, x):\n    return super().forward(x)\n"
    bound = "from nets import Parent\n"
    for head, expected in (("", "none"), ("def head(self, z): return fn.relu(z)", "relu")):
        info = last_class(bound + in_class(child + head, "Parent"), nets=parent)
        assert output_activation(info, lambda n: PARTS.get(n, "")) == expected


# --- sensitivity ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "base", "expected"),
    [
        ("def forward(self, x): return self.fc(x)", "Base", Certainty.NO),
        ("def __init__(self): self.dropout = tn.Dropout(0.1)", "Base", Certainty.NO),
        ("def forward(self, x): return drop(x, 0.1, self.training)", "Base", Certainty.YES),
        (
            "def forward(self, x): return self.f(x)\ndef f(self, x): return self.training",
            "Base",
            Certainty.YES,
        ),
        (
            "def forward(self, x): return x\ndef other(self): return self.training",
            "Base",
            Certainty.UNKNOWN,
        ),
        (
            "def sample(self):\n    was = self.training\n    self.eval()\n    self.train(was)",
            "Base",
            Certainty.NO,
        ),
        (
            "def train(self, mode=True):\n    self.training = mode\n    return self",
            "Base",
            Certainty.NO,
        ),
        ("pass", "tn.BatchNorm1d", Certainty.UNKNOWN),
        ("pass", "tn.Sequential", Certainty.NO),
        ("pass", "somewhere.Unknown", Certainty.UNKNOWN),
        (
            "def __init__(self): self.e = lib.Encoder()\ndef forward(self, x): return self.e(x)",
            "Base",
            Certainty.UNKNOWN,
        ),
    ],
)
def test_a_class_own_sensitivity(body: str, base: str, expected: Certainty) -> None:
    source = "import lib, somewhere\n" + in_class(body, base)
    assert own_sensitivity(last_class(source)) is expected
