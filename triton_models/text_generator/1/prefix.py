"""An item's and a user's vector in, soft prompt tokens out: the mapper of ClipCap (Mokady et al. 2021).

A small perceptron each; what it was not given takes no token. Weights are those that `upwell train prefix` writes.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file

KINDS = ("item", "user")


class Mapper:
    """weights: `<kind>.in.weight` [h, d], `<kind>.in.bias` [h], `<kind>.out.weight` [k * hidden, h], `<kind>.out.bias`."""

    def __init__(self, weights, hidden):
        self._weights, self._hidden = weights, hidden

    @classmethod
    def read(cls, folder, hidden):
        """Out of a folder's `prefix.safetensors`. Raises ValueError where it was made for another model."""
        weights = load_file(Path(folder) / "prefix.safetensors")
        for name, tensor in weights.items():
            if name.endswith("out.weight") and len(tensor) % hidden:
                raise ValueError(f"{name} has {len(tensor)} rows, which are no whole tokens of {hidden} components")
        return cls({name: tensor.float() for name, tensor in weights.items()}, hidden)

    def map(self, item, user):
        """float32 [d] vectors or None, one of them at least, to soft tokens float32 [k, hidden].

        Raises ValueError where the mapper was made for vectors of another length.
        """
        found = []
        for kind, vector in zip(KINDS, (item, user), strict=True):
            if vector is None:
                continue
            first = self._weights.get(f"{kind}.in.weight")
            if first is None:
                raise ValueError(f"the mapper knows no {kind} vectors")
            if len(vector) != first.shape[1]:
                raise ValueError(
                    f"{kind.upper()}_VECTOR has {len(vector)} components; the mapper takes {first.shape[1]}"
                )
            x = torch.nn.functional.normalize(torch.as_tensor(vector).float(), dim=0)
            inner = torch.tanh(first @ x + self._weights[f"{kind}.in.bias"])
            found.append(
                (self._weights[f"{kind}.out.weight"] @ inner + self._weights[f"{kind}.out.bias"]).view(-1, self._hidden)
            )
        return torch.cat(found)
