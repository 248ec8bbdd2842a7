"""Pictures in, the probability that each is not safe for work out (Yahoo's Open NSFW, Mahadeokar and Pesavento 2016).

IMAGE   UINT8 [batch, 224, 224, 3]  RGB: the picture stretched to 256 x 256 (bilinear), cut to its middle
SCORE   FP32  [batch, 1]            0 to 1; its makers take less than 0.2 for safe and more than 0.8 for unsafe
VERSION BYTES [batch, 1]            `name@hash of the weights`

The network was trained on JPEG files in BGR order with the mean of its training set taken off, and is sensitive to all
three: the pixels pass through JPEG here. The cut begins at a multiple of 16 pixels, so that it commutes with that.
"""

import hashlib
import io
import json
import os
from pathlib import Path

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils
from PIL import Image

MEAN_BGR = np.array([104.0, 117.0, 123.0], dtype=np.float32)


class TritonPythonModel:
    def initialize(self, args):
        parameters = json.loads(args["model_config"]).get("parameters", {})
        given = {key: value["string_value"] for key, value in parameters.items()}
        folder = _model_folder(given.get("model_dir", ""), "image_safety")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(given.get("threads") or 1)
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(
            folder / "open_nsfw.onnx", options, providers=["CPUExecutionProvider"]
        )
        self.input = self.session.get_inputs()[0].name
        self.version = _version(folder).encode()
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


def _model_folder(given, name):
    folder = Path(given or Path(os.environ.get("UPWELL_MODEL_DIR", "")) / name).expanduser()
    if not (folder / "open_nsfw.onnx").is_file():
        raise pb_utils.TritonModelException(
            f"No model in {folder}: set UPWELL_MODEL_DIR, or model_dir in config.pbtxt; `make setup` fetches the demo's."
        )
    return folder


def _version(folder):
    """`name@first 12 digits of the SHA-256 over the weights`."""
    file = folder / "upwell.json"
    about = json.loads(file.read_text()) if file.is_file() else {}
    digest = about.get("weights_sha256") or hashlib.sha256((folder / "open_nsfw.onnx").read_bytes()).hexdigest()
    return f"{about.get('name', folder.name)}@{digest[:12]}"
