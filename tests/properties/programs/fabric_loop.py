"""Lightning Fabric: set-up, backward and clipping through it, checkpoints and a test."""
import os
import tempfile

import torch
import torch.nn.functional as F
from lightning.fabric import Fabric, seed_everything
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset, random_split


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 16, 3, padding=1)
        self.dropout1 = nn.Dropout(0.25)
        self.fc1 = nn.Linear(16 * 4 * 4, 32)
        self.dropout2 = nn.Dropout(0.5)
        self.fc2 = nn.Linear(32, 4)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = self.dropout1(torch.flatten(x, 1))
        x = self.dropout2(F.relu(self.fc1(x)))
        return F.log_softmax(self.fc2(x), dim=1)


def data():
    x = torch.randn(120, 1, 16, 16)
    y = torch.randint(0, 4, (120,))
    x += y.view(-1, 1, 1, 1) * 0.5
    return TensorDataset(x, y)


def validate(fabric, model, loader):
    model.eval()
    total, hits, count = 0.0, 0, 0
    with torch.no_grad():
        for x, y in loader:
            output = model(x)
            total += F.nll_loss(output, y, reduction="sum").item()
            hits += output.argmax(dim=1).eq(y).sum().item()
            count += y.numel()
    fabric.print(f"loss {total / count:.4f} accuracy {hits / count:.3f}")
    model.train()
    return hits / count


def run(epochs=3, lr=0.5, gamma=0.7, log_every=3):
    fabric = Fabric(accelerator="cpu", devices=1)
    fabric.launch()
    seed_everything(42)
    train_set, val_set, test_set = random_split(data(), [80, 20, 20])
    train_loader = DataLoader(train_set, batch_size=16, shuffle=True)
    val_loader, test_loader = DataLoader(val_set, batch_size=20), DataLoader(test_set, batch_size=20)

    model = Net()
    optimizer = optim.Adadelta(model.parameters(), lr=lr)
    model, optimizer = fabric.setup(model, optimizer)
    train_loader, val_loader, test_loader = fabric.setup_dataloaders(
        train_loader, val_loader, test_loader
    )
    scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=gamma)

    state = {"model": model, "optimizer": optimizer, "epoch": 0}
    best = -1.0
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "best.ckpt")
        model.train()
        for epoch in range(1, epochs + 1):
            state["epoch"] = epoch
            for batch_idx, (x, y) in enumerate(train_loader):
                optimizer.zero_grad()
                output = model(x)
                loss = F.nll_loss(output, y)
                fabric.backward(loss)
                fabric.clip_gradients(model, optimizer, max_norm=1.0)
                optimizer.step()
                if batch_idx % log_every == 0:
                    fabric.print(f"epoch {epoch} batch {batch_idx} loss {loss.item():.4f}")
            scheduler.step()
            acc = validate(fabric, model, val_loader)
            if acc > best:
                best = acc
                fabric.save(path, state)
        fabric.load(path, state)
    model.eval()
    hits = 0
    with torch.no_grad():
        for x, y in test_loader:
            hits += (model(x).argmax(1) == y).sum().item()
    fabric.print(f"test {hits / len(test_set):.3f} of epoch {state['epoch']}")


if __name__ == "__main__":
    run()
