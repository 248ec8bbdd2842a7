"""What is known of n items in; one fused vector each, each modality's own, and their weights out. Calls the encoders.

TEXT           BYTES [n]                UTF-8; empty: none
IMAGE          UINT8 [m, 224, 224, 3]   RGB; the items' pictures one after the other, IMAGES INT32 [n] of each item
AUDIO          FP32  [a]                mono at 44.1 kHz; likewise, AUDIO_SAMPLES INT32 [n]
SPEECH         FP32  [s]                mono at 16 kHz; likewise, SPEECH_SAMPLES INT32 [n]
MODALITIES     BYTES [k]                what is fused, of text, image, audio, speech; optional: all that the fusion knows.
                                        Only their encoders are asked, and the text encoder
VECTOR         FP32  [n, d]             unit length
WEIGHTS        FP32  [n, 4]             of text, image, audio, speech; 0 where absent, their sum 1
TEXT_VECTOR    FP32  [n, t]             the text encoder's
IMAGE_VECTOR   FP32  [n, i]             the image encoder's JOINT and EMBEDDING, each the unit-length mean over the pictures
AUDIO_VECTOR   FP32  [n, u]             the audio encoder's EMBEDDING and MFCC
SPEECH_VECTOR  FP32  [n, t]             the text encoder's of what is said
TRANSCRIPT     BYTES [n]                what is said
LABELS         BYTES [n, 5]             what is seen on the first picture, likeliest first
VERSION        BYTES [1]                `name@hash` of the fusion on these encoders
ENCODERS       BYTES [1]                JSON: `versions` of the encoders, `layout` of the modalities' vectors, by modality
"""

import asyncio
import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import serving
import torch
import triton_python_backend_utils as pb_utils

from upwell.training import fusion

LEAST_AUDIO, LEAST_SPEECH = 441, 1_600
"""Samples below which the encoders take no sound: it counts as none."""
PICTURES, TEXTS, SOUNDS = 32, 64, 16
"""The encoders' largest batches."""


ENCODER_OF = {
    "text": "text_encoder", "image": "image_encoder", "audio": "audio_encoder", "speech": "speech_recognizer"
}  # fmt: skip


class Unavailable(Exception):
    """An encoder does not answer: the same may work later."""


class Met(NamedTuple):
    """The encoders of some modalities, and what fuses their vectors."""

    fusion: fusion.Fusion
    version: str
    encoders: bytes
    """ENCODERS."""


