"""A variational autoencoder that draws pictures after each epoch."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader


class VAE(nn.Module):
    def __init__(self, pixels=36, latent=4):
        super().__init__()
        self.latent = latent
        self.encoder = nn.Sequential(nn.Linear(pixels, 32), nn.BatchNorm1d(32), nn.ReLU())
        self.mu = nn.Linear(32, latent)
        self.log_var = nn.Linear(32, latent)
        self.decoder = nn.Sequential(nn.Linear(latent, 32), nn.ReLU(), nn.Linear(32, pixels))

    def reparameterize(self, mu, log_var):
        if self.training:
            return mu + torch.exp(0.5 * log_var) * torch.randn_like(mu)
        return mu

    def forward(self, x):
        hidden = self.encoder(x.flatten(1))
        mu, log_var = self.mu(hidden), self.log_var(hidden)
        return torch.sigmoid(self.decoder(self.reparameterize(mu, log_var))), mu, log_var

    def loss_function(self, recon, x, mu, log_var, beta=1.0):
        reconstruction = F.binary_cross_entropy(recon, x.flatten(1), reduction="sum")
        divergence = -0.5 * torch.sum(1 + log_var - mu.pow(2) - log_var.exp())
        return reconstruction + beta * divergence

    @torch.no_grad()
    def sample(self, count):
        return torch.sigmoid(self.decoder(torch.randn(count, self.latent)))


class Experiment:
    def __init__(self, vae, lr=1e-3):
        self.vae = vae
        self.opt = torch.optim.Adam(vae.parameters(), lr=lr)
        self.log = {"train": [], "test": []}

    def train(self, loader):
        self.vae.train()
        total = 0
        for batch in loader:
            self.opt.zero_grad()
            recon, mu, log_var = self.vae(batch)
            loss = self.vae.loss_function(recon, batch, mu, log_var)
            loss.backward()
            self.opt.step()
            total += loss.item()
        self.log["train"].append(total / len(loader.dataset))

    def test(self, loader):
        self.vae.eval()
        total = 0
        with torch.no_grad():
            for i, batch in enumerate(loader):
                recon, mu, log_var = self.vae(batch)
                total += self.vae.loss_function(recon, batch, mu, log_var).item()
                if i == 0:
                    self.pictures = torch.cat([batch[:4].flatten(1), recon[:4]])
        self.log["test"].append(total / len(loader.dataset))


if __name__ == "__main__":
    data = torch.rand(120, 1, 6, 6)
    train_loader, test_loader = DataLoader(data[:100], 20, shuffle=True), DataLoader(data[100:], 20)
    experiment = Experiment(VAE())
    for epoch in range(1, 4):
        experiment.train(train_loader)
        experiment.test(test_loader)
        print(epoch, experiment.log["test"][-1], experiment.vae.sample(2).shape)
