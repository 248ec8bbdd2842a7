"""Speech in, text out.

AUDIO     FP32  [batch, samples]  mono, 16 kHz, 0.1 to `max_seconds` s; requests of any length share a batch
TEXT      BYTES [batch, 1]  UTF-8; empty where nobody speaks
LANGUAGE  BYTES [batch, 1]  ISO 639-1
NO_SPEECH FP32  [batch, 1]  probability that nobody speaks
VERSION   BYTES [batch, 1]  `name@hash of the weights`

`recognizer.py` holds the model itself.
"""

import numpy as np
import serving
from recognizer import LEAST, RATE, Recognizer


class TritonPythonModel:
    def initialize(self, args):
        given = serving.settings(args)
        self.max_seconds = float(given.get("max_seconds") or 30)
        compute_type = given.get("compute_type") or "int8"
        self.recognizer = Recognizer(given.get("model_dir", ""), serving.threads(given), compute_type)
        self.recognizer.recognize([np.zeros(RATE, dtype=np.float32)])

    def execute(self, requests):
        return serving.answer(requests, self._read, self._work)

    def _read(self, request):
        recordings = serving.array(request, "AUDIO")
        serving.check_audio(recordings, RATE, LEAST, self.max_seconds)
        return list(recordings)

    def _work(self, recordings):
        version = serving.column(self.recognizer.version, len(recordings))
        return self.recognizer.recognize(recordings) | {"VERSION": version}
