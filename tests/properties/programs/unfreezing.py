"""First the head, then everything with a smaller step for the backbone."""

import torch
from torch import nn


def features(width=16):
    return nn.Sequential(
        nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
    )


class Classifier(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.backbone = features()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(16, classes))

    def forward(self, x):
        return self.head(self.pool(self.backbone(x)).flatten(1))

    def freeze(self):
        for param in self.backbone.parameters():
            param.requires_grad = False

    def unfreeze(self):
        for param in self.backbone.parameters():
            param.requires_grad = True


def train_epoch(model, data, optimizer, criterion):
    model.train()
    total = 0.0
    for images, labels in data:
        optimizer.zero_grad()
        outputs = model(images)
        loss = criterion(outputs, labels)
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total / len(data)


def evaluate(model, data):
    model.eval()
    right = 0
    with torch.no_grad():
        for images, labels in data:
            right += (model(images).argmax(1) == labels).sum().item()
    return right


def main():
    data = [(torch.randn(2, 3, 32, 32), torch.randint(0, 3, (2,))) for _ in range(3)]
    model = Classifier(3)
    criterion = nn.CrossEntropyLoss()
    model.freeze()
    optimizer = torch.optim.Adam(model.head.parameters(), lr=1e-3)
    for _ in range(2):
        print(train_epoch(model, data, optimizer, criterion), evaluate(model, data))
    model.unfreeze()
    optimizer = torch.optim.Adam(
        [
            {"params": model.backbone.parameters(), "lr": 1e-5},
            {"params": model.head.parameters(), "lr": 1e-4},
        ]
    )
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=2)
    for _ in range(2):
        print(train_epoch(model, data, optimizer, criterion), evaluate(model, data))
        scheduler.step()


if __name__ == "__main__":
    main()
