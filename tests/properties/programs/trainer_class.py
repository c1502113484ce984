import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Classifier(nn.Module):
    def __init__(self, width, classes):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(width, 32), nn.GELU(), nn.Dropout(0.1))
        self.head = nn.Linear(32, classes)

    def forward(self, x):
        return self.head(self.body(x))


class Trainer:
    def __init__(self, model, train_loader, val_loader, lr=1e-3, max_norm=1.0):
        self.model = model
        self.train_loader = train_loader
        self.val_loader = val_loader
        self.max_norm = max_norm
        self.criterion = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=lr)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, T_max=10)
        self.history = []

    def train_epoch(self):
        self.model.train()
        total = 0.0
        for x, y in self.train_loader:
            self.optimizer.zero_grad()
            logits = self.model(x)
            loss = self.criterion(logits, y)
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), self.max_norm)
            self.optimizer.step()
            total += loss.item()
        return total / len(self.train_loader)

    @torch.no_grad()
    def validate(self):
        self.model.eval()
        hits = 0
        seen = 0
        for x, y in self.val_loader:
            logits = self.model(x)
            hits += (logits.argmax(-1) == y).sum().item()
            seen += y.numel()
        return hits / seen

    def fit(self, epochs):
        for epoch in range(epochs):
            train_loss = self.train_epoch()
            accuracy = self.validate()
            self.scheduler.step()
            self.history.append((epoch, train_loss, accuracy))
        return self.history


def loaders():
    data = TensorDataset(torch.randn(200, 16), torch.randint(0, 3, (200,)))
    return DataLoader(data, batch_size=20, shuffle=True), DataLoader(data, batch_size=50)


if __name__ == "__main__":
    train_loader, val_loader = loaders()
    trainer = Trainer(Classifier(16, 3), train_loader, val_loader)
    print(trainer.fit(5))
