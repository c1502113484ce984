"""Inner steps on copies of the parameters, the outer step through them."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.func import functional_call


class SineNet(nn.Module):
    def __init__(self, width=20):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(1, width), nn.ReLU(), nn.Dropout(0.05))
        self.out = nn.Linear(width, 1)

    def forward(self, x):
        return self.out(self.net(x))


def sample_task():
    amplitude, phase = torch.rand(1) * 4 + 0.1, torch.rand(1) * 3.14

    def draw(count):
        x = torch.rand(count, 1) * 10 - 5
        return x, amplitude * torch.sin(x + phase)

    return draw(8), draw(8)


def adapt(model, support, steps, lr, create_graph):
    x, y = support
    weights = dict(model.named_parameters())
    for _ in range(steps):
        loss = F.mse_loss(functional_call(model, weights, (x,)), y)
        grads = torch.autograd.grad(loss, list(weights.values()), create_graph=create_graph)
        weights = {name: w - lr * g for (name, w), g in zip(weights.items(), grads)}
    return weights


def outer_step(model, optimizer, tasks):
    model.train()
    meta_loss = 0.0
    for support, (x, y) in tasks:
        weights = adapt(model, support, 2, 0.01, create_graph=True)
        meta_loss = meta_loss + F.mse_loss(functional_call(model, weights, (x,)), y)
    meta_loss = meta_loss / len(tasks)
    optimizer.zero_grad()
    meta_loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 10.0)
    optimizer.step()
    return meta_loss.item()


def evaluate(model, tasks):
    model.eval()
    losses = []
    for support, (x, y) in tasks:
        weights = adapt(model, support, 5, 0.01, create_graph=False)
        with torch.no_grad():
            losses.append(F.mse_loss(functional_call(model, weights, (x,)), y).item())
    return sum(losses) / len(losses)


if __name__ == "__main__":
    model = SineNet()
    meta_optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for iteration in range(10):
        value = outer_step(model, meta_optimizer, [sample_task() for _ in range(4)])
        if iteration % 5 == 4:
            print(iteration, value, evaluate(model, [sample_task() for _ in range(3)]))
