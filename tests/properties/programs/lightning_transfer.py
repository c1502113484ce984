"""A LightningModule with a frozen backbone, a callback that frees it, and a test."""
import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Backbone(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, stride=2)
        self.norm = nn.BatchNorm2d(width)
        self.block = nn.Conv2d(width, width, 3, stride=2)
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x):
        x = torch.relu(self.norm(self.stem(x)))
        return self.pool(torch.relu(self.block(x))).flatten(1)


class TransferModel(L.LightningModule):
    def __init__(self, num_classes=3, lr=1e-2, frozen=True):
        super().__init__()
        self.save_hyperparameters()
        self.backbone = Backbone()
        if frozen:
            for param in self.backbone.parameters():
                param.requires_grad = False
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(16, num_classes))
        self.loss_fn = nn.CrossEntropyLoss()
        self.outputs = []

    def forward(self, x):
        return self.head(self.backbone(x))

    def _shared_step(self, batch):
        x, y = batch
        logits = self(x)
        loss = self.loss_fn(logits, y)
        acc = (logits.argmax(dim=1) == y).float().mean()
        return loss, acc

    def training_step(self, batch, batch_idx):
        loss, acc = self._shared_step(batch)
        self.log("train_loss", loss, prog_bar=True)
        self.log("train_acc", acc)
        return loss

    def validation_step(self, batch, batch_idx):
        loss, acc = self._shared_step(batch)
        self.outputs.append(acc)
        self.log("val_loss", loss)

    def on_validation_epoch_end(self):
        self.log("val_acc", torch.stack(self.outputs).mean())
        self.outputs.clear()

    def test_step(self, batch, batch_idx):
        loss, acc = self._shared_step(batch)
        self.log_dict({"test_loss": loss, "test_acc": acc})

    def predict_step(self, batch, batch_idx):
        return self(batch[0]).softmax(dim=-1)

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.hparams.lr)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.9)
        return {"optimizer": optimizer, "lr_scheduler": scheduler}


class Unfreeze(Callback):
    def __init__(self, at):
        self.at = at

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == self.at:
            for p in pl_module.backbone.parameters():
                p.requires_grad = True


class PlainData(L.LightningDataModule):
    def __init__(self, batch_size=16):
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage):
        y = torch.randint(0, 3, (96,))
        x = torch.randn(96, 3, 16, 16) + y.view(-1, 1, 1, 1)
        self.train_set = TensorDataset(x[:64], y[:64])
        self.val_set = TensorDataset(x[64:80], y[64:80])
        self.test_set = TensorDataset(x[80:], y[80:])

    def train_dataloader(self):
        return DataLoader(self.train_set, self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, self.batch_size)

    def test_dataloader(self):
        return DataLoader(self.test_set, self.batch_size)


def main():
    L.seed_everything(11)
    data, model = PlainData(), TransferModel()
    trainer = L.Trainer(
        max_epochs=3,
        accelerator="cpu",
        gradient_clip_val=1.0,
        accumulate_grad_batches=2,
        callbacks=[Unfreeze(1), EarlyStopping("val_loss", patience=3)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, datamodule=data)
    print(trainer.test(model, datamodule=data))
    model.eval()
    with torch.no_grad():
        print(model(torch.randn(2, 3, 16, 16)).argmax(1))


if __name__ == "__main__":
    main()
