"""Weights in, ONNX graphs of the demo's encoders out, built node by node: no exporter, no code of the weights' packages.

Batch normalisation is folded into the convolutions before it; the numbers differ from the originals by rounding only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Floats = npt.NDArray[np.float32]
Weights = Mapping[str, Floats]

FUSED: Final = "com.microsoft"
"""ONNX Runtime's own operators: attention, bias with GELU."""
BLOCKS: Final = (
    (1, 3, 1, 1, 32, 16), (2, 3, 2, 6, 16, 24), (2, 5, 2, 6, 24, 40), (3, 3, 2, 6, 40, 80), (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192), (1, 3, 1, 6, 192, 320),
)  # fmt: skip
"""EfficientNet-Lite0's stages: repeats, kernel, stride of the first, expansion, channels in, channels out."""


@dataclass
class _Graph:
    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)

    def constant(self, name: str, value: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value, dtype=dtype), name))
        return name

    def node(self, kind: str, inputs: Sequence[str], output: str, domain: str = "", **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, list(inputs), [output], domain=domain, name=output, **attributes))
        return output

    def conv(self, x: str, name: str, kernel: Floats, bias: Floats, stride: int = 1, groups: int = 1) -> str:
        """Convolution with TensorFlow's SAME padding for sides that the stride divides."""
        size = kernel.shape[2]
        before, after = (size - stride) // 2, size - stride - (size - stride) // 2
        inputs = [x, self.constant(f"{name}.weight", kernel), self.constant(f"{name}.bias", bias)]
        pads = [before, before, after, after]
        return self.node("Conv", inputs, name, kernel_shape=[size] * 2, strides=[stride] * 2, pads=pads, group=groups)

    def model(self, name: str, inputs: Sequence[Any], outputs: Sequence[Any]) -> Any:
        graph = helper.make_graph(self.nodes, name, list(inputs), list(outputs), self.constants)
        imports = [helper.make_opsetid("", 17), helper.make_opsetid(FUSED, 1)]
        model = helper.make_model(graph, opset_imports=imports, producer_name="upwell")
        model.ir_version = 8
        # The quantiser would otherwise ask for a shape inference that knows none of the fused operators.
        helper.set_model_props(model, {"onnx.quant.pre_process": "onnxruntime.quant"})
        onnx.checker.check_model(model)
        return model


def bert(weights: Weights, layers: int, heads: int, epsilon: float = 1e-12) -> Any:
    """BERT (Devlin et al. 2019): input_ids int64 [b, n], attention_mask int32 [b, n] -> last_hidden_state fp32 [b, n, d].

    All tokens are of type 0.
    """
    g = _Graph()
    width = weights["embeddings.word_embeddings.weight"].shape[1]

    def dense(name: str) -> tuple[str, str]:
        kernel = g.constant(f"{name}.weight", weights[f"{name}.weight"].T)
        return kernel, g.constant(f"{name}.bias", weights[f"{name}.bias"])

    def skipped(x: str, y: str, name: str, output: str) -> str:
        # Not `Add`, which ONNX Runtime joins with the normalisation into one operator: 75 us instead of 14 on a CPU.
        return normalised(g.node("Sum", [y, x], f"{output}.sum"), name, output)

    def normalised(x: str, name: str, output: str) -> str:
        inputs = [x, *(g.constant(f"{name}.{part}", weights[f"{name}.{part}"]) for part in ("weight", "bias"))]
        return g.node("LayerNormalization", inputs, output, axis=-1, epsilon=epsilon)

    places = weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]
    bounds = [g.constant(f"bound.{n}", [n], np.int64) for n in range(3)]
    length = g.node("Slice", [g.node("Shape", ["input_ids"], "shape"), bounds[1], bounds[2]], "length")
    place = g.node("Slice", [g.constant("places", places), bounds[0], length], "place")
    words = g.constant("words", weights["embeddings.word_embeddings.weight"])
    summed = g.node("Add", [g.node("Gather", [words, "input_ids"], "word"), place], "embedded")
    x = normalised(summed, "embeddings.LayerNorm", "layer.in")
    for i in range(layers):
        layer, last = f"encoder.layer.{i}", i == layers - 1
        parts = [f"{layer}.attention.self.{part}" for part in ("query", "key", "value")]
        kernel = g.constant(f"{layer}.qkv.weight", np.concatenate([weights[f"{part}.weight"] for part in parts]).T)
        bias = g.constant(f"{layer}.qkv.bias", np.concatenate([weights[f"{part}.bias"] for part in parts]))
        inputs = [x, kernel, bias, "attention_mask"]
        attended = g.node("Attention", inputs, f"{layer}.attended", FUSED, num_heads=heads)
        kernel, bias = dense(f"{layer}.attention.output.dense")
        y = g.node("MatMul", [attended, kernel], f"{layer}.attention.product")
        y = g.node("Add", [y, bias], f"{layer}.attention.out")
        x = skipped(x, y, f"{layer}.attention.output.LayerNorm", f"{layer}.middle")
        kernel, bias = dense(f"{layer}.intermediate.dense")
        y = g.node("BiasGelu", [g.node("MatMul", [x, kernel], f"{layer}.wide"), bias], f"{layer}.gelu", FUSED)
        kernel, bias = dense(f"{layer}.output.dense")
        y = g.node("Add", [g.node("MatMul", [y, kernel], f"{layer}.narrow"), bias], f"{layer}.narrow.out")
        output = "last_hidden_state" if last else f"{layer}.out"
        x = skipped(x, y, f"{layer}.output.LayerNorm", output)
    return g.model(
        "bert",
        [
            helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["b", "n"]),
            helper.make_tensor_value_info("attention_mask", TensorProto.INT32, ["b", "n"]),
        ],
        [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["b", "n", width])],
    )