class TritonPythonModel:
    def initialize(self, args):
        self.given = serving.settings(args)
        folder = self.given.get("model_dir", "")
        # One thread: requests overlap by the two instances, and each product here is small.
        torch.set_num_threads(1)
        # A relative one lies beside the configuration, wherever the repository is.
        home = Path(args["model_repository"])
        self.trained = fusion.load(home / Path(folder).expanduser()) if folder else None
        about = self.trained.about if self.trained else {}
        self.known = [name for name in fusion.MODALITIES if name in (about.get("encoders") or fusion.MODALITIES)]
        self.met = {}

    async def execute(self, requests):
        return [await self._answer(request) for request in requests]

    async def _answer(self, request):
        try:
            use = self._asked(request)
            if use not in self.met:
                self.met[use] = await self._meet(use)
            outputs = await self._features(request, use, self.met[use])
        except (serving.Refused, fusion.FusionError) as error:
            return serving.refuse(error)
        except Unavailable as error:
            problem = pb_utils.TritonError(str(error), pb_utils.TritonError.UNAVAILABLE)
            return pb_utils.InferenceResponse(error=problem)
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, value) for name, value in outputs.items()])

    def _asked(self, request):
        """The modalities of a request, in the order of `fusion.MODALITIES`."""
        given = pb_utils.get_input_tensor_by_name(request, "MODALITIES")
        if given is None:
            return tuple(self.known)
        names = {bytes(name).decode("utf-8", "replace") for name in given.as_numpy().reshape(-1)}
        if unknown := names - set(self.known):
            what = f"it was trained on {', '.join(self.known)}" if self.trained else f"{fusion.MODALITIES} are"
            raise serving.Refused(f"{', '.join(sorted(unknown))} cannot be fused by this model: {what}")
        return tuple(name for name in fusion.MODALITIES if name in names)

    async def _meet(self, use):
        """Ask the encoders for their versions and widths, with the smallest inputs that they take."""
        read = await self._call("text", TEXT=np.array([[b""]], np.object_))
        text, versions = read["EMBEDDING"].shape[1], {"text": _version(read)}
        nothing = (fusion.Part(1),)
        parts = {"text": (fusion.Part(text, shared=True),), "image": nothing, "audio": nothing}
        parts["speech"] = parts["text"]
        if "image" in use:
            seen = await self._call("image", IMAGE=np.full((1, 224, 224, 3), 128, np.uint8))
            joint, own = seen["JOINT"].shape[1], seen["EMBEDDING"].shape[1]
            shared = (fusion.Part(joint, shared=joint == text),) if joint else ()
            parts["image"], versions["image"] = (*shared, fusion.Part(own)), _version(seen)
        if "audio" in use:
            heard = await self._call("audio", AUDIO=np.zeros((1, 44_100), np.float32))
            parts["audio"] = (
                fusion.Part(heard["EMBEDDING"].shape[1]),
                fusion.Part(heard["MFCC"].shape[1], scaled=True),
            )
            versions["audio"] = _version(heard)
        if "speech" in use:
            said = await self._call("speech", AUDIO=np.zeros((1, 16_000), np.float32))
            versions["speech"] = f"{_version(said)}+{versions['text']}"
        layout = {name: [part.as_dict() for part in parts[name]] for name in fusion.MODALITIES}
        encoders = json.dumps({"versions": versions, "layout": layout}).encode()
        if self.trained is None:
            kept = json.dumps([use, versions], sort_keys=True)
            version = f"fusion-mean@{hashlib.sha256(kept.encode()).hexdigest()[:12]}"
            return Met(fusion.create("mean", parts, text).eval(), version, encoders)
        trained = self.trained.about.get("encoders", {})
        if other := {name: v for name, v in versions.items() if trained.get(name) not in {None, v}}:
            raise serving.Refused(
                f"this fusion was trained on {trained}, the encoders here are {other}: train it again on these"
            )
        for name in use:
            if (width := sum(part.size for part in parts[name])) != self.trained.width(name):
                raise serving.Refused(f"this fusion takes {self.trained.width(name)} numbers of {name}, not {width}")
        return Met(self.trained, self.trained.version, encoders)

    async def _features(self, request, use, met):
        texts = [bytes(text) for text in serving.array(request, "TEXT")]
        n = len(texts)
        pictures = _split(serving.array(request, "IMAGE"), serving.array(request, "IMAGES"), n, "IMAGES")
        sounds = _split(serving.array(request, "AUDIO"), serving.array(request, "AUDIO_SAMPLES"), n, "AUDIO_SAMPLES")
        spoken = _split(serving.array(request, "SPEECH"), serving.array(request, "SPEECH_SAMPLES"), n, "SPEECH_SAMPLES")
        read, seen, heard, (said, transcripts) = await asyncio.gather(
            self._texts({i: text for i, text in enumerate(texts) if text} if "text" in use else {}),
            self._pictures({i: found for i, found in enumerate(pictures) if len(found)} if "image" in use else {}),
            self._sounds({i: s for i, s in enumerate(sounds) if len(s) >= LEAST_AUDIO} if "audio" in use else {}),
            self._speech({i: s for i, s in enumerate(spoken) if len(s) >= LEAST_SPEECH} if "speech" in use else {}),
        )
        labels = np.full((n, 5), b"", np.object_)
        for i, (_, names) in seen.items():
            labels[i, : len(names)] = names[:5]
        found = {"text": read, "image": {i: vector for i, (vector, _) in seen.items()}, "audio": heard, "speech": said}
        inputs = {name: np.zeros((n, met.fusion.width(name)), np.float32) for name in fusion.MODALITIES}
        present = np.zeros((n, len(fusion.MODALITIES)), bool)
        for column, name in enumerate(fusion.MODALITIES):
            for i, vector in found[name].items():
                inputs[name][i], present[i, column] = vector, True
        if not present.any(1).all():
            raise serving.Refused(f"nothing of {', '.join(use)} is there to be encoded")
        with torch.inference_mode():
            vectors, weights = met.fusion(
                {name: torch.from_numpy(rows) for name, rows in inputs.items()}, torch.from_numpy(present)
            )
        return {
            "VECTOR": vectors.numpy(),
            "WEIGHTS": weights.numpy(),
            **{f"{name.upper()}_VECTOR": rows for name, rows in inputs.items()},
            "TRANSCRIPT": np.array([transcripts.get(i, b"") for i in range(n)], np.object_),
            "LABELS": labels,
            "VERSION": np.array([met.version.encode()], np.object_),
            "ENCODERS": np.array([met.encoders], np.object_),
        }

    async def _texts(self, texts):
        """{row: UTF-8} to {row: vector}."""
        rows = list(texts)
        groups = [rows[i : i + TEXTS] for i in range(0, len(rows), TEXTS)]
        answers = await asyncio.gather(
            *(self._call("text", TEXT=np.array([[texts[i]] for i in g], np.object_)) for g in groups)
        )
        return {
            i: vector
            for g, answer in zip(groups, answers, strict=True)
            for i, vector in zip(g, answer["EMBEDDING"], strict=True)
        }

    async def _pictures(self, pictures):
        """{row: uint8 [k, 224, 224, 3]} to {row: (vector, names of what is seen)}."""
        rows = [i for i, found in pictures.items() for _ in found]
        whole = np.concatenate(list(pictures.values())) if pictures else np.empty((0, 224, 224, 3), np.uint8)
        starts = range(0, len(rows), PICTURES)
        answers = await asyncio.gather(*(self._call("image", IMAGE=whole[s : s + PICTURES]) for s in starts))
        joint, own, labels = (
            [row for answer in answers for row in answer[name]] for name in ("JOINT", "EMBEDDING", "LABELS")
        )
        of = {i: [number for number, row in enumerate(rows) if row == i] for i in pictures}
        return {
            i: (np.concatenate([_unit(np.mean([part[k] for k in ks], 0)) for part in (joint, own)]), labels[ks[0]])
            for i, ks in of.items()
        }

    async def _sounds(self, sounds):
        """{row: float32 [samples]} to {row: vector}."""
        answers = await asyncio.gather(*(self._call("audio", AUDIO=sound[None]) for sound in sounds.values()))
        return {
            i: np.concatenate([answer["EMBEDDING"][0], answer["MFCC"][0]])
            for i, answer in zip(sounds, answers, strict=True)
        }

    async def _speech(self, spoken):
        """{row: float32 [samples]} to {row: vector of what is said}, {row: what is said}."""
        answers = await asyncio.gather(*(self._call("speech", AUDIO=s[None]) for s in spoken.values()))
        said = {i: bytes(answer["TEXT"][0, 0]).strip() for i, answer in zip(spoken, answers, strict=True)}
        said = {i: text for i, text in said.items() if text}
        return await self._texts(said), said

    async def _call(self, modality, **inputs):
        """The answer of a modality's encoder, by name."""
        encoder = self.given[ENCODER_OF[modality]]
        request = pb_utils.InferenceRequest(
            model_name=encoder,
            requested_output_names=OUTPUTS[modality],
            inputs=[pb_utils.Tensor(name, np.ascontiguousarray(value)) for name, value in inputs.items()],
        )
        try:
            answer = await request.async_exec()
        except pb_utils.TritonModelException as error:
            raise _absent(encoder, modality, error) from error
        if answer.has_error():
            # Triton does not hand the code of an error on between models; the first word tells.
            message = answer.error().message()
            if message.startswith(serving.REFUSED):
                raise serving.Refused(f"{encoder}: {message.removeprefix(serving.REFUSED)}")
            raise _absent(encoder, modality, message)
        return {name: pb_utils.get_output_tensor_by_name(answer, name).as_numpy() for name in OUTPUTS[modality]}


OUTPUTS = {
    "text": ["EMBEDDING", "VERSION"],
    "image": ["EMBEDDING", "JOINT", "LABELS", "VERSION"],
    "audio": ["EMBEDDING", "MFCC", "VERSION"],
    "speech": ["TEXT", "VERSION"],
}


def _absent(encoder, modality, why):
    return Unavailable(
        f"{encoder} does not answer; if it is not to be loaded, fuse without {modality} (items.modalities): {why}"
    )


def _version(answer):
    return answer["VERSION"].reshape(-1)[0].decode()


def _split(values, counts, n, name):
    """The items' stretches of a tensor that holds them one after the other."""
    if len(counts) != n or (n and counts.min() < 0) or counts.sum() != len(values):
        raise serving.Refused(f"{name} does not divide the {len(values)} rows that came among {n} items")
    return np.split(values, np.cumsum(counts)[:-1]) if n else []


def _unit(vector):
    return (vector / max(float(np.linalg.norm(vector)), 1e-12)).astype(np.float32)
