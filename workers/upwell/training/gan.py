"""Pictures and conditions in, a conditional generative adversarial network out.

The painter makes a picture of noise and a condition, the discriminator of `adversary.py` judges it, with the hinge loss.
The painter is also held to the item's own picture by an absolute error, as in pix2pix (Isola et al. 2017).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from upwell.training import adversary
from upwell.training.adversary import Discriminator
from upwell.training.fitting import Limits, Step, Trainee
from upwell.training.painter import Painter, Shape
from upwell.training.pictures import Lessons

NAME: Final = "stamps-gan"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the GAN is trained."""

    painter_rate: float = 1e-3
    discriminator_rate: float = 1e-3
    error_weight: float = 20.0
    """Of the mean absolute error against the painter's adversarial loss."""
    jitter: float = 0.15
    """Noise on the condition's scores (conditioning augmentation: Zhang et al. 2017)."""


def trainee(shape: Shape, conditions: NDArray[np.float32], seed: int, recipe: Recipe = Recipe()) -> Trainee:
    """An untrained GAN that looks at these conditions' axes, float32 [n, d]."""
    torch.manual_seed(seed)
    painter, discriminator = Painter(shape), Discriminator(shape)
    painter.look_at(conditions)
    average = Painter(shape)
    average.load_state_dict(painter.state_dict())
    betas = (0.0, 0.9)
    return Trainee(
        {"painter": painter, "discriminator": discriminator, "average": average},
        {
            "painter_optimizer": torch.optim.Adam(painter.parameters(), lr=recipe.painter_rate, betas=betas),
            "discriminator_optimizer": torch.optim.Adam(
                discriminator.parameters(), lr=recipe.discriminator_rate, betas=betas
            ),
        },
        {"painter": "average"},
    )


def step(gan: Trainee, lessons: Lessons, limits: Limits, recipe: Recipe = Recipe()) -> Step:
    """The training step: one batch for the discriminator, the same one for the painter."""
    painter, discriminator = gan.modules["painter"], gan.modules["discriminator"]
    paints, judges = gan.optimizers["painter_optimizer"], gan.optimizers["discriminator_optimizer"]

    def run(_number: int, chance: torch.Generator) -> Mapping[str, float]:
        batch = lessons.batch(limits.batch, chance)
        scores = batch.scores(painter, recipe.jitter)
        z = torch.randn(len(scores), painter.shape.latent, generator=chance)
        with torch.autocast("cpu", torch.bfloat16):
            y = painter(scores, z).float()
        told = adversary.judge(discriminator, judges, batch, y, scores)
        believed = adversary.believed(discriminator, batch, y, scores)
        error = functional.l1_loss(y, batch.originals)
        paints.zero_grad(set_to_none=True)
        (believed + recipe.error_weight * error).backward()
        paints.step()
        return {"painter": believed.item(), "absolute_error": error.item(), **told}

    return run