def efficientnet_lite0(weights: Weights) -> Any:
    """EfficientNet-Lite0 (Tan and Le 2019; Lite: Google 2020): pixels uint8 [b, 224, 224, 3] RGB -> features, logits.

    features fp32 [b, 1280] after pooling; logits fp32 [b, 1000]. Normalised as it was trained: (x - 127) / 128.
    """
    g = _Graph()

    def convolved(x: str, name: str, norm: str, stride: int = 1, *, depthwise: bool = False, clip: bool = True) -> str:
        kernel, bias = _folded(weights, name, norm, 1e-3)
        y = g.conv(x, name, kernel, bias, stride, kernel.shape[0] if depthwise else 1)
        return g.node("Clip", [y, "0", "6"], f"{name}.relu6") if clip else y

    g.constant("0", 0.0)
    g.constant("6", 6.0)
    x = g.node("Transpose", ["pixels"], "planes", perm=[0, 3, 1, 2])
    x = g.node("Cast", [x], "floats", to=TensorProto.FLOAT)
    x = g.node("Sub", [x, g.constant("127", 127.0)], "centred")
    x = g.node("Div", [x, g.constant("128", 128.0)], "scaled")
    x = convolved(x, "_conv_stem", "_bn0", 2)
    number = 0
    for repeats, _, first_stride, expansion, first_in, out in BLOCKS:
        for repeat in range(repeats):
            block, y = f"_blocks.{number}", x
            stride, channels = (first_stride, first_in) if repeat == 0 else (1, out)
            if expansion != 1:
                y = convolved(y, f"{block}._expand_conv", f"{block}._bn0")
            y = convolved(y, f"{block}._depthwise_conv", f"{block}._bn1", stride, depthwise=True)
            y = convolved(y, f"{block}._project_conv", f"{block}._bn2", clip=False)
            x = g.node("Add", [x, y], f"{block}.skip") if stride == 1 and channels == out else y
            number += 1
    x = convolved(x, "_conv_head", "_bn1")
    x = g.node("Flatten", [g.node("GlobalAveragePool", [x], "pooled")], "features")
    g.node("Gemm", [x, *(g.constant(n, weights[n]) for n in ("_fc.weight", "_fc.bias"))], "logits", transB=1)
    return g.model(
        "efficientnet-lite0",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["b", 224, 224, 3])],
        [
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["b", 1280]),
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["b", 1000]),
        ],
    )


def sound_cnn(weights: Weights) -> Any:
    """The embedding network of aiSFX (Ma et al. 2022): spectrum fp32 [b, frames, mels] -> embedding fp32 [b, 512].

    Four blocks of two 3 x 3 convolutions, the first three each halved by a maximum; mean over mels, maximum over frames.
    """
    g = _Graph()
    x = g.node("Unsqueeze", ["spectrum", g.constant("channel", [1], np.int64)], "plane")
    for block in (1, 2, 3, 4):
        for part in (1, 2):
            name = f"embedding_net.conv_block{block}"
            kernel, bias = _folded(weights, f"{name}.conv{part}", f"{name}.bn{part}", 1e-5)
            x = g.node("Relu", [g.conv(x, f"{name}.conv{part}", kernel, bias)], f"{name}.relu{part}")
        if block < 4:
            x = g.node("MaxPool", [x], f"block{block}", kernel_shape=[2, 2], strides=[2, 2])
    x = g.node("ReduceMean", [x], "over_mels", axes=[3], keepdims=0)
    g.node("ReduceMax", [x], "embedding", axes=[2], keepdims=0)
    return g.model(
        "aisfx",
        [helper.make_tensor_value_info("spectrum", TensorProto.FLOAT, ["b", "frames", "mels"])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["b", 512])],
    )


def _folded(weights: Weights, conv: str, norm: str, epsilon: float) -> tuple[Floats, Floats]:
    """Kernel and bias of a convolution with the batch normalisation behind it."""
    scale = weights[f"{norm}.weight"] / np.sqrt(weights[f"{norm}.running_var"] + np.float32(epsilon))
    kernel = weights[f"{conv}.weight"] * scale[:, None, None, None]
    return kernel, weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * scale
