"""Pictures in; embeddings, a place in the texts' space, and class names out.

IMAGE         UINT8 [batch, 224, 224, 3]  RGB
EMBEDDING     FP32  [batch, d]  unit length; d = 1280 for EfficientNet-Lite0
JOINT         FP32  [batch, j]  unit length, comparable with the text encoder's; j = 384, 0 where there is no such space
LABELS        BYTES [batch, k]  names of the likeliest classes; k = 5, 0 where the model has none
PROBABILITIES FP32  [batch, k]  theirs
VERSION       BYTES [batch, 1]  `name@hash of the weights`

`encoder.py` holds the model itself.
"""

import numpy as np
import serving
from encoder import Encoder


class TritonPythonModel:
    def initialize(self, args):
        given = serving.settings(args)
        self.encoder = Encoder(
            given.get("model_dir", ""), serving.threads(given), given.get("device") or "cpu",
            given.get("variant") or "fp32",
        )  # fmt: skip
        self.encoder.embed([np.full((224, 224, 3), 128, dtype=np.uint8)])

    def execute(self, requests):
        return serving.answer(requests, lambda request: list(serving.array(request, "IMAGE")), self._work)

    def _work(self, images):
        return self.encoder.embed(images) | {"VERSION": serving.column(self.encoder.version, len(images))}
