"""Weight matrices in, linear layers out, packed once for the CPU: bfloat16, float32, or 8 bits.

Unpacked, oneDNN reorders a weight at every call with more than one row: half of the time at eight rows.
"""

import warnings

import torch

VARIANTS = ("bf16", "int8", "fp32")
ROWS = 8
"""Rows that the layout is chosen for."""


def dtype_of(variant):
    """What the activations are: 8-bit products take float32 in and give it back."""
    return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(variant, torch.float32)


def linear(weight, variant):
    """A layer f(x [n, in]) -> [n, out], both of `dtype_of(variant)`, out of its weight, float [out, in]."""
    return Int8(weight) if variant == "int8" else Packed(weight.to(dtype_of(variant)))


class Packed:
    """x W^T in the weight's own type."""

    def __init__(self, weight):
        self._weight = weight.contiguous()
        self._packed = None
        if torch.backends.mkldnn.is_available() and (
            weight.dtype != torch.bfloat16 or torch.ops.mkldnn._is_mkldnn_bf16_supported()
        ):
            self._packed = torch.ops.mkldnn._reorder_linear_weight(self._weight, ROWS)
            self._weight = None

    def __call__(self, x):
        if self._packed is None:
            return torch.nn.functional.linear(x, self._weight)
        return torch.ops.mkldnn._linear_pointwise(x, self._packed, None, "none", [], "")


class Int8:
    """x W^T with 8-bit weights, a scale for each output, and activations brought to 8 bits by a scale for each row.

    One scale for all rows would be that of the first token's outliers: perplexity suffers. The successor of these products
    in torch, `onednn.qlinear_pointwise`, takes a third longer for one row here: its activations come rounded already.
    """

    def __init__(self, weight):
        weight = weight.float()
        scales = (weight.abs().amax(1) / 127).clamp(min=1e-8).double()
        zeros = torch.zeros(len(weight), dtype=torch.int64)
        torch.backends.quantized.engine = "x86"
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.quantize_per_tensor", UserWarning)
            rounded = torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8)
        self._packed = torch.ops.quantized.linear_prepack(rounded, None)
        # Products without these instructions add up in 16 bits, which would run over.
        self._seven_bits = not torch.cpu._is_vnni_supported()

    def __call__(self, x):
        if len(x) == 1:
            return torch.ops.quantized.linear_dynamic(x, self._packed, self._seven_bits)
        ranges = x.abs().amax(1, keepdim=True).clamp_(min=1e-8)
        return torch.ops.quantized.linear_dynamic(x / ranges, self._packed, self._seven_bits).mul_(ranges)
