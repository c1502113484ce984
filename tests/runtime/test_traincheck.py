"""TrainCheck's silent errors (OSDI'25) that still occur, on CPU analogues, with no reference run.

RUNTIME.md 2.1 names them. Those that only several processes show (x-jxmnop, PT-104336, DS-1801,
PT-84803, PT-96600, Baichuan2-86) are in `test_ranks.py`; PT-51800 and MMPretrain-702 in
`test_looks.py`. PT-115607 was fixed in torch 2.13.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.runtime.tiny import adamw, convnet, images
from trainlint.runtime import TrainingStateError, watch


def test_pt_forum_84911_only_batch_norm_trains_and_the_optimizer_holds_the_frozen_head() -> None:
    model = convnet()
    for module in model.modules():
        if not isinstance(module, nn.BatchNorm1d):
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad = False
    optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)
    x, y = images()
    with pytest.raises(TrainingStateError) as caught, watch(model, optimizer):  # noqa: PT012
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    found = caught.value.violations[0]
    assert (found.code, found.step) == ("TL301", 1)
    assert set(found.parameters) == {
        f"backbone.{layer}.{name}" for layer in (1, 5) for name in ("weight", "bias")
    }


def test_so_60335387_gradients_never_cleared() -> None:
    model = convnet()
    optimizer = adamw(model)
    with pytest.raises(TrainingStateError) as caught, watch(model, optimizer):  # noqa: PT012
        for step in range(3):
            x, y = images(step)
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    found = caught.value.violations[0]
    assert (found.code, found.step) == ("TL205", 2)


def test_tf_33844_dropout_of_the_attention_acts_in_eval() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.project = nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            q = self.project(x)[None, None]
            return nn.functional.scaled_dot_product_attention(q, q, q, dropout_p=0.1)

    model = Attention().eval()
    with pytest.raises(TrainingStateError) as caught, watch(model), torch.no_grad():
        model(images()[0])
    found = caught.value.violations[0]
    assert found.code == "TL501"
    assert "scaled_dot_product_attention(dropout_p=0.1)" in found.message
    assert "test_traincheck.py" in found.message
