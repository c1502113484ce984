# A notebook's cells, one after the other.
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
device = "cuda" if torch.cuda.is_available() else "cpu"

X = torch.tensor(np.random.randn(120, 1, 12, 12), dtype=torch.float32)
Y = torch.tensor(np.random.randint(0, 5, 120))
train_dl = DataLoader(TensorDataset(X[:100], Y[:100]), batch_size=20, shuffle=True)
test_dl = DataLoader(TensorDataset(X[100:], Y[100:]), batch_size=20)


class CNN(nn.Module):
    def __init__(self):
        super(CNN, self).__init__()
        self.conv1 = nn.Conv2d(1, 6, 3)
        self.conv2 = nn.Conv2d(6, 12, 3)
        self.drop = nn.Dropout2d(0.25)
        self.fc = nn.Linear(12 * 4, 5)

    def forward(self, x):
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.drop(self.conv2(x)), 2, stride=1))
        x = F.dropout(x.flatten(1), p=0.5, training=self.training)
        return F.log_softmax(self.fc(x), dim=1)


model = CNN().to(device)
print(sum(p.numel() for p in model.parameters()))

optimizer = torch.optim.Adadelta(model.parameters(), lr=1.0)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.7)

model(X[:2].to(device)).shape

history = {"train": [], "test": []}
for epoch in range(3):
    model.train()
    epoch_loss = 0
    for xb, yb in train_dl:
        xb, yb = xb.to(device), yb.to(device)
        optimizer.zero_grad()
        output = model(xb)
        loss = F.nll_loss(output, yb)
        loss.backward()
        optimizer.step()
        epoch_loss += loss.item()
    history["train"].append(epoch_loss / len(train_dl))

    model.eval()
    test_loss, correct = 0, 0
    with torch.no_grad():
        for xb, yb in test_dl:
            xb, yb = xb.to(device), yb.to(device)
            output = model(xb)
            test_loss += F.nll_loss(output, yb, reduction="sum").item()
            correct += output.argmax(dim=1).eq(yb).sum().item()
    history["test"].append(test_loss / len(test_dl.dataset))
    scheduler.step()
    print(f"{epoch}: {history['train'][-1]:.3f} {history['test'][-1]:.3f} {correct}")

for name, values in history.items():
    print(name, [round(v, 3) for v in values])

model.eval()
with torch.no_grad():
    sample = model(X[100:104].to(device))
print(sample.argmax(1))
