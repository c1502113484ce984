"""Nodes of one graph are classified; train and test work on globals."""
import torch
import torch.nn.functional as F
from torch.nn import BatchNorm1d, Linear, Module, ModuleList

torch.manual_seed(12)
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class GraphConv(Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.lin = Linear(in_channels, out_channels, bias=False)

    def forward(self, x, adj):
        return adj @ self.lin(x)


class GCN(Module):
    def __init__(self, in_channels, hidden, out_channels, num_layers=3, dropout=0.5):
        super().__init__()
        self.convs = ModuleList()
        self.convs.append(GraphConv(in_channels, hidden))
        self.bns = ModuleList()
        self.bns.append(BatchNorm1d(hidden))
        for _ in range(num_layers - 2):
            self.convs.append(GraphConv(hidden, hidden))
            self.bns.append(BatchNorm1d(hidden))
        self.convs.append(GraphConv(hidden, out_channels))
        self.dropout = dropout

    def reset_parameters(self):
        for conv in self.convs:
            conv.lin.reset_parameters()
        for bn in self.bns:
            bn.reset_parameters()

    def forward(self, x, adj):
        for i, conv in enumerate(self.convs[:-1]):
            x = conv(x, adj)
            x = self.bns[i](x)
            x = F.relu(x)
            x = F.dropout(x, p=self.dropout, training=self.training)
        x = self.convs[-1](x, adj)
        return x.log_softmax(dim=-1)


num_nodes, num_classes = 120, 3
y = torch.randint(0, num_classes, (num_nodes,))
x = F.one_hot(y, num_classes).float() + 0.8 * torch.randn(num_nodes, num_classes)
edges = (torch.rand(num_nodes, num_nodes) < 0.05).float()
same = (y[:, None] == y[None, :]).float()
edges = ((edges * (0.2 + same)) > 0.3).float()
edges = ((edges + edges.t()) > 0).float() + torch.eye(num_nodes)
degree = edges.sum(dim=1).pow(-0.5)
adj = degree[:, None] * edges * degree[None, :]
order = torch.randperm(num_nodes)
split_idx = {"train": order[:60], "valid": order[60:90], "test": order[90:]}

x, y, adj = x.to(device), y.to(device), adj.to(device)
model = GCN(num_classes, 16, num_classes).to(device)


def train():
    model.train()
    optimizer.zero_grad()
    out = model(x, adj)[split_idx["train"]]
    loss = F.nll_loss(out, y[split_idx["train"]])
    loss.backward()
    optimizer.step()
    return loss.item()


@torch.no_grad()
def test():
    model.eval()
    out = model(x, adj)
    y_pred = out.argmax(dim=-1)
    accs = []
    for split in ("train", "valid", "test"):
        idx = split_idx[split]
        accs.append((y_pred[idx] == y[idx]).float().mean().item())
    return accs


results = []
for run in range(2):
    model.reset_parameters()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
    best_val = final_test = 0.0
    for epoch in range(1, 16):
        loss = train()
        train_acc, val_acc, test_acc = test()
        if val_acc > best_val:
            best_val, final_test = val_acc, test_acc
        if epoch % 5 == 0:
            print(f"run {run:02d} epoch {epoch:03d} loss {loss:.4f} val {val_acc:.3f}")
    results.append(final_test)
print("test accuracy", sum(results) / len(results))
