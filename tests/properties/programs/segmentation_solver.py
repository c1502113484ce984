"""A solver with a small U-Net, two losses, and a test at the end."""

import os
import tempfile

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset
from tqdm import tqdm


def double_conv(before, after):
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
        nn.Conv2d(after, after, 3, padding=1),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
    )


class UNet(nn.Module):
    def __init__(self, base=4):
        super().__init__()
        self.down = nn.ModuleDict({"a": double_conv(1, base), "b": double_conv(base, 2 * base)})
        self.up = nn.ConvTranspose2d(2 * base, base, 2, stride=2)
        self.last = double_conv(2 * base, base)
        self.dropout = nn.Dropout2d(0.1)
        self.out = nn.Conv2d(base, 1, 1)

    def forward(self, x):
        a = self.down["a"](x)
        b = self.down["b"](F.max_pool2d(a, 2))
        x = self.last(torch.cat([a, self.up(b)], dim=1))
        return self.out(self.dropout(x))


class DiceLoss(nn.Module):
    def forward(self, logits, target):
        p = torch.sigmoid(logits)
        return 1 - (2 * (p * target).sum() + 1) / (p.sum() + target.sum() + 1)


class Solver(object):
    def __init__(self, config, train_loader, valid_loader, test_loader):
        self.train_loader = train_loader
        self.valid_loader = valid_loader
        self.test_loader = test_loader
        self.config = config
        self.net = None
        self.optimizer = None
        self.bce = nn.BCEWithLogitsLoss()
        self.dice = DiceLoss()
        self.build_model()

    def build_model(self):
        self.net = UNet(self.config["base"])
        self.optimizer = torch.optim.Adam(self.net.parameters(), self.config["lr"])

    def reset_grad(self):
        self.net.zero_grad()

    def run_epoch(self, epoch):
        self.net.train(True)
        bar = tqdm(self.train_loader, desc=f"epoch {epoch}", disable=True)
        for image, mask in bar:
            logits = self.net(image)
            loss = self.bce(logits, mask) + self.dice(logits, mask)
            self.reset_grad()
            loss.backward()
            self.optimizer.step()
            bar.set_postfix(loss=loss.item())

    def score(self, loader):
        self.net.train(False)
        self.net.eval()
        total = 0.0
        with torch.no_grad():
            for image, mask in loader:
                guess = (torch.sigmoid(self.net(image)) > 0.5).float()
                total += ((guess == mask).float().mean()).item()
        return total / len(loader)

    def train(self, folder):
        best, path = 0.0, os.path.join(folder, "best.pt")
        for epoch in range(self.config["epochs"]):
            self.run_epoch(epoch)
            score = self.score(self.valid_loader)
            if score > best:
                best = score
                torch.save(self.net.state_dict(), path)
        del self.net
        self.build_model()
        self.net.load_state_dict(torch.load(path))
        print(best, self.score(self.test_loader))


def main():
    images = torch.randn(24, 1, 8, 8)
    data = TensorDataset(images, (images > 0).float())
    loaders = [DataLoader(data, batch_size=4, shuffle=s) for s in (True, False, False)]
    with tempfile.TemporaryDirectory() as folder:
        Solver({"base": 4, "lr": 1e-3, "epochs": 2}, *loaders).train(folder)


if __name__ == "__main__":
    main()
