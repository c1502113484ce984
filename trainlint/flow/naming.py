"""What names tell where nothing else does."""

from __future__ import annotations

import re

MODEL_NAME = re.compile(
    r"(?:^|_|\.)(model|net|network|encoder|decoder|backbone|generator|discriminator|critic|actor"
    r"|policy|student|teacher|classifier|head|module|unet|vae|ddp|ema|transformer|resnet|vgg|bert"
    r"|gpt|llm|mlp|cnn|rnn|lstm|gen|disc|netG|netD|G|D|llama|wrapper)(?:$|_|\d|\.|s$)",
    re.IGNORECASE,
)
"""A variable, attribute or parameter that holds a network, as people write it."""
