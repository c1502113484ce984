"""Trainers: what they do to mode, gradients and the optimizer."""

from trainlint.libraries.spec import Table

TRAINERS = Table(
    calls={},
    lightning_bases=(
        "pytorch_lightning.LightningModule",
        "pytorch_lightning.core.LightningModule",
        "pytorch_lightning.core.lightning.LightningModule",
        "lightning.LightningModule",
        "lightning.pytorch.LightningModule",
    ),
)
