"""A text in, its speech out, from the speech synthesizer on Triton."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from upwell.inference.errors import InferenceRejected
from upwell.inference.latest import LatestModel


@dataclass(frozen=True, slots=True)
class Speech:
    """A spoken text."""

    audio: npt.NDArray[np.int16]
    """Samples, [n], mono."""
    rate: int
    """Samples per second."""

    @property
    def seconds(self) -> float:
        return len(self.audio) / self.rate


class Speaker(LatestModel):
    """The served speech synthesizer; `timeout_s` is the deadline of one text."""

    MODEL, TIMEOUT_S = "speech_synthesizer", 20.0

    def speak(self, text: str) -> Speech:
        """The text spoken.

        Raises:
            InferenceUnavailable: the server does not answer, or serves no voice.
            InferenceRejected: nothing in the text can be spoken, or it is too long.
        """
        column = np.array([text.encode("utf-8", "replace")], dtype=np.object_)
        answer = self._infer({"TEXT": column}, ("AUDIO", "RATE"))
        audio: npt.NDArray[np.int16] = answer["AUDIO"].reshape(-1)
        rate = int(answer["RATE"].reshape(-1)[0])
        if rate <= 0 or not len(audio):
            raise InferenceRejected(f"the speech synthesizer answered with {len(audio)} samples at {rate} a second")
        return Speech(audio, rate)
