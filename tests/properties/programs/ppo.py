"""Proximal policy optimization on a small walk, with rollouts, GAE and greedy tests."""
import numpy as np
import torch
import torch.nn as nn
import torch.optim as optim
from torch.distributions import Categorical


class LineWorld:
    """Walk to the right end within twenty moves."""

    def __init__(self, size=8):
        self.size = size

    def reset(self):
        self.at, self.moves = self.size // 2, 0
        return self.view()

    def view(self):
        state = np.zeros(self.size, dtype=np.float32)
        state[self.at] = 1.0
        return state

    def step(self, action):
        self.at = int(np.clip(self.at + (1 if action == 1 else -1), 0, self.size - 1))
        self.moves += 1
        done = self.at == self.size - 1 or self.moves >= 20
        return self.view(), float(self.at == self.size - 1) - 0.01, done


def layer_init(layer, std=np.sqrt(2)):
    nn.init.orthogonal_(layer.weight, std)
    nn.init.constant_(layer.bias, 0.0)
    return layer


class Agent(nn.Module):
    def __init__(self, n_obs, n_act):
        super().__init__()
        self.trunk = nn.Sequential(
            layer_init(nn.Linear(n_obs, 32)), nn.Tanh(), nn.Dropout(0.05)
        )
        self.actor = layer_init(nn.Linear(32, n_act), std=0.01)
        self.critic = layer_init(nn.Linear(32, 1), std=1.0)

    def get_value(self, x):
        return self.critic(self.trunk(x))

    def get_action_and_value(self, x, action=None):
        hidden = self.trunk(x)
        probs = Categorical(logits=self.actor(hidden))
        if action is None:
            action = probs.sample()
        return action, probs.log_prob(action), probs.entropy(), self.critic(hidden)


class Args:
    num_steps = 64
    num_updates = 4
    gamma = 0.98
    gae_lambda = 0.95
    update_epochs = 3
    minibatch_size = 16
    clip_coef = 0.2
    ent_coef = 0.01
    vf_coef = 0.5
    max_grad_norm = 0.5
    learning_rate = 3e-3
    anneal_lr = True


@torch.no_grad()
def play(agent, env, episodes=3):
    agent.eval()
    returns = []
    for _ in range(episodes):
        obs, done, total = env.reset(), False, 0.0
        while not done:
            logits = agent.actor(agent.trunk(torch.from_numpy(obs)[None]))
            obs, reward, done = env.step(logits.argmax(-1).item())
            total += reward
        returns.append(total)
    return float(np.mean(returns))


if __name__ == "__main__":
    args = Args()
    torch.manual_seed(1)
    np.random.seed(1)
    env, test_env = LineWorld(), LineWorld()
    agent = Agent(env.size, 2)
    optimizer = optim.Adam(agent.parameters(), lr=args.learning_rate, eps=1e-5)

    obs = torch.zeros((args.num_steps, env.size))
    actions = torch.zeros(args.num_steps, dtype=torch.long)
    logprobs = torch.zeros(args.num_steps)
    rewards = torch.zeros(args.num_steps)
    dones = torch.zeros(args.num_steps)
    values = torch.zeros(args.num_steps)

    next_obs = torch.from_numpy(env.reset())
    next_done = 0.0
    for update in range(1, args.num_updates + 1):
        if args.anneal_lr:
            frac = 1.0 - (update - 1.0) / args.num_updates
            optimizer.param_groups[0]["lr"] = frac * args.learning_rate
        agent.train()
        for step in range(args.num_steps):
            obs[step] = next_obs
            dones[step] = next_done
            with torch.no_grad():
                action, logprob, _, value = agent.get_action_and_value(next_obs[None])
                values[step] = value.flatten()
            actions[step] = action
            logprobs[step] = logprob
            state, reward, done = env.step(action.item())
            rewards[step] = reward
            next_obs = torch.from_numpy(env.reset() if done else state)
            next_done = float(done)

        with torch.no_grad():
            next_value = agent.get_value(next_obs[None]).reshape(-1)
            advantages = torch.zeros_like(rewards)
            lastgaelam = 0.0
            for t in reversed(range(args.num_steps)):
                if t == args.num_steps - 1:
                    nonterminal, nextvalues = 1.0 - next_done, next_value
                else:
                    nonterminal, nextvalues = 1.0 - dones[t + 1], values[t + 1]
                delta = rewards[t] + args.gamma * nextvalues * nonterminal - values[t]
                lastgaelam = delta + args.gamma * args.gae_lambda * nonterminal * lastgaelam
                advantages[t] = lastgaelam
            returns = advantages + values

        b_inds = np.arange(args.num_steps)
        clipfracs = []
        for epoch in range(args.update_epochs):
            np.random.shuffle(b_inds)
            for start in range(0, args.num_steps, args.minibatch_size):
                mb = b_inds[start : start + args.minibatch_size]
                _, newlogprob, entropy, newvalue = agent.get_action_and_value(obs[mb], actions[mb])
                logratio = newlogprob - logprobs[mb]
                ratio = logratio.exp()
                with torch.no_grad():
                    clipfracs.append(((ratio - 1.0).abs() > args.clip_coef).float().mean().item())
                mb_adv = advantages[mb]
                mb_adv = (mb_adv - mb_adv.mean()) / (mb_adv.std() + 1e-8)
                pg_loss1 = -mb_adv * ratio
                pg_loss2 = -mb_adv * torch.clamp(ratio, 1 - args.clip_coef, 1 + args.clip_coef)
                pg_loss = torch.max(pg_loss1, pg_loss2).mean()
                v_loss = 0.5 * ((newvalue.view(-1) - returns[mb]) ** 2).mean()
                loss = pg_loss - args.ent_coef * entropy.mean() + args.vf_coef * v_loss

                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(agent.parameters(), args.max_grad_norm)
                optimizer.step()

        score = play(agent, test_env)
        print(f"update {update} loss {loss.item():.3f} clip {np.mean(clipfracs):.3f} return {score:.2f}")
