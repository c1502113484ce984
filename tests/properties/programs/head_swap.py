import torch
import torch.nn as nn
import torchvision.models as models
from torch.utils.data import DataLoader, TensorDataset

images = TensorDataset(torch.randn(40, 3, 64, 64), torch.randint(0, 7, (40,)))
loaders = {name: DataLoader(images, batch_size=8) for name in ("train", "valid")}

net = models.mobilenet_v2(weights="DEFAULT")
for weight in net.parameters():
    weight.requires_grad = False
net.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 7))
opt = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
loss_fn = nn.CrossEntropyLoss()

for epoch in range(4):
    net.train()
    for x, y in loaders["train"]:
        opt.zero_grad()
        pred = net(x)
        loss = loss_fn(pred, y)
        loss.backward()
        opt.step()
    net.eval()
    hits = 0
    with torch.no_grad():
        for x, y in loaders["valid"]:
            hits += (net(x).argmax(1) == y).float().sum().item()
    print(f"epoch {epoch}: {hits / len(images):.2%}")
