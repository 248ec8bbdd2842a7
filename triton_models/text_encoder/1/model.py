"""Texts in, unit-length sentence embeddings out.

TEXT      BYTES [batch, 1]  UTF-8; cut after `max_tokens` tokens
EMBEDDING FP32  [batch, d]  the last layer pooled, or CLIP's projection of it, L2-normalised; d = 384 for MiniLM
VERSION   BYTES [batch, 1]  `name@hash of the weights`

`text_encoder_int8` links to this file: the same model in 8 bits. `encoder.py` holds the model itself.
"""

import serving
from encoder import Encoder


class TritonPythonModel:
    def initialize(self, args):
        given = serving.settings(args)
        self.encoder = Encoder(
            given.get("model_dir", ""), given.get("variant") or "bf16", serving.threads(given),
            int(given.get("max_tokens") or 0), given.get("device") or "cpu", given.get("pooling", ""),
        )  # fmt: skip
        self.encoder.embed(["warm up"])

    def execute(self, requests):
        return serving.answer(requests, self._read, self._work)

    def _read(self, request):
        try:
            return [bytes(row).decode("utf-8") for row in serving.array(request, "TEXT").reshape(-1)]
        except UnicodeDecodeError as error:
            raise serving.Refused(f"TEXT is not UTF-8: {error}") from None

    def _work(self, texts):
        return {"EMBEDDING": self.encoder.embed(texts), "VERSION": serving.column(self.encoder.version, len(texts))}
