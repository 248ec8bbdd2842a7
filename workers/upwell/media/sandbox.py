"""A hostile file and what to make of it in; arrays of bounded size, or a reason, out.

Decoders are C code that reads whatever strangers upload. They run in one long-lived child process, which is killed and
replaced when it takes too long, too much, or dies; the file is then rejected and nothing else is lost. Thread-safe.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from upwell.media.errors import MediaRejected, MediaUnavailable
from upwell.media.wire import LENGTH, MAX_HEADER, Answer, Array, Job, Limits, frame, unpack
from upwell.telemetry import metrics

START_TIMEOUT_S: Final = 60.0
INHERITED: Final = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "TZ")
"""All that the child gets of the environment: it has no use for passwords."""
GRACE_S: Final = 1.0
CHUNK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Decoded:
    """`arrays` by name; `notes` says what was done to them."""

    arrays: Mapping[str, Array]
    notes: Mapping[str, str]


class _Gone(Exception):
    """The child has closed its end."""


class _Late(Exception):
    """The deadline is over."""


class Sandbox:
    """One decoding process, started at the first job."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """Of the child; None before the first job and after one that ended it."""
        return self._child.pid if self._child else None

    def decode(self, data: bytes, job: Job) -> Decoded:
        """Decode one file: an `image` uint8 [side, side, 3]; `images` uint8 [k, side, side, 3] of a video; `sound_<rate>`
        float32 [n]. All RGB, mono.

        Raises:
            MediaRejected: the file is broken, refused, or took more time or memory than it may.
            MediaUnavailable: no child can be started, or the sandbox is closed.
        """
        with self._lock:
            child = self._ready()
            deadline = time.monotonic() + self.limits.timeout_s
            try:
                self._send(child, frame(msgspec.structs.replace(job, size=len(data))), deadline)
                self._send(child, data, deadline)
                answer, payload = self._receive(child, deadline, job.most_bytes())
                arrays = unpack(answer, payload)
            except _Late:
                self._end()
                raise MediaRejected(f"decoding takes longer than {self.limits.timeout_s:g} s") from None
            except _Gone:
                raise MediaRejected(self._death()) from None
            except ValueError as error:  # msgspec's errors are such
                self._end()
                raise MediaRejected(f"decoding it ended in an answer that makes no sense: {error}") from None
            if answer.spent:
                self._end()
        if answer.refused:
            raise MediaRejected(answer.refused)
        return Decoded(arrays, answer.notes)

    def close(self) -> None:
        """Ends the child; a running job is waited for."""
        with self._lock:
            self._closed = True
            self._end()

    def _ready(self) -> subprocess.Popen[bytes]:
        if self._closed:
            raise MediaUnavailable("the sandbox is closed")
        if self._child and self._child.poll() is not None:
            self._end()  # somebody else killed it between two jobs
        if self._child is None:
            self._child = self._start()
        return self._child

    def _start(self) -> subprocess.Popen[bytes]:
        environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
        # One thread each: threads cost address space, and one job is one core's work.
        environment |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
        limits = msgspec.json.encode(self.limits).decode()
        child = subprocess.Popen(
            [sys.executable, "-m", "upwell.media.child", limits],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # decoders talk a lot about broken files
            env=environment,
            bufsize=0,
            close_fds=True,
            start_new_session=True,  # Ctrl-C is for the parent
        )
        for pipe in (child.stdin, child.stdout):
            if pipe:
                os.set_blocking(pipe.fileno(), False)
        metrics.MEDIA_DECODERS_STARTED.inc()
        try:
            answer, _ = self._receive(child, time.monotonic() + START_TIMEOUT_S, 0)
            trouble = answer.refused
        except _Late:
            trouble = f"it is not ready after {START_TIMEOUT_S:g} s"
        except _Gone:
            trouble = f"it ended with code {child.wait()}: is media.decode_memory_mb too small?"
        except ValueError as error:
            trouble = str(error)
        if trouble:
            _kill(child)
            raise MediaUnavailable(f"the decoding process does not start: {trouble}")
        return child

    def _send(self, child: subprocess.Popen[bytes], data: bytes, deadline: float) -> None:
        if child.stdin is None:
            raise _Gone
        view = memoryview(data)
        while view:
            _wait(child.stdin.fileno(), select.POLLOUT, deadline)
            try:
                view = view[os.write(child.stdin.fileno(), view) :]
            except BrokenPipeError:
                raise _Gone from None
            except BlockingIOError:
                continue

    def _receive(self, child: subprocess.Popen[bytes], deadline: float, most: int) -> tuple[Answer, bytearray]:
        (length,) = LENGTH.unpack(_read(child, LENGTH.size, deadline))
        if length > MAX_HEADER:
            raise ValueError(f"a header of {length} bytes")
        answer = msgspec.json.decode(_read(child, length, deadline), type=Answer)
        if any(side < 0 for part in answer.parts for side in part.shape):
            raise ValueError("a negative shape")
        size = sum(part.nbytes for part in answer.parts)
        if size > most:
            raise ValueError(f"{size} bytes instead of at most {most}")
        return answer, _read(child, size, deadline)

    def _death(self) -> str:
        """Why the child ended by itself."""
        code = 0
        if self._child:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(GRACE_S)  # it has closed its end, so it is ending, unless it was taken over
            code = self._child.poll() or 0
        self._end()
        if code == -signal.SIGXCPU:
            return f"decoding takes more than {self.limits.cpu_s} s of CPU time"
        name = signal.Signals(-code).name if code < 0 else f"code {code}"
        return f"decoding it ended the decoder ({name})"

    def _end(self) -> None:
        if self._child:
            _kill(self._child)
            self._child = None


def _kill(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def _wait(descriptor: int, event: int, deadline: float) -> None:
    poll = select.poll()
    poll.register(descriptor, event)
    left = deadline - time.monotonic()
    if left <= 0 or not poll.poll(left * 1000):
        raise _Late


def _read(child: subprocess.Popen[bytes], size: int, deadline: float) -> bytearray:
    if child.stdout is None:
        raise _Gone
    into = bytearray(size)
    view = memoryview(into)
    done = 0
    while done < size:
        _wait(child.stdout.fileno(), select.POLLIN, deadline)
        try:
            got = os.readv(child.stdout.fileno(), [view[done : done + CHUNK]])
        except BlockingIOError:
            continue
        if not got:
            raise _Gone
        done += got
    return into
