"""The mapper from vectors to soft prompt tokens while it is taught; what is served is folded into one perceptron a kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import torch
from torch.nn import functional

from upwell.training.meanings import Linear

FILE: Final = "prefix.safetensors"
LINEAR: Final = 0.3
"""Deviation of the inner layer's weights times what comes in, at the beginning: the tangent is nearly straight there."""


class Mapper(torch.nn.Module):  # type: ignore[misc]
    """Linear, tanh, linear, for each kind of vector.

    fronts: by kind, the fixed map that comes first; what is taught begins behind it, where texts alone can go in as well.
    tokens, widths: by kind. table: the generator's embeddings [vocabulary, hidden].
    """

    def __init__(self, fronts: dict[str, Linear], tokens: dict[str, int], widths: dict[str, int], table: Any) -> None:
        super().__init__()
        self._fronts = fronts
        self._hidden = table.shape[1]
        sizes = {kind: len(front.bias) for kind, front in fronts.items()}
        self.inner = torch.nn.ModuleDict({kind: torch.nn.Linear(size, widths[kind]) for kind, size in sizes.items()})
        self.outer = torch.nn.ModuleDict(
            {kind: torch.nn.Linear(widths[kind], tokens[kind] * self._hidden) for kind in sizes}
        )
        centre = table.float().mean(0)
        for kind, size in sizes.items():
            torch.nn.init.normal_(self.inner[kind].weight, std=LINEAR / size**0.5)
            torch.nn.init.zeros_(self.inner[kind].bias)
            # Soft tokens begin in the middle of all words.
            torch.nn.init.normal_(self.outer[kind].weight, std=float(table.float().std()) / widths[kind] ** 0.5)
            with torch.no_grad():
                self.outer[kind].bias.copy_(centre.repeat(tokens[kind]))

    def forward(self, kind: str, x: Any) -> Any:
        """float32 [n, m], what the kind's front gives, to [n, tokens, hidden]."""
        return self.outer[kind](torch.tanh(self.inner[kind](x))).view(len(x), -1, self._hidden)

    def save(self, folder: Path) -> None:
        """As it is served: `<kind>.in.*`, the front folded in, and `<kind>.out.*`.

        The first layer stays in float32: what vectors have in common is much of them, and would be rounded to more than
        what sets them apart.
        """
        from safetensors.torch import save_file

        found: dict[str, Any] = {}
        with torch.no_grad():
            for kind, front in self._fronts.items():
                inner, outer = self.inner[kind], self.outer[kind]
                found[f"{kind}.in.weight"] = inner.weight @ torch.from_numpy(front.weight)
                found[f"{kind}.in.bias"] = inner.weight @ torch.from_numpy(front.bias) + inner.bias
                found |= {f"{kind}.out.{name}": getattr(outer, name).to(torch.bfloat16) for name in ("weight", "bias")}
        folder.mkdir(parents=True, exist_ok=True)
        save_file({k: v.contiguous() for k, v in found.items()}, folder / FILE, metadata={"format": "pt"})
        (folder / FILE).chmod(0o644)  # the model server may run as another user


class Bag:
    """How well soft tokens point at a text's words, without the generator: its cross-entropy over a bag of words.

    Seconds, where a pass through the generator takes as long for a thousandth of the examples. Words are weighted by how
    rare they are (inverse document frequency), so that what all texts have in common counts nothing.
    """

    def __init__(self, table: Any, texts: list[list[int]]) -> None:
        """table: the generator's embeddings [vocabulary, hidden]. texts: their token ids."""
        used = sorted({token for text in texts for token in text})
        self._place = {token: i for i, token in enumerate(used)}
        counts = torch.zeros(len(used))
        for text in texts:
            counts[[self._place[token] for token in set(text)]] += 1
        self._rare = torch.log(len(texts) / counts)
        words = table[torch.tensor(used)].float()
        self._centre = words.mean(0)
        self._long = (words - self._centre).norm(dim=1).mean()
        self._words = functional.normalize(words - self._centre, dim=1)

    def loss(self, soft: Any, texts: list[list[int]], sharpness: Any, length: float) -> Any:
        """Mean over n texts.

        Args:
            soft: float32 [n, tokens, hidden].
            sharpness: what cosines are multiplied by, as its logarithm; learned.
            length: weight of the squared share by which soft tokens are longer or shorter than words.
        """
        apart = soft - self._centre
        scores = torch.log_softmax(sharpness.exp() * functional.normalize(apart.sum(1), dim=1) @ self._words.T, dim=1)
        wanted = torch.zeros_like(scores)
        for row, text in enumerate(texts):
            places = torch.tensor([self._place[token] for token in text])
            wanted[row].index_add_(0, places, self._rare[places])
        wanted = wanted / wanted.sum(1, keepdim=True).clamp_min(1e-9)
        strayed = (apart.norm(dim=2) / self._long - 1).pow(2).mean()
        return -(wanted * scores).sum(1).mean() + length * strayed
