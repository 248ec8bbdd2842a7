"""The decoding process: jobs on standard input, arrays on standard output, nothing else.

It holds no file and no socket beside the two pipes and can open none, has bounded memory and CPU time, and ends with its
parent, whatever it is doing. Started by `upwell.media.sandbox`; nobody else runs it.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.machinery
import math
import os
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import numpy as np

from upwell.media.errors import MediaRejected
from upwell.media.wire import LENGTH, MAX_HEADER, Answer, Array, Job, Limits, Part, frame

MEBIBYTE: Final = 1 << 20
REASON_CHARACTERS: Final = 300
IN: Final = 0
OUT: Final = 1

Decoders = dict[str, Callable[[bytes, Job], tuple[dict[str, Array], dict[str, str]]]]


class _NoTorch:
    """noisereduce imports torch where there is one: gigabytes of address space for a function that nobody calls."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> importlib.machinery.ModuleSpec | None:  # noqa: ARG004
        if name == "torch":
            raise ModuleNotFoundError("torch is not used here", name=name)
        return None


def main(limits: Limits) -> None:
    """Take jobs until standard input ends."""
    # Before the libraries are loaded: what they start with counts as well.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory_mb * MEBIBYTE,) * 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    sys.meta_path.insert(0, _NoTorch())
    try:
        decoders = _decoders()
    except Exception as error:  # whatever it is, the parent has to hear of it
        _write(frame(Answer(refused=f"{type(error).__name__}: {error}"[:REASON_CHARACTERS], spent=True)))
        return
    # From here on no file, no socket, no library can be opened: the next free number is beyond the limit.
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
    _write(frame(Answer()))
    while (header := _read(LENGTH.size)) is not None:
        (length,) = LENGTH.unpack(header)
        job = msgspec.json.decode(_read(length) or b"", type=Job) if length <= MAX_HEADER else None
        data = _read(job.size) if job else None
        if job is None or data is None:
            return
        _bound(limits)
        answer, payload = _decode(decoders, data, job)
        _unbound()
        _write(frame(answer))
        for part in payload:
            _write(part)
        if answer.spent:
            return


def _decoders() -> Decoders:
    """The libraries, loaded and run once: some load parts of themselves at the first use, which is too late later."""
    from upwell.media import audio, image, video

    image.warm_up()
    audio.warm_up()
    video.warm_up()
    return {
        "image": lambda data, job: ({"image": image.square(data, job.side, job.max_pixels, job.denoise)}, {}),
        "thumbnail": lambda data, job: ({"image": image.thumbnail(data, job.side, job.max_pixels)}, {}),
        "audio": lambda data, job: audio.sound(data, job.rates, job.seconds, job.denoise),
        "video": video.film,
    }


def _decode(decoders: Decoders, data: bytes, job: Job) -> tuple[Answer, Sequence[memoryview]]:
    try:
        arrays, notes = decoders[job.kind](data, job)
        parts, payload = [], []
        for name, array in arrays.items():
            kept = np.ascontiguousarray(array)
            parts.append(Part(name, "u1" if kept.dtype == np.uint8 else "f4", kept.shape))
            if kept.size:
                payload.append(kept.data.cast("B"))
        return Answer(parts=tuple(parts), notes=notes), payload
    except MediaRejected as error:
        return Answer(refused=_line(str(error))), ()
    except MemoryError:
        # What else failed to get memory at that moment is not known: a fresh process is cheaper than finding out.
        return Answer(refused="decoding it takes more memory than media.decode_memory_mb", spent=True), ()
    except Exception as error:  # decoders raise what they like on broken files
        return Answer(refused=_line(f"it cannot be decoded: {type(error).__name__}: {error}")), ()


def _line(text: str) -> str:
    """What a library says of a hostile file may quote the file."""
    return "".join(c if c.isprintable() else " " for c in text)[:REASON_CHARACTERS]


def _bound(limits: Limits) -> None:
    """The kernel ends this process if the job takes too long, or if the parent goes away meanwhile."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = math.ceil(used.ru_utime + used.ru_stime + limits.cpu_s)
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, resource.RLIM_INFINITY))
    # The parent keeps the deadline; this alarm is for a child without one.
    signal.setitimer(signal.ITIMER_REAL, limits.timeout_s * 2)
    # During a job nothing comes through the pipe but its end, and that is signalled.
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(IN, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(IN, fcntl.F_SETFL, fcntl.fcntl(IN, fcntl.F_GETFL) | os.O_ASYNC)


def _unbound() -> None:
    fcntl.fcntl(IN, fcntl.F_SETFL, fcntl.fcntl(IN, fcntl.F_GETFL) & ~os.O_ASYNC)
    signal.setitimer(signal.ITIMER_REAL, 0)


def _read(size: int) -> bytes | None:
    """Exactly `size` bytes, or None where the parent has closed the pipe."""
    into = bytearray(size)
    view = memoryview(into)
    done = 0
    while done < size:
        got = os.readv(IN, [view[done:]])
        if not got:
            return None
        done += got
    return bytes(into)


def _write(data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(OUT, view) :]


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        main(msgspec.json.decode(sys.argv[1], type=Limits))
