"""A text in, its speech out (Piper: VITS, Kim et al. 2021, on eSpeak's phonemes).

TEXT    BYTES [1]  UTF-8, at most `max_chars` characters
AUDIO   INT16 [n]  mono; a pause of 0.2 s between sentences
RATE    INT32 [1]  samples per second (22,050 for the demo's voice)
VERSION BYTES [1]  `name@hash of the weights`

With both noise scales at 0, as configured, the same text gives the same samples. piper-tts is GPL-3 and optional: this
process alone imports it.
"""

import numpy as np
import serving
import triton_python_backend_utils as pb_utils
from weights import folder_of, onnx_session, version_of

PAUSE_S = 0.2


class TritonPythonModel:
    def initialize(self, args):
        given = serving.settings(args)
        try:
            from piper import PiperVoice, SynthesisConfig
        except ImportError as error:
            raise pb_utils.TritonModelException(
                f"{error}: spoken texts need the package piper-tts, which is GPL-3 and so an extra; "
                "install upwell[speech]."
            ) from error
        folder = folder_of(given.get("model_dir", ""), "speech_synthesizer", ["*.onnx"])
        file = _voice(folder)
        self.max_chars = int(given.get("max_chars") or 600)
        self.voice = PiperVoice.load(file)
        self.voice.session = onnx_session(file, int(given.get("threads") or 1))
        self.speaking = SynthesisConfig(
            length_scale=float(given.get("length_scale") or 1),
            noise_scale=float(given.get("noise_scale") or 0),
            noise_w_scale=float(given.get("noise_w_scale") or 0),
        )
        self.rate = int(self.voice.config.sample_rate)
        self.version = np.array([version_of(folder).encode()], dtype=np.object_)
        self._speak("Warm up.")

    def execute(self, requests):
        responses = []
        for request in requests:
            row = pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy().reshape(-1)[0]
            try:
                audio = self._speak(bytes(row).decode("utf-8"))
            except ValueError as error:
                responses.append(serving.refuse(f"TEXT {error}"))
                continue
            tensors = [
                pb_utils.Tensor("AUDIO", audio),
                pb_utils.Tensor("RATE", np.array([self.rate], dtype=np.int32)),
                pb_utils.Tensor("VERSION", self.version),
            ]
            responses.append(pb_utils.InferenceResponse(tensors))
        return responses

    def _speak(self, text):
        """Returns int16 [n]."""
        if len(text) > self.max_chars:
            raise ValueError(f"has {len(text)} characters: at most {self.max_chars}")
        # Between double brackets Piper expects phonemes, which are not for whoever writes titles.
        chunks = self.voice.synthesize(text.replace("[[", " ").replace("]]", " "), self.speaking)
        sentences = [chunk.audio_int16_array for chunk in chunks]
        if not sentences:
            raise ValueError("holds nothing that can be spoken")
        pause = np.zeros(int(PAUSE_S * self.rate), dtype=np.int16)
        parts = [part for sentence in sentences for part in (pause, sentence)][1:]
        return np.concatenate(parts).astype(np.int16, copy=False)


def _voice(folder):
    """The voice's file."""
    files = sorted(folder.glob("*.onnx"))
    if len(files) != 1:
        raise pb_utils.TritonModelException(f"{len(files)} voices in {folder}, one is expected: name another model_dir")
    return files[0]
