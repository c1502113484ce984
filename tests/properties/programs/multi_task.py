"""Two tasks over a shared trunk, each with a head, weighed by uncertainties that are learned."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset


class SharedTrunk(nn.Module):
    def __init__(self, n_in, hidden, p):
        super().__init__()
        self.layers = nn.ModuleList(
            [nn.Linear(n_in if i == 0 else hidden, hidden) for i in range(2)]
        )
        self.norms = nn.ModuleList([nn.LayerNorm(hidden) for _ in range(2)])
        self.p = p

    def forward(self, x):
        for layer, norm in zip(self.layers, self.norms):
            x = F.dropout(F.relu(norm(layer(x))), p=self.p, training=self.training)
        return x


class MultiTaskNet(nn.Module):
    def __init__(self, n_in, tasks, hidden=32, p=0.2):
        super().__init__()
        self.trunk = SharedTrunk(n_in, hidden, p)
        self.heads = nn.ModuleDict({name: nn.Linear(hidden, size) for name, size in tasks.items()})

    def forward(self, x):
        shared = self.trunk(x)
        return {name: head(shared) for name, head in self.heads.items()}


class UncertaintyWeights(nn.Module):
    def __init__(self, names):
        super().__init__()
        self.log_vars = nn.ParameterDict({name: nn.Parameter(torch.zeros(())) for name in names})

    def forward(self, losses):
        total = 0.0
        for name, loss in losses.items():
            total = total + torch.exp(-self.log_vars[name]) * loss + self.log_vars[name]
        return total


LOSSES = {
    "kind": lambda out, y: F.cross_entropy(out, y.long()),
    "size": lambda out, y: F.mse_loss(out.squeeze(-1), y),
}


def compute_losses(outputs, targets):
    return {name: LOSSES[name](outputs[name], targets[name]) for name in outputs}


def unpack(batch, device):
    x, kind, size = (t.to(device) for t in batch)
    return x, {"kind": kind, "size": size}


class Runner:
    def __init__(self, model, weights, device):
        self.model = model.to(device)
        self.weights = weights.to(device)
        self.device = device
        self.optimizer = torch.optim.AdamW(
            [
                {"params": self.model.parameters()},
                {"params": self.weights.parameters(), "lr": 1e-2, "weight_decay": 0.0},
            ],
            lr=3e-3,
        )
        self.scheduler = None
        self.step = 0

    def fit(self, train_loader, val_loader, epochs):
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, max_lr=[1e-2, 2e-2], total_steps=epochs * len(train_loader)
        )
        for epoch in range(epochs):
            for phase, loader in (("train", train_loader), ("val", val_loader)):
                metrics = self.run_phase(phase, loader)
                print(f"{epoch} {phase:5s} " + " ".join(f"{k} {v:.3f}" for k, v in metrics.items()))

    def run_phase(self, phase, loader):
        training = phase == "train"
        self.model.train(training)
        sums, count = {"kind": 0.0, "size": 0.0, "accuracy": 0.0}, 0
        for batch in loader:
            x, targets = unpack(batch, self.device)
            with torch.set_grad_enabled(training):
                outputs = self.model(x)
                losses = compute_losses(outputs, targets)
                if training:
                    loss = self.weights(losses)
                    self.optimizer.zero_grad()
                    loss.backward()
                    self.optimizer.step()
                    self.scheduler.step()
                    self.step += 1
            n = x.size(0)
            for name, value in losses.items():
                sums[name] += value.item() * n
            hits = outputs["kind"].argmax(-1) == targets["kind"].long()
            sums["accuracy"] += hits.float().sum().item()
            count += n
        return {k: v / count for k, v in sums.items()}


def main():
    torch.manual_seed(4)
    x = torch.randn(128, 6)
    kind = (x[:, 0] + x[:, 1] > 0).float()
    size = x[:, 2] * 0.5 - x[:, 3]
    dataset = TensorDataset(x, kind, size)
    train_set, val_set = torch.utils.data.random_split(dataset, [96, 32])
    train_loader = DataLoader(train_set, batch_size=16, shuffle=True)
    val_loader = DataLoader(val_set, batch_size=32)
    tasks = {"kind": 2, "size": 1}
    runner = Runner(MultiTaskNet(6, tasks), UncertaintyWeights(tasks), torch.device("cpu"))
    runner.fit(train_loader, val_loader, epochs=3)


if __name__ == "__main__":
    main()
