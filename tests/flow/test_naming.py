"""What messages call the objects of a program."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fixtures.checking import check_paths

LOOP = """
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(3):
    model.train()
    for x, y in loader:
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()
"""


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ("model.modules()", "`(its layers)`"),
        ("model.layer4.children()", "`layer4.(its layers)`"),
    ],
)
def test_parts_that_a_loop_meets_are_named(tmp_path: Path, parts: str, told: str) -> None:
    file = tmp_path / "train.py"
    file.write_text(
        "import torch\n"
        "from torch.nn.functional import cross_entropy\n"
        "from torchvision.models import resnet50\n"
        "model = resnet50(pretrained=True)\n"
        f"for part in {parts}:\n    part.eval()\n{LOOP}"
    )

    found = [d for d in check_paths([file]) if d.name == "partial-mode-overridden"]

    assert [told in d.message for d in found] == [True]
