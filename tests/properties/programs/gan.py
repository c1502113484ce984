import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

latent = 16


class Generator(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(latent, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 32), nn.Tanh()
        )

    def forward(self, z):
        return self.net(z)


class Discriminator(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(32, 64), nn.LeakyReLU(0.2), nn.Dropout(0.3), nn.Linear(64, 1)
        )

    def forward(self, x):
        return self.net(x)


def train(epochs=3):
    loader = DataLoader(TensorDataset(torch.randn(128, 32)), batch_size=16, shuffle=True)
    generator, discriminator = Generator(), Discriminator()
    opt_g = torch.optim.Adam(generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    opt_d = torch.optim.Adam(discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    bce = nn.BCEWithLogitsLoss()
    fixed = torch.randn(8, latent)
    for epoch in range(epochs):
        generator.train()
        for (real,) in loader:
            size = real.size(0)
            ones, zeros = torch.ones(size, 1), torch.zeros(size, 1)

            opt_d.zero_grad()
            fake = generator(torch.randn(size, latent))
            loss_real = bce(discriminator(real), ones)
            loss_fake = bce(discriminator(fake.detach()), zeros)
            loss_d = loss_real + loss_fake
            loss_d.backward()
            opt_d.step()

            opt_g.zero_grad()
            loss_g = bce(discriminator(fake), ones)
            loss_g.backward()
            opt_g.step()
        generator.eval()
        with torch.no_grad():
            samples = generator(fixed)
        torch.save(samples, f"samples_{epoch}.pt")
    return generator


if __name__ == "__main__":
    train()
