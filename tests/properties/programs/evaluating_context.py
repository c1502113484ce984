"""A context manager and a decorator put models in eval mode for a while."""

import contextlib
import functools

import torch
from torch import nn
from torch.optim import AdamW


@contextlib.contextmanager
def evaluating(*models):
    modes = [m.training for m in models]
    try:
        for m in models:
            m.eval()
        with torch.no_grad():
            yield
    finally:
        for m, mode in zip(models, modes):
            m.train(mode)


def in_eval_mode(function):
    @functools.wraps(function)
    def wrapper(model, *args, **kwargs):
        with evaluating(model):
            return function(model, *args, **kwargs)

    return wrapper


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.linear = nn.Linear(width, width)
        self.dropout = nn.Dropout(0.2)

    def forward(self, x):
        return x + self.dropout(torch.relu(self.linear(self.norm(x))))


class Model(nn.Module):
    def __init__(self, width=12, depth=3, classes=4):
        super().__init__()
        self.blocks = nn.ModuleList([Block(width) for _ in range(depth)])
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(x)


@in_eval_mode
def accuracy(model, x, y):
    return (model(x).argmax(1) == y).float().mean().item()


def loss_of(model, x, y):
    with evaluating(model):
        return nn.functional.cross_entropy(model(x), y).item()


def fit(model, x, y, steps=30, every=10):
    optimizer = AdamW(model.parameters(), lr=1e-3)
    model.train()
    for step in range(steps):
        index = torch.randint(0, len(x), (16,))
        logits = model(x[index])
        loss = nn.functional.cross_entropy(logits, y[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % every == 0:
            print(step, accuracy(model, x, y), loss_of(model, x, y))


if __name__ == "__main__":
    fit(Model(), torch.randn(100, 12), torch.randint(0, 4, (100,)))
