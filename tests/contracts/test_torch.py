"""What the tables claim of torch, against torch itself."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from tests.contracts.claims import claimed
from trainlint.core.facts import Certainty, Mode
from trainlint.libraries.spec import Layer, OptimizerClass
from trainlint.libraries.torch import TORCH

SEQUENCE, FLAT = (5, 3, 4), (6, 4)
IMAGES = {1: (4, 4, 8), 2: (4, 4, 8, 8), 3: (4, 4, 4, 4, 4)}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "LSTM": {"input_size": 4, "hidden_size": 4, "num_layers": 2, "dropout": 0.5},
    "GRU": {"input_size": 4, "hidden_size": 4, "num_layers": 2, "dropout": 0.5},
    "RNN": {"input_size": 4, "hidden_size": 4, "num_layers": 2, "dropout": 0.5},
    "InstanceNorm1d": {"num_features": 4, "track_running_stats": True},
    "InstanceNorm2d": {"num_features": 4, "track_running_stats": True},
    "InstanceNorm3d": {"num_features": 4, "track_running_stats": True},
    "TransformerEncoderLayer": {"d_model": 4, "nhead": 2, "dropout": 0.5},
    "LayerNorm": {"normalized_shape": 4},
    "RMSNorm": {"normalized_shape": 4},
    "GroupNorm": {"num_groups": 2, "num_channels": 4},
    "Linear": {"in_features": 4, "out_features": 4},
    "Conv1d": {"in_channels": 4, "out_channels": 4, "kernel_size": 3},
    "Conv2d": {"in_channels": 4, "out_channels": 4, "kernel_size": 3},
    "Conv3d": {"in_channels": 4, "out_channels": 4, "kernel_size": 3},
    "BatchNorm1d": {"num_features": 4},
    "BatchNorm2d": {"num_features": 4},
    "BatchNorm3d": {"num_features": 4},
    "Dropout": {},
    "Dropout1d": {},
    "Dropout2d": {},
    "Dropout3d": {},
    "AlphaDropout": {},
    "FeatureAlphaDropout": {},
    "RReLU": {},
    "ReLU": {},
    "GELU": {},
    "Softmax": {"dim": -1},
    "Sigmoid": {},
    "Identity": {},
    "Tanh": {},
}


def inputs(name: str) -> torch.Tensor:
    """Something that a layer takes."""
    if name[-2:] in ("1d", "2d", "3d"):
        return torch.randn(IMAGES[int(name[-2])])
    if name in ("GroupNorm", "FeatureAlphaDropout"):
        return torch.randn(IMAGES[2])
    return torch.randn(SEQUENCE)


def depends_on_mode(layer: nn.Module, given: torch.Tensor) -> bool:
    """Whether train and eval differ in the result or in what a forward leaves in the layer."""
    ends = []
    for mode in (True, False):
        twin = copy.deepcopy(layer).train(mode)
        torch.manual_seed(0)
        with torch.no_grad():
            result = twin(given)
        first = result[0] if isinstance(result, tuple) else result
        ends.append([first, *twin.buffers()])
    return not all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


@pytest.mark.parametrize("name", ARGUMENTS)
def test_layers(name: str) -> None:
    spec = TORCH.calls[f"torch.nn.{name}"]
    assert isinstance(spec, Layer)
    layer = getattr(nn, name)(**ARGUMENTS[name])
    assert layer.training
    assert depends_on_mode(layer, inputs(name)) is spec.sensitive
    if not spec.weights_only_if:
        assert (next(layer.parameters(), None) is not None) is spec.parametric


@pytest.mark.parametrize(
    ("code", "sensitive"),
    [
        ("nn.Dropout(0.0)", False),
        ("nn.Dropout(p=0)", False),
        ("nn.Dropout(0.1)", True),
        ("nn.LSTM(4, 4)", False),
        ("nn.LSTM(4, 4, 2, dropout=0.2)", True),
        ("nn.InstanceNorm2d(4)", False),
        ("nn.InstanceNorm2d(4, track_running_stats=True)", True),
        ("nn.Sequential(nn.Linear(4, 4), nn.ReLU())", False),
        ("nn.Sequential(nn.Linear(4, 4), nn.Dropout())", True),
    ],
)
def test_arguments_that_matter(code: str, sensitive: bool) -> None:
    layer = eval(code, {"nn": nn})
    name = "InstanceNorm2d" if "Instance" in code else "Linear"
    assert depends_on_mode(layer, inputs(name)) is sensitive
    facts = claimed(f"from torch import nn\nmodel = {code}\n").facts("model")
    assert (facts.sensitive is Certainty.YES) is sensitive


def _mode(module: nn.Module) -> Mode:
    flags = {m.training for m in module.modules() if next(m.children(), None) is None}
    return Mode.MIXED if len(flags) > 1 else Mode.TRAIN if True in flags else Mode.EVAL


MODES = {
    "made": "",
    "eval": "model.eval()",
    "train(False)": "model.train(False)",
    "eval and train": "model.eval().train()",
    "a part": "model[1].eval()",
    "a part overridden": "model[1].eval()\nmodel.train()",
    "copied": "import copy\nmodel.eval()\nmodel = copy.deepcopy(model)",
    "moved": "model.eval()\nmodel = model.to('cpu')",
    "wrapped in DataParallel": "model.eval()\nmodel = nn.DataParallel(model)",
    "inside of DataParallel": "outer = nn.DataParallel(model)\nouter.eval()",
    "compiled": "model.eval()\nmodel = torch.compile(model)",
    "inside of compile": "outer = torch.compile(model)\nouter.eval()",
    "state loaded": "model.eval()\nmodel.load_state_dict(model.state_dict())",
    "in a new container": "model.eval()\nmodel = nn.Sequential(model, nn.Linear(2, 2))",
}
MODEL = """
import torch
from torch import nn
model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.1), nn.Linear(4, 2))
"""


@pytest.mark.parametrize("case", MODES)
def test_modes(case: str) -> None:
    code = MODEL + MODES[case]
    names: dict[str, Any] = {}
    exec(compile(code, "case", "exec"), names)
    claim = claimed(code).status("model")
    assert claim.mode is _mode(names["model"])


IDENTITIES = {
    "to": ("other = model.to(torch.float64)", True),
    "half": ("other = model.half()", True),
    "DataParallel": ("other = nn.DataParallel(model)", True),
    "compile": ("other = torch.compile(model)", True),
    "SyncBatchNorm": ("other = nn.SyncBatchNorm.convert_sync_batchnorm(model)", True),
    "deepcopy": ("import copy\nother = copy.deepcopy(model)", False),
    "rebuilt": ("other = nn.Sequential(nn.Linear(4, 4))", False),
}


@pytest.mark.parametrize("case", IDENTITIES)
def test_identity_of_parameters(case: str) -> None:
    code, shared = IDENTITIES[case]
    names: dict[str, Any] = {}
    exec(compile(MODEL + code, "case", "exec"), names)
    ours = {id(p) for p in names["model"].parameters()}
    assert bool(ours & {id(p) for p in names["other"].parameters()}) is shared
    claim = claimed(MODEL + code)
    first, second = claim.value("model").oid, claim.value("other").oid
    assert claim.run.models.overlap(first, second, claim.state) is shared


def test_optimizers_exist_and_step_lazily() -> None:
    """No decay, no state and no update where the gradient is None."""
    for path, spec in TORCH.calls.items():
        if not isinstance(spec, OptimizerClass) or not path.startswith("torch.optim."):
            continue
        name = path.rsplit(".", 1)[-1]
        if name in ("LBFGS", "SparseAdam", "Optimizer") or not hasattr(torch.optim, name):
            continue
        layer = nn.Linear(3, 3, bias=False)
        before = layer.weight.detach().clone()
        getattr(torch.optim, name)(layer.parameters(), lr=0.1).step()
        assert torch.equal(layer.weight, before), name
