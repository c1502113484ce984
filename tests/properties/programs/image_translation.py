"""Two generators, two critics, two optimizers, and a buffer of older pictures."""

import itertools
import random

import torch
import torch.nn as nn


class Generator(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Conv2d(width, 1, 3, padding=1),
            nn.Tanh(),
        )

    def forward(self, x):
        return self.net(x)


class Critic(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, width, 3, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 1, 3, padding=1),
        )

    def forward(self, x):
        return self.net(x)


class Buffer:
    def __init__(self, size=20):
        self.size = size
        self.held = []

    def swap(self, images):
        result = []
        for image in images.detach():
            if len(self.held) < self.size:
                self.held.append(image)
                result.append(image)
            elif random.random() < 0.5:
                at = random.randrange(self.size)
                result.append(self.held[at])
                self.held[at] = image
            else:
                result.append(image)
        return torch.stack(result)


def set_requires_grad(nets, flag):
    for net in nets:
        for param in net.parameters():
            param.requires_grad = flag


def critic_loss(critic, real, fake, mse):
    on_real = critic(real)
    on_fake = critic(fake.detach())
    return 0.5 * (mse(on_real, torch.ones_like(on_real)) + mse(on_fake, torch.zeros_like(on_fake)))


def train(epochs=2, batches=3):
    g_ab, g_ba, d_a, d_b = Generator(), Generator(), Critic(), Critic()
    opt_g = torch.optim.Adam(
        itertools.chain(g_ab.parameters(), g_ba.parameters()), lr=2e-4, betas=(0.5, 0.999)
    )
    opt_d = torch.optim.Adam(
        itertools.chain(d_a.parameters(), d_b.parameters()), lr=2e-4, betas=(0.5, 0.999)
    )
    mse, l1 = nn.MSELoss(), nn.L1Loss()
    old_a, old_b = Buffer(), Buffer()
    for epoch in range(epochs):
        for _ in range(batches):
            real_a, real_b = torch.randn(2, 1, 8, 8), torch.randn(2, 1, 8, 8)
            set_requires_grad([d_a, d_b], False)
            opt_g.zero_grad()
            fake_b, fake_a = g_ab(real_a), g_ba(real_b)
            judged_b, judged_a = d_b(fake_b), d_a(fake_a)
            adversarial = mse(judged_b, torch.ones_like(judged_b)) + mse(
                judged_a, torch.ones_like(judged_a)
            )
            cycle = l1(g_ba(fake_b), real_a) + l1(g_ab(fake_a), real_b)
            loss_g = adversarial + 10.0 * cycle
            loss_g.backward()
            opt_g.step()

            set_requires_grad([d_a, d_b], True)
            opt_d.zero_grad()
            loss_d = critic_loss(d_a, real_a, old_a.swap(fake_a), mse) + critic_loss(
                d_b, real_b, old_b.swap(fake_b), mse
            )
            loss_d.backward()
            opt_d.step()
        print(epoch, loss_g.item(), loss_d.item())
    return g_ab


if __name__ == "__main__":
    train()
