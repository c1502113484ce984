"""A student learns from few labels and from the average of its own past."""

import copy

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def make_net():
    return nn.Sequential(
        nn.Linear(10, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 3)
    )


@torch.no_grad()
def update_average(teacher, student, decay):
    for old, new in zip(teacher.parameters(), student.parameters()):
        old.mul_(decay).add_(new, alpha=1 - decay)
    for old, new in zip(teacher.buffers(), student.buffers()):
        old.copy_(new)


def consistency(student_logits, teacher_logits):
    return F.mse_loss(student_logits.softmax(1), teacher_logits.softmax(1))


def accuracy(net, loader):
    was_training = net.training
    net.eval()
    right = seen = 0
    with torch.no_grad():
        for x, y in loader:
            right += (net(x).argmax(1) == y).sum().item()
            seen += y.size(0)
    net.train(was_training)
    return right / seen


def main():
    labelled = DataLoader(
        TensorDataset(torch.randn(40, 10), torch.randint(0, 3, (40,))), batch_size=10, shuffle=True
    )
    unlabelled = DataLoader(torch.randn(80, 10), batch_size=20, shuffle=True)
    test = DataLoader(TensorDataset(torch.randn(30, 10), torch.randint(0, 3, (30,))), batch_size=30)
    student = make_net()
    teacher = copy.deepcopy(student)
    teacher.requires_grad_(False)
    teacher.eval()
    optimizer = torch.optim.SGD(student.parameters(), lr=0.05, momentum=0.9, nesterov=True)
    student.train()
    for epoch in range(4):
        weight = min(1.0, epoch / 2)
        for (x, y), u in zip(labelled, unlabelled):
            supervised = F.cross_entropy(student(x), y)
            noisy = student(u + 0.1 * torch.randn_like(u))
            with torch.no_grad():
                target = teacher(u)
            loss = supervised + weight * consistency(noisy, target)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            update_average(teacher, student, 0.99)
        print(epoch, accuracy(student, test), accuracy(teacher, test))


if __name__ == "__main__":
    main()
