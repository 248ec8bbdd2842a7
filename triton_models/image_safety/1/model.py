"""Pictures in, the probability that each is not safe for work out (Yahoo's Open NSFW, Mahadeokar and Pesavento 2016).

IMAGE   UINT8 [batch, 224, 224, 3]  RGB: the picture stretched to 256 x 256 (bilinear), cut to its middle
SCORE   FP32  [batch, 1]            0 to 1; its makers take less than 0.2 for safe and more than 0.8 for unsafe
VERSION BYTES [batch, 1]            `name@hash of the weights`

The network was trained on JPEG files in BGR order with the mean of its training set taken off, and is sensitive to all
three: the pixels pass through JPEG here. The cut begins at a multiple of 16 pixels, so that it commutes with that.
"""

import io

import numpy as np
import serving
import triton_python_backend_utils as pb_utils
from PIL import Image
from weights import folder_of, onnx_session, version_of

WEIGHTS = "open_nsfw.onnx"
MEAN_BGR = np.array([104.0, 117.0, 123.0], dtype=np.float32)


class TritonPythonModel:
    def initialize(self, args):
        given = serving.settings(args)
        folder = folder_of(given.get("model_dir", ""), "image_safety", [WEIGHTS])
        self.session = onnx_session(folder / WEIGHTS, int(given.get("threads") or 1))
        self.input = self.session.get_inputs()[0].name
        self.version = version_of(folder).encode()
        self._score(np.zeros((1, 224, 224, 3), dtype=np.uint8))

    def execute(self, requests):
        pictures = [pb_utils.get_input_tensor_by_name(request, "IMAGE").as_numpy() for request in requests]
        scores = self._score(np.concatenate(pictures))
        responses, start = [], 0
        for rows in pictures:
            part = scores[start : start + len(rows)].reshape(-1, 1)
            start += len(rows)
            version = np.full((len(rows), 1), self.version, dtype=np.object_)
            responses.append(
                pb_utils.InferenceResponse([pb_utils.Tensor("SCORE", part), pb_utils.Tensor("VERSION", version)])
            )
        return responses

    def _score(self, pictures):
        """pictures: uint8 [n, 224, 224, 3]. Returns float32 [n]."""
        ready = np.stack([_through_jpeg(picture)[:, :, ::-1] - MEAN_BGR for picture in pictures])
        return np.ascontiguousarray(self.session.run(None, {self.input: ready})[0][:, 1], dtype=np.float32)


def _through_jpeg(picture):
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="JPEG")
    return np.asarray(Image.open(buffer).convert("RGB"), dtype=np.float32)
