"""A dataclass of settings and registries of models, optimizers and losses."""

from dataclasses import dataclass, field

import torch
from torch import nn

MODELS = {}
OPTIMIZERS = {
    "adam": torch.optim.Adam,
    "sgd": torch.optim.SGD,
}


def register(name):
    def add(cls):
        MODELS[name] = cls
        return cls

    return add


@dataclass
class TrainConfig:
    epochs: int = 3
    batch_size: int = 16
    lr: float = 0.01
    optimizer: str = "adam"
    clip: float = 1.0


@dataclass
class Config:
    model: str = "mlp"
    hidden: int = 16
    dropout: float = 0.2
    train: TrainConfig = field(default_factory=TrainConfig)


@register("mlp")
class MLP(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(8, cfg.hidden), nn.Linear(cfg.hidden, cfg.hidden)])
        self.norms = nn.ModuleList([nn.BatchNorm1d(cfg.hidden) for _ in range(2)])
        self.drop = nn.Dropout(cfg.dropout)
        self.out = nn.Linear(cfg.hidden, 1)

    def forward(self, x):
        for layer, norm in zip(self.layers, self.norms):
            x = self.drop(torch.relu(norm(layer(x))))
        return self.out(x).squeeze(-1)


@register("linear")
class Linear(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.drop = nn.Dropout(cfg.dropout)
        self.out = nn.Linear(8, 1)

    def forward(self, x):
        return self.out(self.drop(x)).squeeze(-1)


def build_model(cfg):
    return MODELS[cfg.model](cfg)


def build_optimizer(cfg, model):
    return OPTIMIZERS[cfg.train.optimizer](model.parameters(), lr=cfg.train.lr)


def batches(x, y, size):
    order = torch.randperm(len(x))
    for start in range(0, len(x), size):
        index = order[start : start + size]
        yield x[index], y[index]


def validate(model, x, y):
    model.eval()
    with torch.no_grad():
        error = nn.functional.mse_loss(model(x), y)
    return error.item()


def run(cfg):
    x = torch.randn(128, 8)
    y = x[:, 0] - x[:, 1]
    model = build_model(cfg)
    optimizer = build_optimizer(cfg, model)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    criterion = nn.MSELoss()
    for epoch in range(cfg.train.epochs):
        model.train()
        for xb, yb in batches(x[:96], y[:96], cfg.train.batch_size):
            pred = model(xb)
            loss = criterion(pred, yb)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), cfg.train.clip)
            optimizer.step()
        scheduler.step()
        print(epoch, validate(model, x[96:], y[96:]))


if __name__ == "__main__":
    run(Config())
