"""Sounds in, unit-length embeddings and MFCC statistics out: the encoder itself, without Triton.

Every sound passes the model alone, block by block, so its numbers are the same to the last bit whatever else is in its
batch. The spectrum is that of aiSFX (Ma et al. 2022): 96 mel bands (HTK) of 2048-sample windows every 1024 samples,
log10(1 + 10000 x), of the sound at full scale.
"""

import librosa
import numpy as np
from weights import folder_of, onnx_session, version_of

RATE = 44_100
WINDOW, HOP, MELS = 2048, 1024, 96
BLOCK = 100
"""Frames that the network sees together: 2.3 s."""
HIGHEST = 9.457798957824707
"""The largest value of a spectrum that the network was trained with."""
MFCCS = 20
LEAST = 441
"""Samples of the shortest sound that is taken: 10 ms."""


class Encoder:
    """The sound encoder in memory. model_dir: folder; empty: the demo's."""

    def __init__(self, model_dir="", threads=1):
        folder = folder_of(model_dir, "audio_encoder")
        self._session = onnx_session(folder / "model.onnx", threads)
        self._filters = librosa.filters.mel(sr=RATE, n_fft=WINDOW, n_mels=MELS, htk=True, norm=1.0)
        self.version = version_of(folder)

    def embed(self, sounds):
        """sounds: list of n > 0 float32 [samples], mono, 44.1 kHz, at least LEAST samples. Returns a dict of n rows.

        EMBEDDING float32 [n, 512], mean over the blocks, unit length; MFCC float32 [n, 60]: of 20 coefficients the means,
        the standard deviations and the mean deltas.
        """
        rows = [self._one(sound) for sound in sounds]
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

    def _one(self, sound):
        loudest = float(np.abs(sound).max())
        full = sound / loudest if loudest > 0 else sound
        # A sound shorter than a window is padded with silence.
        full = np.pad(full, (0, max(0, WINDOW - len(full))))
        power = np.abs(librosa.stft(full, n_fft=WINDOW, hop_length=HOP)) ** 2
        mel = self._filters @ power
        blocks = _blocks(np.log10(mel * 10_000 + 1).T / HIGHEST)
        vectors = [self._session.run(None, {"spectrum": block[None]})[0][0] for block in blocks]
        embedding = np.mean(vectors, axis=0)
        norm = max(float(np.linalg.norm(embedding)), 1e-12)
        return {"EMBEDDING": (embedding / norm).astype(np.float32), "MFCC": _mfcc_statistics(mel)}


def _blocks(spectrum):
    """float32 [frames, mels] to [BLOCK, mels] each; the rest counts from half a block on, or where it is all."""
    whole, rest = divmod(len(spectrum), BLOCK)
    count = whole + (rest >= BLOCK // 2 or whole == 0)
    padded = np.zeros((count * BLOCK, spectrum.shape[1]), dtype=np.float32)
    kept = spectrum[: len(padded)]
    padded[: len(kept)] = kept
    return padded.reshape(count, BLOCK, -1)


def _mfcc_statistics(mel):
    coefficients = librosa.feature.mfcc(S=librosa.power_to_db(mel, ref=1.0), n_mfcc=MFCCS)
    deltas = librosa.feature.delta(coefficients, mode="nearest")
    parts = [coefficients.mean(axis=1), coefficients.std(axis=1), deltas.mean(axis=1)]
    return np.concatenate(parts).astype(np.float32)
