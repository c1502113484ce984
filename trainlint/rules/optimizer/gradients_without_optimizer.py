"""TL308."""

from __future__ import annotations

from collections.abc import Iterator

from trainlint.core.diagnostic import Severity
from trainlint.core.events import GradientsPileUp
from trainlint.core.rule import Finding, Rule


class GradientsWithoutOptimizer(
    Rule[GradientsPileUp],
    code="TL308",
    name="gradients-without-optimizer",
    severity=Severity.WARNING,
):
    """A network that no optimizer holds gets gradients in every backward, and nobody clears them.

    ## Why is this bad?
    A perceptual loss, a teacher or a pretrained encoder takes part in the loss, but is neither
    frozen nor trained. Each backward computes gradients for all its weights and adds them to the
    last ones: a third more time, the memory of a second copy of the weights, and numbers that
    spoil `clip_grad_norm_` over everything, and the first step of an optimizer that is given the
    network later.

    ## Example
    ```python
    from torch import nn, optim, randn

    critic = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3))
    generator = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Tanh())
    optimizer = optim.Adam(generator.parameters(), lr=1e-3)
    for step in range(100):
        optimizer.zero_grad()
        image = randn(2, 3, 32, 32)
        loss = (critic(generator(image)) - critic(image)).abs().mean()
        loss.backward()  # warning: [gradients-without-optimizer]
        optimizer.step()
    ```

    ## Use instead
    ```python
    from torch import nn, optim, randn

    critic = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3))
    critic.requires_grad_(False)
    generator = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Tanh())
    optimizer = optim.Adam(generator.parameters(), lr=1e-3)
    for step in range(100):
        optimizer.zero_grad()
        image = randn(2, 3, 32, 32)
        loss = (critic(generator(image)) - critic(image)).abs().mean()
        loss.backward()
        optimizer.step()
    ```

    ## When it is silent
    If the network is frozen, runs under `no_grad`, is cleared by hand (`critic.zero_grad()`), is
    in another optimizer (the discriminator of a GAN), or if its gradients are what is wanted.

    ## Fix safety
    Unsafe: code elsewhere may read the gradients.
    """

    message = (
        "`{model}` is in no optimizer and is not frozen: every backward computes its gradients, "
        "and nobody clears them"
    )
    on = (GradientsPileUp,)
    triggers = (b"backward", b"train", b"fit")
    live = True

    def check(self, event: GradientsPileUp) -> Iterator[Finding]:
        yield (
            self.finding(event.backward, model=event.model.name)
            .because(event.model.trainable.origin)
            .mend(
                f"freeze it: `{event.model.name}.requires_grad_(False)`; if it is to train, give "
                "its parameters to the optimizer"
            )
        )
