"""A query encoder against a slow key encoder and a queue of old keys, then a linear probe."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class MoCo(nn.Module):
    def __init__(self, make, dim=8, size=32, momentum=0.99, temperature=0.2):
        super().__init__()
        self.size, self.m, self.t = size, momentum, temperature
        self.encoder_q = make(dim)
        self.encoder_k = make(dim)
        for q, k in zip(self.encoder_q.parameters(), self.encoder_k.parameters()):
            k.data.copy_(q.data)
            k.requires_grad = False
        self.register_buffer("queue", F.normalize(torch.randn(dim, size), dim=0))
        self.register_buffer("at", torch.zeros(1, dtype=torch.long))

    @torch.no_grad()
    def _momentum_update(self):
        for q, k in zip(self.encoder_q.parameters(), self.encoder_k.parameters()):
            k.data = k.data * self.m + q.data * (1.0 - self.m)

    @torch.no_grad()
    def _enqueue(self, keys):
        at = int(self.at)
        self.queue[:, at : at + len(keys)] = keys.T
        self.at[0] = (at + len(keys)) % self.size

    def forward(self, im_q, im_k):
        q = F.normalize(self.encoder_q(im_q), dim=1)
        with torch.no_grad():
            self._momentum_update()
            k = F.normalize(self.encoder_k(im_k), dim=1)
        positive = (q * k).sum(1, keepdim=True)
        negative = q @ self.queue.clone().detach()
        logits = torch.cat([positive, negative], dim=1) / self.t
        self._enqueue(k)
        return logits, torch.zeros(len(q), dtype=torch.long)


def make_encoder(dim):
    return nn.Sequential(
        nn.Linear(10, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, dim)
    )


def augment(x):
    return x + 0.1 * torch.randn_like(x)


def pretrain(model, data, epochs):
    optimizer = torch.optim.SGD(model.encoder_q.parameters(), lr=0.03, momentum=0.9)
    model.train()
    for epoch in range(epochs):
        for x in data.split(16):
            output, target = model(augment(x), augment(x))
            loss = F.cross_entropy(output, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print("pretrain", epoch, loss.item())


def linear_probe(encoder, x, y, epochs):
    for param in encoder.parameters():
        param.requires_grad = False
    encoder.eval()
    probe = nn.Linear(8, 3)
    optimizer = torch.optim.SGD(probe.parameters(), lr=0.5)
    for epoch in range(epochs):
        with torch.no_grad():
            features = encoder(x)
        loss = F.cross_entropy(probe(features), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        print("probe", (probe(encoder(x)).argmax(1) == y).float().mean().item())


if __name__ == "__main__":
    x, y = torch.randn(96, 10), torch.randint(0, 3, (96,))
    moco = MoCo(make_encoder)
    pretrain(moco, x, 2)
    linear_probe(moco.encoder_q, x, y, 3)
