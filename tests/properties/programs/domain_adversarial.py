"""Labelled and unlabelled domains: a gradient that is turned round tells them not apart."""
import numpy as np
import torch
import torch.nn as nn
from torch.autograd import Function
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(9)


class ReverseLayerF(Function):
    @staticmethod
    def forward(ctx, x, alpha):
        ctx.alpha = alpha
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad_output):
        return grad_output.neg() * ctx.alpha, None


class DANN(nn.Module):
    def __init__(self):
        super(DANN, self).__init__()
        self.feature = nn.Sequential()
        self.feature.add_module("f_fc1", nn.Linear(2, 24))
        self.feature.add_module("f_bn1", nn.BatchNorm1d(24))
        self.feature.add_module("f_relu1", nn.ReLU(True))
        self.class_classifier = nn.Sequential()
        self.class_classifier.add_module("c_drop", nn.Dropout())
        self.class_classifier.add_module("c_fc", nn.Linear(24, 2))
        self.class_classifier.add_module("c_softmax", nn.LogSoftmax(dim=1))
        self.domain_classifier = nn.Sequential()
        self.domain_classifier.add_module("d_fc1", nn.Linear(24, 12))
        self.domain_classifier.add_module("d_relu", nn.ReLU(True))
        self.domain_classifier.add_module("d_fc2", nn.Linear(12, 2))
        self.domain_classifier.add_module("d_softmax", nn.LogSoftmax(dim=1))

    def forward(self, input_data, alpha):
        feature = self.feature(input_data)
        reverse_feature = ReverseLayerF.apply(feature, alpha)
        class_output = self.class_classifier(feature)
        domain_output = self.domain_classifier(reverse_feature)
        return class_output, domain_output


def moons(n, shift):
    label = torch.randint(0, 2, (n,))
    angle = torch.rand(n) * torch.pi + label * torch.pi + shift
    points = torch.stack([torch.cos(angle) + label * 0.6, torch.sin(angle)], dim=1)
    return TensorDataset(points + 0.05 * torch.randn(n, 2), label)


def test(net, dataset):
    loader = DataLoader(dataset, batch_size=32, shuffle=False)
    net = net.eval()
    n_total, n_correct = 0, 0
    with torch.no_grad():
        for t_img, t_label in loader:
            class_output, _ = net(input_data=t_img, alpha=0)
            pred = class_output.data.max(1, keepdim=True)[1]
            n_correct += pred.eq(t_label.data.view_as(pred)).cpu().sum().item()
            n_total += len(t_label)
    return n_correct / n_total


source, target = moons(96, 0.0), moons(96, 0.5)
dataloader_source = DataLoader(source, batch_size=16, shuffle=True)
dataloader_target = DataLoader(target, batch_size=16, shuffle=True)

my_net = DANN()
optimizer = torch.optim.Adam(my_net.parameters(), lr=1e-2)
loss_class = torch.nn.NLLLoss()
loss_domain = torch.nn.NLLLoss()
n_epoch = 3
best_accu_t = 0.0

for epoch in range(n_epoch):
    my_net.train()
    len_dataloader = min(len(dataloader_source), len(dataloader_target))
    data_source_iter = iter(dataloader_source)
    data_target_iter = iter(dataloader_target)
    for i in range(len_dataloader):
        p = float(i + epoch * len_dataloader) / n_epoch / len_dataloader
        alpha = 2.0 / (1.0 + np.exp(-10 * p)) - 1

        s_img, s_label = next(data_source_iter)
        my_net.zero_grad()
        domain_label = torch.zeros(len(s_label)).long()
        class_output, domain_output = my_net(input_data=s_img, alpha=alpha)
        err_s_label = loss_class(class_output, s_label)
        err_s_domain = loss_domain(domain_output, domain_label)

        t_img, _ = next(data_target_iter)
        domain_label = torch.ones(len(t_img)).long()
        _, domain_output = my_net(input_data=t_img, alpha=alpha)
        err_t_domain = loss_domain(domain_output, domain_label)
        err = err_t_domain + err_s_domain + err_s_label
        err.backward()
        optimizer.step()
        print("epoch: %d, [%d/%d], err: %f" % (epoch, i + 1, len_dataloader, err.item()))

    accu_s = test(my_net, source)
    accu_t = test(my_net, target)
    print("accuracy source %.3f target %.3f" % (accu_s, accu_t))
    if accu_t > best_accu_t:
        best_accu_t = accu_t
print("best target accuracy", best_accu_t)
