"""Pictures and conditions in, a conditional variational autoencoder out (Kingma & Welling 2014; Sohn et al. 2015).

z = mu + sigma * eps; the decoder is the painter that Triton serves. Minimised is the negative evidence lower bound with a
Laplace likelihood: absolute error over its scale, plus the divergence of q(z | x, c) from N(0, 1). Likelihood alone paints
blurred averages, so pictures of sampled z also face a discriminator (Larsen et al. 2016).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from upwell.training import adversary
from upwell.training.adversary import Discriminator
from upwell.training.fitting import Limits, Step, Trainee
from upwell.training.painter import Painter, Shape, to_pixels
from upwell.training.pictures import Lessons, to_floats

NAME: Final = "stamps-vae"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the VAE is trained."""

    learning_rate: float = 1e-3
    scale: float = 0.25
    """Of the Laplace likelihood, in units of the pixels' range: smaller asks for finer reconstructions, and leaves z
    further from what it is sampled from."""
    adversarial: float = 0.3
    """Weight of the discriminator's opinion against the bound per number in a picture; 0: a VAE and nothing else."""
    jitter: float = 0.15
    """Noise on the condition's scores, so that its neighbours are painted alike (conditioning augmentation: Zhang et al.
    2017)."""


class Recogniser(nn.Module):  # type: ignore[misc]
    """q(z | x, c): picture [n, 3, 64, 64] and the condition's scores [n, axes] to mean and log variance [n, latent]."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in ((3, 32), (32, 64), (64, 128), (128, 160)):
            layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.GroupNorm(8, after), nn.LeakyReLU(0.2)]
        self.look = nn.Sequential(*layers, nn.Flatten())
        self.tell = nn.Linear(160 * 16 + shape.axes, 2 * shape.latent)

    def forward(self, x: Any, scores: Any) -> tuple[Any, Any]:
        mean, log_variance = self.tell(torch.cat([self.look(x), scores], 1)).chunk(2, 1)
        return mean, log_variance.clamp(-8, 4)


def trainee(shape: Shape, conditions: NDArray[np.float32], seed: int, recipe: Recipe = Recipe()) -> Trainee:
    """An untrained VAE that looks at these conditions' axes, float32 [n, d]."""
    torch.manual_seed(seed)
    painter, recogniser = Painter(shape), Recogniser(shape)
    painter.look_at(conditions)
    average = Painter(shape)
    average.load_state_dict(painter.state_dict())
    discriminator = Discriminator(shape)
    betas = (0.5, 0.9)
    weights = [*painter.parameters(), *recogniser.parameters()]
    return Trainee(
        {"painter": painter, "recogniser": recogniser, "discriminator": discriminator, "average": average},
        {
            "optimizer": torch.optim.Adam(weights, lr=recipe.learning_rate, betas=betas),
            "discriminator_optimizer": torch.optim.Adam(
                discriminator.parameters(), lr=recipe.learning_rate, betas=betas
            ),
        },
        {"painter": "average"},
    )


def step(vae: Trainee, lessons: Lessons, limits: Limits, recipe: Recipe = Recipe()) -> Step:
    """The training step: one batch, seen once by the autoencoder and once by the discriminator."""
    painter, recogniser, discriminator = (vae.modules[name] for name in ("painter", "recogniser", "discriminator"))
    optimizer, judges = vae.optimizers["optimizer"], vae.optimizers["discriminator_optimizer"]

    def run(_number: int, chance: torch.Generator) -> Mapping[str, float]:
        batch = lessons.batch(limits.batch, chance)
        x, scores = batch.pictures, batch.scores(painter, recipe.jitter)
        eps = torch.randn(len(x), painter.shape.latent, generator=chance)
        with torch.autocast("cpu", torch.bfloat16):
            mean, log_variance = (part.float() for part in recogniser(x, scores))
            y = painter(scores, mean + (0.5 * log_variance).exp() * eps).float()
        error = functional.l1_loss(y, x, reduction="sum") / len(x)
        divergence = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum() / len(x)
        loss = (error / recipe.scale + divergence) / x[0].numel()
        told = {"absolute_error": error.item() / x[0].numel(), "divergence_nats": divergence.item()}
        if recipe.adversarial:
            half = batch.first(len(x) // 2)  # as good, and a third faster
            sought = scores[: len(x) // 2]
            z = torch.randn(len(sought), painter.shape.latent, generator=chance)
            with torch.autocast("cpu", torch.bfloat16):
                sampled = painter(sought, z).float()
            told |= adversary.judge(discriminator, judges, half, sampled, sought)
            believed = adversary.believed(discriminator, half, sampled, sought)
            loss = loss + recipe.adversarial * believed
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return {"loss": loss.item(), **told}

    return run


@torch.inference_mode()  # type: ignore[untyped-decorator]
def reconstruct(vae: Trainee, pixels: NDArray[np.uint8], conditions: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Pictures through the narrow place and back, from the mean of q(z | x, c): uint8 [n, 64, 64, 3]."""
    painter, recogniser = vae.modules["average"].eval(), vae.modules["recogniser"].eval()
    scores = painter.read(torch.from_numpy(conditions))
    mean, _ = recogniser(to_floats(pixels), scores)
    return to_pixels(painter(scores, mean))
