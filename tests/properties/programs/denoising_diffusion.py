"""A denoiser and its moving average, which draws the samples."""

import copy

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

STEPS = 20


class Denoiser(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.time = nn.Embedding(STEPS, width)
        self.enter = nn.Linear(2, width)
        self.middle = nn.Sequential(nn.SiLU(), nn.Dropout(0.1), nn.Linear(width, width), nn.SiLU())
        self.leave = nn.Linear(width, 2)

    def forward(self, x, t):
        return self.leave(self.middle(self.enter(x) + self.time(t)))


class EMA:
    def __init__(self, model, decay=0.99):
        self.module = copy.deepcopy(model)
        self.module.eval()
        self.decay = decay
        for p in self.module.parameters():
            p.requires_grad_(False)

    @torch.no_grad()
    def update(self, model):
        for average, current in zip(self.module.parameters(), model.parameters()):
            average.lerp_(current, 1 - self.decay)


class Diffusion:
    def __init__(self):
        beta = torch.linspace(1e-4, 0.2, STEPS)
        self.beta = beta
        self.alpha_bar = torch.cumprod(1 - beta, 0)

    def noisy(self, x, t):
        noise = torch.randn_like(x)
        a = self.alpha_bar[t][:, None]
        return a.sqrt() * x + (1 - a).sqrt() * noise, noise

    def sample(self, model, count):
        model.eval()
        with torch.no_grad():
            x = torch.randn(count, 2)
            for i in reversed(range(STEPS)):
                t = torch.full((count,), i)
                predicted = model(x, t)
                alpha, bar = 1 - self.beta[i], self.alpha_bar[i]
                x = (x - self.beta[i] / (1 - bar).sqrt() * predicted) / alpha.sqrt()
                if i > 0:
                    x = x + self.beta[i].sqrt() * torch.randn_like(x)
        model.train()
        return x


def train(epochs=3):
    data = DataLoader(torch.randn(128, 2) * 0.2 + 1.0, batch_size=32, shuffle=True)
    model, diffusion = Denoiser(), Diffusion()
    ema = EMA(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    model.train()
    for epoch in range(epochs):
        for x in data:
            t = torch.randint(0, STEPS, (len(x),))
            x_t, noise = diffusion.noisy(x, t)
            predicted = model(x_t, t)
            loss = F.mse_loss(predicted, noise)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            ema.update(model)
        print(epoch, loss.item(), diffusion.sample(model, 4).mean().item())
    ema.module.eval()
    with torch.no_grad():
        print(ema.module(torch.zeros(1, 2), torch.zeros(1, dtype=torch.long)))


if __name__ == "__main__":
    train()
