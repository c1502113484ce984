"""A function's body is left out only where its text shows that nothing would be found in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainlint.check import Checker
from trainlint.config import Finder, Settings
from trainlint.files import Neighbourhood
from trainlint.runner import Options, Run

MAKE = "from torch import nn\n\n\ndef make(n):\n    return [nn.Linear(3, 3) for _ in range(n)]\n"
NETWORK = """
class Net(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.head, layer = nn.Linear(3, 1), nn.Linear(3, 3)
{body}

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.head(x)
"""


def found(folder: Path, text: str) -> list[tuple[str, int]]:
    """Codes and rows of what is found in a file beside one with `make`."""
    (folder / "made.py").write_text(MAKE)
    path = folder / "net.py"
    path.write_text(text)
    run = Run(Options((str(path),), str(folder), Finder(Settings(""))))
    result = Checker(Neighbourhood()).check(str(path), run.plan_for(Settings("")))
    return [(d.code, d.span.start.row) for d in result.diagnostics]


def indented(body: str, by: str) -> str:
    return "\n".join(by + line for line in body.splitlines())


def assert_same(folder: Path, text: str, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With and without bodies left out, one finding."""
    monkeypatch.setattr("trainlint.syntax.cut.MIN_BODY", 0)
    portions = found(folder, text)
    monkeypatch.setattr("trainlint.syntax.parse.cuts_of", lambda text: ())
    assert portions == found(folder, text)
    assert [each for each, _ in portions] == [code]


@pytest.mark.parametrize(
    "body",
    [
        "self.layers = [nn.Linear(3, 3), nn.ReLU()]",
        "self.layers = {\n    'a': nn.Linear(3, 3)\n}",
        "self.layers = ([nn.Linear(3, 3), nn.ReLU()])",
        "self.layers = nn.Linear(3, 3), nn.ReLU()",
        "self.layers = nn.Linear(\n    3, 3\n), nn.ReLU()",
        "self.layers = (nn.Linear(3, 3)\n    , nn.ReLU())",
        "self.layers = ()\nself.layers = self.layers + (layer, layer)",
        "self.layers = ()\nself.layers += (\n    layer,\n    layer,\n)",
        "self.layers = OD(a=nn.Linear(3, 3))",
        "self.layers = make(n)",
        "self.layers = made.make(n)",
        "from made import make as m\nself.layers = m(n)",
    ],
)
@pytest.mark.parametrize("imported", ["from made import make", "from made import *"])
def test_containers_of_layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, imported: str
) -> None:
    imports = f"from collections import OrderedDict as OD\n{imported}\nimport made\n"
    text = f"{imports}from torch import nn\n{NETWORK.format(body=indented(body, ' ' * 8))}"
    assert_same(tmp_path, text, "TL503", monkeypatch)


@pytest.mark.parametrize(
    "body",
    [
        "p.require_grad = False",
        "p.require_grad: bool = False",
        "p.require_grad, other.x = False, 1",
        "(\n    p.require_grad,\n    other.x,\n) = False, 1",
        'setattr(p, "require_grad", False)',
    ],
)
def test_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    text = f"""
def freeze(model, other):
    for p in model.parameters():
        if p.requires_grad:
{indented(body, " " * 12)}
"""
    assert_same(tmp_path, text, "TL307", monkeypatch)
