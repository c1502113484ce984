"""Steps are closures that a factory makes."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split


def make_train_step(model, loss_fn, optimizer):
    seen = 0

    def step(x, y):
        nonlocal seen
        model.train()
        yhat = model(x)
        loss = loss_fn(yhat, y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seen += len(x)
        return loss.item()

    return step


def make_val_step(model, loss_fn):
    def step(x, y):
        model.eval()
        with torch.no_grad():
            yhat = model(x)
            loss = loss_fn(yhat, y)
        return loss.item()

    return step


def mini_batch(loader, step):
    losses = []
    for x, y in loader:
        losses.append(step(x, y))
    return sum(losses) / len(losses)


class Regressor(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(4, 20)
        self.drop = nn.Dropout(p=0.1)
        self.output = nn.Linear(20, 1)
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x):
        x = torch.relu(self.hidden(x))
        return self.scale * self.output(self.drop(x))


x = torch.randn(200, 4)
y = x @ torch.tensor([[1.0], [2.0], [-1.0], [0.5]]) + 0.1 * torch.randn(200, 1)
train_data, val_data = random_split(TensorDataset(x, y), [160, 40])
train_loader = DataLoader(train_data, batch_size=16, shuffle=True)
val_loader = DataLoader(val_data, batch_size=20)

model = Regressor()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
loss_fn = nn.MSELoss(reduction="mean")
train_step = make_train_step(model, loss_fn, optimizer)
val_step = make_val_step(model, loss_fn)

for epoch in range(5):
    train_loss = mini_batch(train_loader, train_step)
    val_loss = mini_batch(val_loader, val_step)
    print(epoch, train_loss, val_loss)
