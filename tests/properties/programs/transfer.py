import torch
import torchvision
from torch import nn, optim


def freeze(module):
    for parameter in module.parameters():
        parameter.requires_grad = False


def make_model(num_classes):
    net = torchvision.models.efficientnet_b0(weights="DEFAULT")
    freeze(net.features)
    net.classifier[1] = nn.Linear(1280, num_classes)
    return net


def train_one_epoch(net, loader, loss_fn, opt):
    net.train()
    net.features.eval()
    for images, targets in loader:
        logits = net(images)
        loss = loss_fn(logits, targets)
        opt.zero_grad()
        loss.backward()
        opt.step()


def score(net, loader):
    net.eval()
    good = 0
    with torch.no_grad():
        for images, targets in loader:
            good += (net(images).argmax(1) == targets).sum().item()
    return good / len(loader.dataset)


def main(train_loader, test_loader):
    net = make_model(5)
    trainable = [p for p in net.parameters() if p.requires_grad]
    opt = optim.Adam(trainable, lr=1e-3)
    loss_fn = nn.CrossEntropyLoss()
    for _ in range(3):
        train_one_epoch(net, train_loader, loss_fn, opt)
        print(score(net, test_loader))

    for parameter in net.features.parameters():
        parameter.requires_grad = True
    opt = optim.Adam(net.parameters(), lr=1e-5)
    for _ in range(2):
        train_one_epoch(net, train_loader, loss_fn, opt)
        print(score(net, test_loader))
