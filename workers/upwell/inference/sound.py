"""Sounds and speech in, embeddings and recognised texts out, from the sound encoder and the recogniser on Triton.

Each recording is a call of its own, so that what one gets wrong costs the others nothing; Triton batches them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from upwell.inference.errors import InferenceRejected
from upwell.inference.versioned import VersionedModel

SOUND_RATE: Final = 44_100
"""Samples per second that the sound encoder takes."""
SPEECH_RATE: Final = 16_000
"""Samples per second that the recogniser takes."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What the encoder makes of one sound."""

    embedding: npt.NDArray[np.float32]
    """[512], unit length."""
    mfcc: npt.NDArray[np.float32]
    """[60]: of 20 coefficients the means, the standard deviations, the mean deltas."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """What was said."""

    text: str
    """Empty where nobody speaks."""
    language: str
    """ISO 639-1."""
    no_speech: float
    """Probability that nobody speaks."""


class AudioEncoder(VersionedModel):
    """The served sound encoder.

    Args:
        url: Triton's gRPC address, host:port.
        timeout_s: deadline of one sound.
        in_flight: concurrent calls.
        options: gRPC channel options.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str = "audio_encoder",
        timeout_s: float = 20.0,
        options: Mapping[str, str] | None = None,
        in_flight: int = 8,
    ) -> None:
        super().__init__(url, model, "audio encoder", timeout_s=timeout_s, options=options, in_flight=in_flight)

    def encode(self, sounds: Sequence[npt.NDArray[np.float32]]) -> list[Heard]:
        """Of each sound (float32 [samples], mono, 44.1 kHz, 10 ms to 120 s) an embedding and MFCC statistics.

        Raises:
            InferenceUnavailable: the server does not answer.
            InferenceRejected: a sound is none, or too short or long.
            ModelChanged: the server holds another model than at the first call.
        """
        return self.client.map(self._one, sounds) if sounds else []

    def _one(self, sound: npt.NDArray[np.float32]) -> Heard:
        answer = self._infer({"AUDIO": _row(sound)}, ("EMBEDDING", "MFCC"))
        return Heard(answer["EMBEDDING"][0], answer["MFCC"][0])

    def _ask(self) -> object:
        return self.encode([np.zeros(SOUND_RATE, dtype=np.float32)])


class SpeechRecognizer(VersionedModel):
    """The served speech recogniser.

    Args:
        url: Triton's gRPC address, host:port.
        timeout_s: deadline of one recording, waiting for those before it included.
        in_flight: concurrent calls.
        options: gRPC channel options.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str = "speech_recognizer",
        timeout_s: float = 60.0,
        options: Mapping[str, str] | None = None,
        in_flight: int = 4,
    ) -> None:
        super().__init__(url, model, "speech recogniser", timeout_s=timeout_s, options=options, in_flight=in_flight)

    def recognize(self, recordings: Sequence[npt.NDArray[np.float32]]) -> list[Spoken]:
        """What is said in each recording: float32 [samples], mono, 16 kHz, 0.1 to 30 s.

        Raises:
            InferenceUnavailable: the server does not answer.
            InferenceRejected: a recording is none, or too short or long.
            ModelChanged: the server holds another model than at the first call.
        """
        return self.client.map(self._one, recordings) if recordings else []

    def _one(self, recording: npt.NDArray[np.float32]) -> Spoken:
        answer = self._infer({"AUDIO": _row(recording)}, ("TEXT", "LANGUAGE", "NO_SPEECH"))
        text, language = (answer[name].reshape(-1)[0].decode("utf-8", "replace") for name in ("TEXT", "LANGUAGE"))
        return Spoken(text, language, float(answer["NO_SPEECH"].reshape(-1)[0]))

    def _ask(self) -> object:
        return self.recognize([np.zeros(SPEECH_RATE, dtype=np.float32)])


def _row(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    if samples.dtype != np.float32 or samples.ndim != 1:
        raise InferenceRejected(f"sound is float32 [samples], mono; got {samples.dtype} {list(samples.shape)}")
    return np.ascontiguousarray(samples)[None]
