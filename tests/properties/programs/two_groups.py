import torch
from torch import nn
from torchvision.models import resnet34


class Detector(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.backbone = resnet34(weights="DEFAULT")
        self.backbone.fc = nn.Identity()
        self.neck = nn.Sequential(nn.Linear(512, 256), nn.ReLU(), nn.Dropout(0.5))
        self.head = nn.Linear(256, classes)

    def forward(self, images):
        return self.head(self.neck(self.backbone(images)))


def step(model, batch, optimizer, loss_fn):
    images, labels = batch
    optimizer.zero_grad()
    loss = loss_fn(model(images), labels)
    loss.backward()
    optimizer.step()
    return loss.detach()


def validate(model, loader, loss_fn):
    training = model.training
    model.eval()
    values = []
    with torch.no_grad():
        for images, labels in loader:
            values.append(loss_fn(model(images), labels).item())
    model.train(training)
    return sum(values) / len(values)


def main(train_loader, val_loader, max_steps=1000, eval_every=100):
    model = Detector(20)
    optimizer = torch.optim.AdamW(
        [
            {"params": model.backbone.parameters(), "lr": 1e-5},
            {"params": [*model.neck.parameters(), *model.head.parameters()]},
        ],
        lr=1e-3,
    )
    warmup = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: min(1.0, (s + 1) / 100))
    loss_fn = nn.CrossEntropyLoss(label_smoothing=0.1)
    model.train()
    done = 0
    while done < max_steps:
        for batch in train_loader:
            loss = step(model, batch, optimizer, loss_fn)
            warmup.step()
            done += 1
            if done % eval_every == 0:
                print(done, loss.item(), validate(model, val_loader, loss_fn))
    torch.save(model.state_dict(), "detector.pt")
