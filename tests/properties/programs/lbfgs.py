import torch
from torch import nn

torch.manual_seed(1)
x = torch.linspace(-3, 3, 200).unsqueeze(1)
y = torch.sin(2 * x) + 0.1 * torch.randn_like(x)

net = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 1))
objective = nn.MSELoss()
optimizer = torch.optim.LBFGS(net.parameters(), lr=0.5, max_iter=20)

for iteration in range(15):

    def closure():
        optimizer.zero_grad()
        out = net(x)
        loss = objective(out, y)
        loss.backward()
        return loss

    value = optimizer.step(closure)
    print(iteration, value.item())

net.eval()
with torch.no_grad():
    error = (net(x) - y).abs().mean().item()
print("mean error", error)
