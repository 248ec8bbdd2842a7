"""Speech in, text out: the recogniser itself, without Triton.

Whisper (Radford et al. 2022) through CTranslate2, greedy, so that the same speech gives the same text. Silero's voice
activity detection takes out what is no speech beforehand, where Whisper would invent words.
"""

import numpy as np
from weights import folder_of, version_of

RATE = 16_000
LEAST = 1_600
"""Samples of the shortest recording that is taken: 100 ms."""


class Recognizer:
    """A speech recogniser in memory. model_dir: a CTranslate2 folder; empty: the demo's. compute_type: CTranslate2's."""

    def __init__(self, model_dir="", threads=1, compute_type="int8"):
        from faster_whisper import WhisperModel

        folder = folder_of(model_dir, "speech_recognizer")
        self._model = WhisperModel(str(folder), device="cpu", compute_type=compute_type, cpu_threads=threads)
        self.version = version_of(folder)

    def recognize(self, recordings):
        """recordings: list of n > 0 float32 [samples], mono, 16 kHz. Returns a dict of arrays with n rows.

        TEXT object [n, 1] of bytes, empty where nobody speaks; LANGUAGE object [n, 1]; NO_SPEECH float32 [n, 1].
        """
        rows = [self._one(recording) for recording in recordings]
        texts, languages, silences = zip(*rows, strict=True)
        return {
            "TEXT": _column(texts),
            "LANGUAGE": _column(languages),
            "NO_SPEECH": np.array(silences, dtype=np.float32).reshape(-1, 1),
        }

    def _one(self, recording):
        segments, about = self._model.transcribe(
            recording, beam_size=1, temperature=0.0, condition_on_previous_text=False, vad_filter=True,
            without_timestamps=True,
        )  # fmt: skip
        found = list(segments)
        text = " ".join(segment.text.strip() for segment in found).strip()
        # Nothing left by the voice activity detection: certainly no speech.
        silence = float(np.mean([segment.no_speech_prob for segment in found])) if found else 1.0
        return text, about.language or "", silence


def _column(texts):
    return np.array([text.encode() for text in texts], dtype=np.object_).reshape(-1, 1)
