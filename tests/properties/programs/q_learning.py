"""Deep Q-learning with a target net and a memory, its options from the command line."""

import argparse
import random
from collections import deque, namedtuple

import torch
import torch.nn as nn
import torch.optim as optim

Transition = namedtuple("Transition", ("state", "action", "next_state", "reward", "alive"))


class Memory(object):
    def __init__(self, capacity):
        self.memory = deque([], maxlen=capacity)

    def push(self, *args):
        self.memory.append(Transition(*args))

    def sample(self, count):
        return Transition(*zip(*random.sample(self.memory, count)))

    def __len__(self):
        return len(self.memory)


class QNet(nn.Module):
    def __init__(self, states, actions):
        super().__init__()
        self.layer1 = nn.Linear(states, 24)
        self.layer2 = nn.Linear(24, actions)

    def forward(self, x):
        return self.layer2(torch.relu(self.layer1(x)))


parser = argparse.ArgumentParser()
parser.add_argument("--episodes", type=int, default=12)
parser.add_argument("--batch-size", type=int, default=16)
parser.add_argument("--gamma", type=float, default=0.95)
parser.add_argument("--tau", type=float, default=0.05)
args = parser.parse_args()

policy_net = QNet(2, 2)
target_net = QNet(2, 2)
target_net.load_state_dict(policy_net.state_dict())
optimizer = optim.AdamW(policy_net.parameters(), lr=1e-3, amsgrad=True)
memory = Memory(500)


def select_action(state, epsilon):
    if random.random() > epsilon:
        with torch.no_grad():
            return policy_net(state).argmax().view(1)
    return torch.randint(0, 2, (1,))


def optimize_model():
    if len(memory) < args.batch_size:
        return
    batch = memory.sample(args.batch_size)
    states, actions = torch.stack(batch.state), torch.stack(batch.action)
    rewards, alive = torch.tensor(batch.reward), torch.tensor(batch.alive)
    values = policy_net(states).gather(1, actions).squeeze(1)
    with torch.no_grad():
        following = target_net(torch.stack(batch.next_state)).max(1).values
    expected = rewards + args.gamma * following * alive
    criterion = nn.SmoothL1Loss()
    loss = criterion(values, expected)
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_value_(policy_net.parameters(), 100)
    optimizer.step()


def soft_update():
    target, policy = target_net.state_dict(), policy_net.state_dict()
    for key in policy:
        target[key] = policy[key] * args.tau + target[key] * (1 - args.tau)
    target_net.load_state_dict(target)


for episode in range(args.episodes):
    position, total = 0.0, 0.0
    state = torch.tensor([position, 1.0])
    for t in range(15):
        action = select_action(state, max(0.1, 1 - episode / 6))
        position += 0.25 if action.item() == 1 else -0.25
        done = abs(position) >= 1
        reward = 1.0 if position >= 1 else -0.02
        next_state = torch.tensor([position, 1 - t / 15])
        memory.push(state, action, next_state, reward, 0.0 if done else 1.0)
        state = next_state
        total += reward
        optimize_model()
        soft_update()
        if done:
            break
    print(episode, round(total, 2))
