import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Subset, TensorDataset


class BaseModel(nn.Module):
    def __str__(self):
        count = sum(p.numel() for p in self.parameters() if p.requires_grad)
        return super().__str__() + f"\nTrainable parameters: {count}"


class DigitModel(BaseModel):
    def __init__(self, num_classes=4):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, kernel_size=3)
        self.conv2 = nn.Conv2d(6, 8, kernel_size=3)
        self.conv2_drop = nn.Dropout2d()
        self.fc1 = nn.Linear(32, 16)
        self.fc2 = nn.Linear(16, num_classes)

    def forward(self, x):
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.conv2_drop(self.conv2(x)), 2))
        x = F.relu(self.fc1(x.view(x.size(0), -1)))
        x = F.dropout(x, training=self.training)
        return F.log_softmax(self.fc2(x), dim=1)


class SplitLoader(DataLoader):
    def __init__(self, batch_size, validation_split, shuffle=True, n=100):
        g = torch.Generator().manual_seed(0)
        y = torch.randint(0, 4, (n,), generator=g)
        x = torch.randn(n, 1, 14, 14, generator=g) * 0.5 + y.view(-1, 1, 1, 1)
        dataset, cut = TensorDataset(x, y), int(n * validation_split)
        self.valid_set = Subset(dataset, range(cut))
        self.valid_batch = batch_size
        super().__init__(Subset(dataset, range(cut, n)), batch_size, shuffle=shuffle)

    def split_validation(self):
        return DataLoader(self.valid_set, self.valid_batch) if len(self.valid_set) else None


def nll_loss(output, target):
    return F.nll_loss(output, target)


def accuracy(output, target):
    with torch.no_grad():
        pred = torch.argmax(output, dim=1)
        return torch.sum(pred == target).item() / len(target)


def top_k_acc(output, target, k=2):
    with torch.no_grad():
        pred = torch.topk(output, k, dim=1)[1]
        return sum((pred[:, i] == target).sum().item() for i in range(k)) / len(target)
