"""What is known of n items in; one fused vector each, each modality's own, and their weights out. Calls the encoders.

TEXT           BYTES [n]                UTF-8; empty: none
IMAGE          UINT8 [m, 224, 224, 3]   RGB; the items' pictures one after the other, IMAGES INT32 [n] of each item
AUDIO          FP32  [a]                mono at 44.1 kHz; likewise, AUDIO_SAMPLES INT32 [n]
SPEECH         FP32  [s]                mono at 16 kHz; likewise, SPEECH_SAMPLES INT32 [n]
VECTOR         FP32  [n, d]             unit length
WEIGHTS        FP32  [n, 4]             of text, image, audio, speech; 0 where absent, their sum 1
TEXT_VECTOR    FP32  [n, t]             the text encoder's
IMAGE_VECTOR   FP32  [n, i]             the image encoder's JOINT and EMBEDDING, each the unit-length mean over the pictures
AUDIO_VECTOR   FP32  [n, u]             the audio encoder's EMBEDDING and MFCC
SPEECH_VECTOR  FP32  [n, t]             the text encoder's of what is said
TRANSCRIPT     BYTES [n]                what is said
LABELS         BYTES [n, 5]             what is seen on the first picture, likeliest first
VERSION        BYTES [n]                `name@hash` of the fusion on these encoders
"""

import asyncio
import hashlib
import json
from pathlib import Path

import numpy as np
import serving
import torch
import triton_python_backend_utils as pb_utils

from upwell.training import fusion

LEAST_AUDIO, LEAST_SPEECH = 441, 1_600
"""Samples below which the encoders take no sound: it counts as none."""
PICTURES, TEXTS, SOUNDS = 32, 64, 16
"""The encoders' largest batches."""


class Unavailable(Exception):
    """An encoder does not answer: the same may work later."""


