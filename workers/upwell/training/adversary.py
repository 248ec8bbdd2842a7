"""Real and painted pictures in; how real each looks under its condition out, and the losses that follow from it.

Spectrally normalised, judging by projection: a score of the picture plus the inner product of its features with the
condition (Miyato et al. 2018, Miyato & Koyama 2018). So few pictures are soon known by heart, so it sees all of them, real
and painted, through the same differentiable augmentation (Zhao et al. 2020).
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from upwell.training.painter import Shape
from upwell.training.pictures import Batch

MISMATCHED: Final = 0.5
"""Weight of real pictures under another item's condition, a third kind of input (Reed et al. 2016)."""


class Discriminator(nn.Module):  # type: ignore[misc]
    """Picture [n, 3, 64, 64] and the condition's scores [n, axes] to how real it looks [n]."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in ((3, 32), (32, 64), (64, 128), (128, 192)):
            layers += [spectral_norm(nn.Conv2d(before, after, 4, stride=2, padding=1)), nn.LeakyReLU(0.2)]
        self.look = nn.Sequential(*layers)
        self.score = spectral_norm(nn.Linear(192, 1))
        self.project = spectral_norm(nn.Linear(shape.axes, 192))

    def forward(self, x: Any, scores: Any) -> Any:
        # Ink instead of light: on white paper the drawing is then all there is to see, and it learns several times faster.
        seen = self.look(2 * (1 - x)).sum((2, 3))
        return self.score(seen).squeeze(1) + (seen * self.project(scores)).sum(1)


def judge(
    discriminator: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    painted: Any,
    scores: Any,
) -> dict[str, float]:
    """One step of the discriminator, with the hinge loss (Lim & Ye 2017); returns its losses.

    Args:
        painted: float [n, 3, 64, 64], under the same conditions as the batch.
        scores: of the batch's conditions, float [n, axes].
    """
    discriminator.requires_grad_(True)
    seen = torch.cat(
        [
            batch.augment(batch.originals),
            batch.augment(painted.detach()),
            batch.augment(batch.originals),
        ]
    )
    with torch.autocast("cpu", torch.bfloat16):
        real, fake, wrong = discriminator(seen, torch.cat([scores, scores, scores.roll(1, 0)])).float().chunk(3)
    loss = functional.relu(1 - real).mean() + functional.relu(1 + fake).mean()
    loss = loss + MISMATCHED * functional.relu(1 + wrong).mean()
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return {"discriminator": loss.item(), "real_score": real.mean().item(), "painted_score": fake.mean().item()}


def believed(discriminator: nn.Module, batch: Batch, painted: Any, scores: Any) -> Any:
    """What the painter wants low: minus the mean score of its pictures, a scalar with gradient."""
    discriminator.requires_grad_(False)
    with torch.autocast("cpu", torch.bfloat16):
        return -discriminator(batch.augment(painted), scores).float().mean()
