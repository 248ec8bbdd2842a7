"""Sounds in, unit-length embeddings and MFCC statistics out.

AUDIO     FP32  [batch, samples]  mono, 44.1 kHz, 10 ms to `max_seconds`; requests of any length share a batch
EMBEDDING FP32  [batch, 512]  mean over blocks of 2.3 s, unit length
MFCC      FP32  [batch, 60]   of 20 coefficients the means, the standard deviations and the mean deltas
VERSION   BYTES [batch, 1]    `name@hash of the weights`

`encoder.py` holds the model itself.
"""

import numpy as np
import serving
from encoder import LEAST, RATE, Encoder


class TritonPythonModel:
    def initialize(self, args):
        given = serving.settings(args)
        self.max_seconds = float(given.get("max_seconds") or 120)
        self.encoder = Encoder(given.get("model_dir", ""), serving.threads(given))
        self.encoder.embed([np.zeros(3 * RATE, dtype=np.float32)])

    def execute(self, requests):
        return serving.answer(requests, self._read, self._work)

    def _read(self, request):
        sounds = serving.array(request, "AUDIO")
        serving.check_audio(sounds, RATE, LEAST, self.max_seconds)
        return list(sounds)

    def _work(self, sounds):
        return self.encoder.embed(sounds) | {"VERSION": serving.column(self.encoder.version, len(sounds))}
