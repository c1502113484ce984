"""Advantage actor-critic on a small world of its own."""

import torch
from torch import nn
from torch.distributions import Categorical


class Corridor:
    """Walk right to the goal."""

    def reset(self):
        self.at = 0
        self.left = 20
        return self.look()

    def look(self):
        return torch.tensor([self.at / 5.0, self.left / 20.0])

    def step(self, action):
        self.at = max(0, self.at + (1 if action == 1 else -1))
        self.left -= 1
        done = self.at >= 5 or self.left == 0
        return self.look(), (1.0 if self.at >= 5 else -0.05), done


class Actor(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Dropout(0.1), nn.Linear(16, 2))

    def forward(self, state):
        return Categorical(logits=self.body(state))


class Critic(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 1))

    def forward(self, state):
        return self.body(state).squeeze(-1)


class Agent:
    def __init__(self, lr=3e-3, gamma=0.97):
        self.actor = Actor()
        self.critic = Critic()
        self.gamma = gamma
        self.actor_opt = torch.optim.Adam(self.actor.parameters(), lr=lr)
        self.critic_opt = torch.optim.Adam(self.critic.parameters(), lr=lr)

    def act(self, state):
        with torch.no_grad():
            return self.actor(state).sample().item()

    def learn(self, states, actions, returns):
        values = self.critic(states)
        advantage = returns - values.detach()
        policy = self.actor(states)
        actor_loss = -(policy.log_prob(actions) * advantage).mean() - 0.01 * policy.entropy().mean()
        self.actor_opt.zero_grad()
        actor_loss.backward()
        nn.utils.clip_grad_norm_(self.actor.parameters(), 0.5)
        self.actor_opt.step()
        critic_loss = nn.functional.smooth_l1_loss(values, returns)
        self.critic_opt.zero_grad()
        critic_loss.backward()
        self.critic_opt.step()
        return actor_loss.item(), critic_loss.item()


def rollout(env, agent):
    states, actions, rewards = [], [], []
    state, done = env.reset(), False
    while not done:
        action = agent.act(state)
        states.append(state)
        actions.append(action)
        state, reward, done = env.step(action)
        rewards.append(reward)
    returns, total = [], 0.0
    for reward in reversed(rewards):
        total = reward + agent.gamma * total
        returns.insert(0, total)
    return torch.stack(states), torch.tensor(actions), torch.tensor(returns), sum(rewards)


def evaluate(env, agent, episodes=3):
    agent.actor.eval()
    total = 0.0
    for _ in range(episodes):
        total += rollout(env, agent)[3]
    agent.actor.train()
    return total / episodes


if __name__ == "__main__":
    env, agent = Corridor(), Agent()
    for episode in range(30):
        states, actions, returns, reward = rollout(env, agent)
        agent.learn(states, actions, returns)
        if episode % 10 == 0:
            print(episode, reward, evaluate(env, agent))
