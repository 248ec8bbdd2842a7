"""A picture and a style in, the picture in that style out.

CONTENT       UINT8 [h, w, 3]  RGB, sides of 32 to `max_side` pixels
STYLE         UINT8 [h, w, 3]  RGB, any size in the same bounds; optional
STYLE_WEIGHTS FP32  [26]       shares of the fixed styles; optional, exactly one of both is given
STRENGTH      FP32  [1]        0 to 1; optional, 1
IMAGE         UINT8 [h, w, 3]  RGB, of CONTENT's size
VERSION       BYTES [1]        `name@hash of the weights`

With STYLE: a style vector of 100 numbers is predicted from the picture and mixed with CONTENT's own by STRENGTH
(Ghiasi et al. 2017); the network works at 384 pixels, so CONTENT's fine detail is laid over the enlarged result. With
STYLE_WEIGHTS: one network with instance norms per style (Dumoulin et al. 2017), mixed with CONTENT by STRENGTH.
"""

import numpy as np
import serving
import triton_python_backend_utils as pb_utils
from PIL import Image, ImageFilter
from weights import folder_of, onnx_session, version_of

GRAPHS = ("arbitrary_predict", "arbitrary_transform", "multistyle26")
WORKING = 384
"""Pixels of the arbitrary network's side."""
PREDICTED = 256
"""Pixels of the style predictor's side."""
LEAST = 32
DETAIL = 0.7
"""Share of CONTENT's fine detail that is laid over an enlarged result."""


class TritonPythonModel:
    def initialize(self, args):
        given = serving.settings(args)
        self.max_side = int(given.get("max_side") or 1024)
        folder = folder_of(given.get("model_dir", ""), "style_transfer", [f"{GRAPHS[-1]}.onnx"])
        threads = int(given.get("threads") or 1)
        self.predict, self.transform, self.fixed = (onnx_session(folder / f"{name}.onnx", threads) for name in GRAPHS)
        self.version = np.array([version_of(folder).encode()], dtype=np.object_)
        grey = Image.new("RGB", (64, 64), (128, 128, 128))
        self._like(grey, grey, 1.0)

    def execute(self, requests):
        responses = []
        for request in requests:
            try:
                image = self._restyle(request)
            except serving.Refused as error:
                responses.append(serving.refuse(error))
                continue
            tensors = [pb_utils.Tensor("IMAGE", image), pb_utils.Tensor("VERSION", self.version)]
            responses.append(pb_utils.InferenceResponse(tensors))
        return responses

    def _restyle(self, request):
        """Returns uint8 [h, w, 3]."""
        content, style, weights, strength = (
            None if (found := pb_utils.get_input_tensor_by_name(request, name)) is None else found.as_numpy()
            for name in ("CONTENT", "STYLE", "STYLE_WEIGHTS", "STRENGTH")
        )
        amount = 1.0 if strength is None else float(strength.reshape(-1)[0])
        if not 0.0 <= amount <= 1.0:  # also where it is not a number
            raise serving.Refused(f"STRENGTH is {amount}: 0 to 1 are possible")
        if (style is None) == (weights is None):
            raise serving.Refused("give exactly one of STYLE and STYLE_WEIGHTS")
        picture = self._picture("CONTENT", content)
        if style is not None:
            return np.asarray(self._like(picture, self._picture("STYLE", style), amount))
        return np.asarray(self._in_styles(picture, weights, amount))

    def _picture(self, name, pixels):
        height, width = pixels.shape[:2]
        if not LEAST <= min(height, width) <= max(height, width) <= self.max_side:
            raise serving.Refused(
                f"{name} is {width} x {height}: sides of {LEAST} to {self.max_side} pixels are possible"
            )
        return Image.fromarray(pixels)

    def _like(self, content, style, strength):
        vector = strength * self._vector(style) + (1.0 - strength) * self._vector(content)
        scale = WORKING / max(content.size)
        width, height = (max(1, round(side * scale)) for side in content.size)
        small = content.resize((width, height), Image.Resampling.LANCZOS)
        pixels = np.asarray(small, dtype=np.float32) / 255
        padded = np.pad(pixels, ((0, WORKING - height), (0, WORKING - width), (0, 0)), mode="symmetric")
        names = [node.name for node in self.transform.get_inputs()]
        found = self.transform.run(None, dict(zip(names, (padded[None], vector), strict=True)))[0][0]
        styled = _image(found[:height, :width])
        if scale >= 1:
            return styled.resize(content.size, Image.Resampling.LANCZOS)
        # What the enlargement cannot bring back: lightness finer than the network's own pixels.
        light = content.convert("L")
        detail = np.asarray(light, dtype=np.float32) - np.asarray(light.filter(ImageFilter.GaussianBlur(0.8 / scale)))
        enlarged = np.asarray(styled.resize(content.size, Image.Resampling.LANCZOS), dtype=np.float32)
        return Image.fromarray(np.clip(enlarged + DETAIL * detail[..., None] + 0.5, 0, 255).astype(np.uint8))

    def _vector(self, picture):
        """float32 [1, 1, 1, 100], of the picture's middle square."""
        side = min(picture.size)
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        square = picture.crop((left, top, left + side, top + side)).resize(
            (PREDICTED, PREDICTED), Image.Resampling.LANCZOS
        )
        pixels = np.asarray(square, dtype=np.float32)[None] / 255
        return self.predict.run(None, {self.predict.get_inputs()[0].name: pixels})[0]

    def _in_styles(self, content, weights, strength):
        if not np.isfinite(weights).all() or (weights < 0).any() or weights.sum() <= 0:
            raise serving.Refused("STYLE_WEIGHTS must be finite, not negative, and not all zero")
        pixels = np.asarray(content, dtype=np.float32) / 255
        height, width = pixels.shape[:2]
        # The network halves the picture twice.
        padded = np.pad(pixels, ((0, -height % 4), (0, -width % 4), (0, 0)), mode="reflect").transpose(2, 0, 1)[None]
        inputs = {"image": np.ascontiguousarray(padded), "style_weights": (weights / weights.sum()).astype(np.float32)}
        styled = _image(self.fixed.run(None, inputs)[0][0].transpose(1, 2, 0)[:height, :width])
        return styled if strength == 1 else Image.blend(content, styled, strength)


def _image(pixels):
    return Image.fromarray((np.clip(pixels, 0, 1) * 255 + 0.5).astype(np.uint8))