class TritonPythonModel:
    def initialize(self, args):
        self.given = serving.settings(args)
        self.modalities = [name.strip() for name in self.given["modalities"].split(",") if name.strip()]
        if unknown := set(self.modalities) - set(fusion.MODALITIES):
            raise pb_utils.TritonModelException(
                f"modalities: {', '.join(sorted(unknown))} is none of {fusion.MODALITIES}"
            )
        folder = self.given.get("model_dir", "")
        # One thread: requests overlap by the two instances, and each product here is small.
        torch.set_num_threads(1)
        # A relative one lies beside the configuration, wherever the repository is.
        home = Path(args["model_repository"])
        self.fusion = fusion.load(home / Path(folder).expanduser()) if folder else None
        self.version = self.widths = None

    async def execute(self, requests):
        return [await self._answer(request) for request in requests]

    async def _answer(self, request):
        try:
            if self.version is None:
                await self._meet()
            outputs = await self._features(request)
        except (serving.Refused, fusion.FusionError) as error:
            return serving.refuse(error)
        except Unavailable as error:
            problem = pb_utils.TritonError(str(error), pb_utils.TritonError.UNAVAILABLE)
            return pb_utils.InferenceResponse(error=problem)
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, value) for name, value in outputs.items()])

    async def _meet(self):
        """Ask the encoders for their versions and widths, with the smallest inputs that they take."""
        read = await self._call("text_encoder", TEXT=np.array([[b""]], np.object_))
        text, versions = read["EMBEDDING"].shape[1], {"text": _version(read)}
        nothing = (fusion.Part(1),)
        parts = {"text": (fusion.Part(text, shared=True),), "image": nothing, "audio": nothing}
        parts["speech"] = parts["text"]
        if "image" in self.modalities:
            seen = await self._call("image_encoder", IMAGE=np.full((1, 224, 224, 3), 128, np.uint8))
            joint, own = seen["JOINT"].shape[1], seen["EMBEDDING"].shape[1]
            shared = (fusion.Part(joint, shared=joint == text),) if joint else ()
            parts["image"], versions["image"] = (*shared, fusion.Part(own)), _version(seen)
        if "audio" in self.modalities:
            heard = await self._call("audio_encoder", AUDIO=np.zeros((1, 44_100), np.float32))
            parts["audio"] = (
                fusion.Part(heard["EMBEDDING"].shape[1]),
                fusion.Part(heard["MFCC"].shape[1], scaled=True),
            )
            versions["audio"] = _version(heard)
        if "speech" in self.modalities:
            said = await self._call("speech_recognizer", AUDIO=np.zeros((1, 16_000), np.float32))
            versions["speech"] = f"{_version(said)}+{versions['text']}"
        if self.fusion is None:
            self.fusion = fusion.create("mean", parts, text).eval()
            kept = json.dumps([self.modalities, versions], sort_keys=True)
            version = f"fusion-mean@{hashlib.sha256(kept.encode()).hexdigest()[:12]}"
        else:
            trained = self.fusion.about.get("encoders", {})
            if other := {name: v for name, v in versions.items() if trained.get(name) not in {None, v}}:
                raise serving.Refused(
                    f"this fusion was trained on {trained}, the encoders here are {other}: train it again on these"
                )
            version = self.fusion.version
        self.widths = {name: self.fusion.width(name) for name in fusion.MODALITIES}
        self.version = version

    async def _features(self, request):
        texts = [bytes(text) for text in serving.array(request, "TEXT")]
        n = len(texts)
        pictures = _split(serving.array(request, "IMAGE"), serving.array(request, "IMAGES"), n, "IMAGES")
        sounds = _split(serving.array(request, "AUDIO"), serving.array(request, "AUDIO_SAMPLES"), n, "AUDIO_SAMPLES")
        spoken = _split(serving.array(request, "SPEECH"), serving.array(request, "SPEECH_SAMPLES"), n, "SPEECH_SAMPLES")
        use = self.modalities
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
        inputs = {name: np.zeros((n, width), np.float32) for name, width in self.widths.items()}
        present = np.zeros((n, len(fusion.MODALITIES)), bool)
        for column, name in enumerate(fusion.MODALITIES):
            for i, vector in found[name].items():
                inputs[name][i], present[i, column] = vector, True
        if not present.any(1).all():
            raise serving.Refused(f"nothing of {', '.join(use)} is there to be encoded")
        with torch.inference_mode():
            vectors, weights = self.fusion(
                {name: torch.from_numpy(rows) for name, rows in inputs.items()}, torch.from_numpy(present)
            )
        return {
            "VECTOR": vectors.numpy(),
            "WEIGHTS": weights.numpy(),
            **{f"{name.upper()}_VECTOR": rows for name, rows in inputs.items()},
            "TRANSCRIPT": np.array([transcripts.get(i, b"") for i in range(n)], np.object_),
            "LABELS": labels,
            "VERSION": np.array([self.version.encode()] * n, np.object_),
        }

    async def _texts(self, texts):
        """{row: UTF-8} to {row: vector}."""
        rows = list(texts)
        groups = [rows[i : i + TEXTS] for i in range(0, len(rows), TEXTS)]
        answers = await asyncio.gather(
            *(self._call("text_encoder", TEXT=np.array([[texts[i]] for i in g], np.object_)) for g in groups)
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
        answers = await asyncio.gather(*(self._call("image_encoder", IMAGE=whole[s : s + PICTURES]) for s in starts))
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
        answers = await asyncio.gather(*(self._call("audio_encoder", AUDIO=sound[None]) for sound in sounds.values()))
        return {
            i: np.concatenate([answer["EMBEDDING"][0], answer["MFCC"][0]])
            for i, answer in zip(sounds, answers, strict=True)
        }

    async def _speech(self, spoken):
        """{row: float32 [samples]} to {row: vector of what is said}, {row: what is said}."""
        answers = await asyncio.gather(*(self._call("speech_recognizer", AUDIO=s[None]) for s in spoken.values()))
        said = {i: bytes(answer["TEXT"][0, 0]).strip() for i, answer in zip(spoken, answers, strict=True)}
        said = {i: text for i, text in said.items() if text}
        return await self._texts(said), said

    async def _call(self, encoder, **inputs):
        request = pb_utils.InferenceRequest(
            model_name=self.given[encoder],
            requested_output_names=OUTPUTS[encoder],
            inputs=[pb_utils.Tensor(name, np.ascontiguousarray(value)) for name, value in inputs.items()],
        )
        try:
            answer = await request.async_exec()
        except pb_utils.TritonModelException as error:
            raise Unavailable(f"{self.given[encoder]} is not there: {error}") from error
        if answer.has_error():
            # Triton does not hand the code of an error on between models; the first word tells.
            message = answer.error().message()
            if message.startswith(serving.REFUSED):
                raise serving.Refused(f"{self.given[encoder]}: {message.removeprefix(serving.REFUSED)}")
            raise Unavailable(f"{self.given[encoder]}: {message}")
        return {name: pb_utils.get_output_tensor_by_name(answer, name).as_numpy() for name in OUTPUTS[encoder]}


OUTPUTS = {
    "text_encoder": ["EMBEDDING", "VERSION"],
    "image_encoder": ["EMBEDDING", "JOINT", "LABELS", "VERSION"],
    "audio_encoder": ["EMBEDDING", "MFCC", "VERSION"],
    "speech_recognizer": ["TEXT", "VERSION"],
}


def _version(answer):
    return answer["VERSION"].reshape(-1)[0].decode()


def _split(values, counts, n, name):
    """The items' stretches of a tensor that holds them one after the other."""
    if len(counts) != n or (n and counts.min() < 0) or counts.sum() != len(values):
        raise serving.Refused(f"{name} does not divide the {len(values)} rows that came among {n} items")
    return np.split(values, np.cumsum(counts)[:-1]) if n else []


def _unit(vector):
    return (vector / max(float(np.linalg.norm(vector)), 1e-12)).astype(np.float32)
