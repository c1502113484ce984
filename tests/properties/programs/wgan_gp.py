"""Wasserstein GAN: several critic steps a generator step, a gradient penalty, a frozen critic."""
import copy
import itertools

import torch
from torch import autograd, nn, optim
from torch.utils.data import DataLoader, TensorDataset

LATENT, N_CRITIC, LAMBDA_GP = 8, 3, 10.0


class Generator(nn.Module):
    def __init__(self, latent=LATENT, width=32):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(latent, width),
            nn.BatchNorm1d(width),
            nn.ReLU(inplace=True),
            nn.Linear(width, width),
            nn.BatchNorm1d(width),
            nn.ReLU(inplace=True),
        )
        self.to_data = nn.Linear(width, 2)

    def forward(self, z):
        return self.to_data(self.body(z))


class Critic(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(2, width), nn.LeakyReLU(0.2), nn.Linear(width, width), nn.LeakyReLU(0.2)
        )
        self.score = nn.Linear(width, 1)

    def forward(self, x):
        return self.score(self.net(x)).squeeze(-1)


def weights_init(m):
    if isinstance(m, nn.Linear):
        nn.init.normal_(m.weight, 0.0, 0.05)
        nn.init.zeros_(m.bias)


def set_requires_grad(net, flag):
    for p in net.parameters():
        p.requires_grad = flag


def gradient_penalty(critic, real, fake):
    eps = torch.rand(real.size(0), 1, device=real.device)
    mixed = (eps * real + (1 - eps) * fake).requires_grad_(True)
    scores = critic(mixed)
    grads = autograd.grad(
        outputs=scores,
        inputs=mixed,
        grad_outputs=torch.ones_like(scores),
        create_graph=True,
        retain_graph=True,
    )[0]
    return ((grads.norm(2, dim=1) - 1) ** 2).mean()


class WGAN:
    def __init__(self, lr=1e-3, device="cpu"):
        self.device = torch.device(device)
        self.netG = Generator().to(self.device)
        self.netD = Critic().to(self.device)
        self.netG.apply(weights_init)
        self.netD.apply(weights_init)
        self.shadow = copy.deepcopy(self.netG).eval()
        set_requires_grad(self.shadow, False)
        self.optG = optim.Adam(self.netG.parameters(), lr=lr, betas=(0.0, 0.9))
        self.optD = optim.Adam(self.netD.parameters(), lr=lr, betas=(0.0, 0.9))
        self.schedG = optim.lr_scheduler.LinearLR(self.optG, 1.0, 0.1, total_iters=10)
        self.schedD = optim.lr_scheduler.LinearLR(self.optD, 1.0, 0.1, total_iters=10)

    def noise(self, n):
        return torch.randn(n, LATENT, device=self.device)

    def critic_step(self, real):
        set_requires_grad(self.netD, True)
        self.optD.zero_grad(set_to_none=True)
        with torch.no_grad():
            fake = self.netG(self.noise(real.size(0)))
        loss_real = -self.netD(real).mean()
        loss_fake = self.netD(fake).mean()
        gp = gradient_penalty(self.netD, real, fake)
        loss = loss_real + loss_fake + LAMBDA_GP * gp
        loss.backward()
        self.optD.step()
        return (-(loss_real + loss_fake)).item()

    def generator_step(self, n):
        set_requires_grad(self.netD, False)
        self.optG.zero_grad(set_to_none=True)
        loss = -self.netD(self.netG(self.noise(n))).mean()
        loss.backward()
        self.optG.step()
        self.update_shadow()
        return loss.item()

    @torch.no_grad()
    def update_shadow(self, beta=0.9):
        for a, b in zip(self.shadow.parameters(), self.netG.parameters()):
            a.lerp_(b, 1 - beta)
        for a, b in zip(self.shadow.buffers(), self.netG.buffers()):
            a.copy_(b)

    @torch.no_grad()
    def sample(self, n):
        self.shadow.eval()
        return self.shadow(self.noise(n)).cpu()

    def fit(self, loader, epochs):
        for epoch in range(epochs):
            self.netG.train()
            self.netD.train()
            stream = itertools.cycle(loader)
            for it in range(len(loader) // N_CRITIC + 1):
                for _ in range(N_CRITIC):
                    (real,) = next(stream)
                    w_dist = self.critic_step(real.to(self.device))
                g_loss = self.generator_step(real.size(0))
                if it % 2 == 0:
                    print(f"epoch {epoch} it {it} wdist {w_dist:.3f} g {g_loss:.3f}")
            self.schedG.step()
            self.schedD.step()
            fid = (self.sample(64).mean(0) - torch.tensor([2.0, -1.0])).norm().item()
            print(f"epoch {epoch} distance of the means {fid:.3f}")


if __name__ == "__main__":
    torch.manual_seed(3)
    points = torch.randn(128, 2) * 0.3 + torch.tensor([2.0, -1.0])
    WGAN().fit(DataLoader(TensorDataset(points), batch_size=16, shuffle=True, drop_last=True), 2)
