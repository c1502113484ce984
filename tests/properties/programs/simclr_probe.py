"""Contrastive pre-training of an encoder, then a linear probe on it while it is frozen."""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset


class TwoViews(Dataset):
    def __init__(self, x, y, noise=0.1):
        self.x, self.y, self.noise = x, y, noise

    def _augment(self, x):
        x = x + self.noise * torch.randn_like(x)
        return x.flip(-1) if torch.rand(()) < 0.5 else x

    def __len__(self):
        return len(self.x)

    def __getitem__(self, idx):
        x = self.x[idx]
        return self._augment(x), self._augment(x), self.y[idx]


def conv_block(c_in, c_out):
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(c_out),
        nn.ReLU(inplace=True),
    )


class SimCLR(nn.Module):
    def __init__(self, feature_dim=32):
        super().__init__()
        self.f = nn.Sequential(conv_block(3, 8), conv_block(8, 16), nn.AdaptiveAvgPool2d(1))
        self.g = nn.Sequential(
            nn.Linear(16, 32, bias=False), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, feature_dim)
        )

    def forward(self, x):
        feature = torch.flatten(self.f(x), start_dim=1)
        out = self.g(feature)
        return F.normalize(feature, dim=-1), F.normalize(out, dim=-1)


class LinearProbe(nn.Module):
    def __init__(self, encoder, num_class):
        super().__init__()
        self.f = encoder.f
        self.fc = nn.Linear(16, num_class, bias=True)

    def forward(self, x):
        return self.fc(torch.flatten(self.f(x), start_dim=1))


def nt_xent(out_1, out_2, temperature):
    out = torch.cat([out_1, out_2], dim=0)
    n = out.size(0)
    sim = torch.exp(out @ out.t() / temperature)
    mask = ~torch.eye(n, dtype=torch.bool)
    sim = sim.masked_select(mask).view(n, -1)
    pos = torch.exp((out_1 * out_2).sum(dim=-1) / temperature)
    pos = torch.cat([pos, pos], dim=0)
    return -torch.log(pos / sim.sum(dim=-1)).mean()


def pretrain_epoch(net, loader, optimizer, temperature):
    net.train()
    total_loss, total_num = 0.0, 0
    for pos_1, pos_2, _ in loader:
        _, out_1 = net(pos_1)
        _, out_2 = net(pos_2)
        loss = nt_xent(out_1, out_2, temperature)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total_num += len(pos_1)
        total_loss += loss.item() * len(pos_1)
    return total_loss / total_num


def knn_accuracy(net, memory, test, k=5):
    net.eval()
    bank, labels, hits = [], [], 0
    with torch.no_grad():
        for x, _, y in memory:
            feature, _ = net(x)
            bank.append(feature)
            labels.append(y)
        bank, labels = torch.cat(bank), torch.cat(labels)
        for x, _, y in test:
            feature, _ = net(x)
            near = labels[(feature @ bank.t()).topk(k, dim=-1).indices]
            hits += (near.mode(dim=-1).values == y).sum().item()
    return hits / len(test.dataset)


def train_val(net, loader, criterion, optimizer=None):
    is_train = optimizer is not None
    net.train() if is_train else net.eval()
    if is_train:
        net.f.eval()
    total_loss, hits, count = 0.0, 0, 0
    with torch.enable_grad() if is_train else torch.no_grad():
        for x, _, target in loader:
            out = net(x)
            loss = criterion(out, target)
            if is_train:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            count += x.size(0)
            total_loss += loss.item() * x.size(0)
            hits += (out.argmax(dim=-1) == target).sum().item()
    return total_loss / count, hits / count


if __name__ == "__main__":
    torch.manual_seed(5)
    y = torch.randint(0, 3, (96,))
    x = torch.randn(96, 3, 12, 12) * 0.4 + y.view(-1, 1, 1, 1) * torch.tensor([1.0, 0.2, -0.5]).view(1, 3, 1, 1)
    train_loader = DataLoader(TwoViews(x[:64], y[:64]), 16, shuffle=True, drop_last=True)
    memory_loader = DataLoader(TwoViews(x[:64], y[:64], 0.0), 32)
    test_loader = DataLoader(TwoViews(x[64:], y[64:], 0.0), 32)

    model = SimCLR()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, weight_decay=1e-6)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda e: 0.5 * (1 + math.cos(math.pi * e / 3))
    )
    for epoch in range(3):
        loss = pretrain_epoch(model, train_loader, optimizer, 0.5)
        scheduler.step()
        print(f"epoch {epoch} loss {loss:.3f} knn {knn_accuracy(model, memory_loader, test_loader):.3f}")

    probe = LinearProbe(model, 3)
    for param in probe.f.parameters():
        param.requires_grad = False
    optimizer = torch.optim.Adam(probe.fc.parameters(), lr=1e-2)
    loss_criterion = nn.CrossEntropyLoss()
    for epoch in range(3):
        train_loss, train_acc = train_val(probe, train_loader, loss_criterion, optimizer)
        test_loss, test_acc = train_val(probe, test_loader, loss_criterion)
        print(f"probe {epoch} train {train_loss:.3f} {train_acc:.2f} test {test_loss:.3f} {test_acc:.2f}")
