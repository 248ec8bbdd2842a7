"""A text in, its speech out, from the speech synthesizer on Triton."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from upwell.inference.client import ModelClient
from upwell.inference.errors import InferenceRejected


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


class Speaker:
    """The served speech synthesizer.

    Args:
        url: Triton's gRPC address, host:port.
        timeout_s: deadline of one text.
        options: gRPC channel options.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str = "speech_synthesizer",
        timeout_s: float = 20.0,
        options: Mapping[str, str] | None = None,
        attempts: int = 2,
    ) -> None:
        self.client = ModelClient(url, model, timeout_s=timeout_s, options=options, attempts=attempts)
        self.model_version = ""
        """`name@hash` of the voice, as of the latest answer."""

    def speak(self, text: str) -> Speech:
        """The text spoken.

        Raises:
            InferenceUnavailable: the server does not answer, or serves no voice.
            InferenceRejected: nothing in the text can be spoken, or it is too long.
        """
        column = np.array([text.encode("utf-8", "replace")], dtype=np.object_)
        answer = self.client.infer({"TEXT": column}, ("AUDIO", "RATE", "VERSION"))
        self.model_version = answer["VERSION"].reshape(-1)[0].decode()
        audio: npt.NDArray[np.int16] = answer["AUDIO"].reshape(-1)
        rate = int(answer["RATE"].reshape(-1)[0])
        if rate <= 0 or not len(audio):
            raise InferenceRejected(f"the speech synthesizer answered with {len(audio)} samples at {rate} a second")
        return Speech(audio, rate)

    def close(self) -> None:
        self.client.close()
