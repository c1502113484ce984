"""A student learns a teacher's answers and its inner features, which hooks bring out."""
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


def make_cnn(widths, classes=5, dropout=0.0):
    layers, last = [], 1
    for w in widths:
        layers += [nn.Conv1d(last, w, 5, padding=2), nn.BatchNorm1d(w), nn.ReLU(), nn.MaxPool1d(2)]
        last = w
    return nn.Sequential(
        *layers, nn.Flatten(), nn.Dropout(dropout), nn.Linear(last * (32 // 2 ** len(widths)), classes)
    )


class FeatureTap:
    def __init__(self, module):
        self.value = None
        self.handle = module.register_forward_hook(self._save)

    def _save(self, module, args, output):
        self.value = output

    def close(self):
        self.handle.remove()


class DistillationLoss(nn.Module):
    def __init__(self, s_dim, t_dim, temperature=4.0, alpha=0.7, beta=0.1):
        super().__init__()
        self.regressor = nn.Conv1d(s_dim, t_dim, kernel_size=1)
        self.T, self.alpha, self.beta = temperature, alpha, beta

    def forward(self, s_logits, t_logits, s_feat, t_feat, labels):
        hard = F.cross_entropy(s_logits, labels)
        soft = F.kl_div(
            F.log_softmax(s_logits / self.T, dim=1),
            F.softmax(t_logits / self.T, dim=1),
            reduction="batchmean",
        ) * (self.T * self.T)
        hint = F.mse_loss(self.regressor(s_feat), t_feat)
        return (1 - self.alpha) * hard + self.alpha * soft + self.beta * hint


class Distiller:
    def __init__(self, teacher, student, loaders, lr=1e-2):
        self.teacher, self.student = teacher, student
        self.train_loader, self.test_loader = loaders
        self.t_tap, self.s_tap = FeatureTap(teacher[4]), FeatureTap(student[4])
        self.criterion = DistillationLoss(12, 24)
        params = list(student.parameters()) + list(self.criterion.parameters())
        self.optimizer = torch.optim.SGD(params, lr=lr, momentum=0.9, nesterov=True)
        self.scheduler = torch.optim.lr_scheduler.MultiStepLR(self.optimizer, [2], gamma=0.1)
        for p in self.teacher.parameters():
            p.requires_grad_(False)
        self.teacher.eval()

    def step(self, x, y):
        with torch.no_grad():
            t_logits = self.teacher(x)
        s_logits = self.student(x)
        loss = self.criterion(s_logits, t_logits, self.s_tap.value, self.t_tap.value, y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item(), (s_logits.argmax(1) == y).float().mean().item()

    def train(self, epochs):
        for epoch in range(epochs):
            self.student.train()
            logs = [self.step(x, y) for x, y in self.train_loader]
            self.scheduler.step()
            loss, acc = (sum(v) / len(logs) for v in zip(*logs))
            print(f"{epoch}: loss {loss:.3f} acc {acc:.3f} test {test(self.student, self.test_loader):.3f}")
        self.t_tap.close()
        self.s_tap.close()


def test(net, loader):
    was_training = net.training
    net.eval()
    correct = 0
    with torch.no_grad():
        for x, y in loader:
            correct += net(x).argmax(1).eq(y).sum().item()
    net.train(was_training)
    return correct / len(loader.dataset)


def train_teacher(teacher, loader, epochs=3):
    optimizer = torch.optim.Adam(teacher.parameters(), lr=5e-3)
    teacher.train()
    for _ in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            F.cross_entropy(teacher(x), y).backward()
            optimizer.step()


def main():
    torch.manual_seed(2)
    y = torch.randint(0, 5, (150,))
    grid = torch.arange(32) / 32
    x = torch.sin(2 * torch.pi * grid * (y[:, None] + 1)).unsqueeze(1) + 0.3 * torch.randn(150, 1, 32)
    train_loader = DataLoader(TensorDataset(x[:100], y[:100]), 20, shuffle=True)
    test_loader = DataLoader(TensorDataset(x[100:], y[100:]), 50)
    teacher, student = make_cnn([16, 24], dropout=0.2), make_cnn([6, 12], dropout=0.1)
    train_teacher(teacher, train_loader)
    print("teacher", test(teacher, test_loader))
    Distiller(teacher, student, (train_loader, test_loader)).train(3)
    print("student", test(student, test_loader))


if __name__ == "__main__":
    main()
