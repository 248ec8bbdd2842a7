"""A child that hangs, dies or takes too much costs one file; nothing of ours gets into it, and it never stays behind."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from media_files import film_file, image_file, picture, sound_file
from support import eventually
from upwell.media.errors import MediaRejected, MediaUnavailable
from upwell.media.sandbox import Sandbox
from upwell.media.wire import Answer, Job, Limits, Part

IMAGE = Job("image", side=16)


@functools.cache
def slow_file() -> bytes:
    """A picture below all limits that takes seconds."""
    return image_file("WEBP", Image.effect_noise((3_000, 3_000), 80).convert("RGB"), lossless=True, method=0, quality=0)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def peak_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def test_arrays_of_every_kind_come_back(sandbox: Sandbox) -> None:
    pixels = sandbox.decode(image_file(), IMAGE).arrays["image"]
    assert pixels.shape == (16, 16, 3)
    pixels[0] = 1  # the caller's own memory
    assert sandbox.decode(image_file(), Job("thumbnail", side=48)).arrays["image"].shape == (32, 48, 3)
    decoded = sandbox.decode(sound_file("OGG"), Job("audio", rates=(44_100, 16_000), denoise=True))
    assert decoded.arrays["sound_16000"].dtype == np.float32
    assert decoded.notes == {"level": "loudness"}
    film = sandbox.decode(film_file("webm"), Job("video", side=16, rates=(16_000,)))
    assert film.arrays["images"].shape[1:] == (16, 16, 3)


def test_the_child_is_started_once(sandbox: Sandbox) -> None:
    sandbox.decode(image_file(), IMAGE)
    pid = sandbox.pid
    for data in (b"", b"junk", image_file("PNG")[:100]):
        with pytest.raises(MediaRejected):
            sandbox.decode(data, IMAGE)
    sandbox.decode(image_file(), IMAGE)
    assert sandbox.pid == pid


def test_it_holds_two_pipes_and_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPWELL_POSTGRES__DSN", "postgresql://u:secret@h/d")
    sandbox = Sandbox()
    try:
        sandbox.decode(image_file(), IMAGE)
        links = {fd: os.readlink(f"/proc/{sandbox.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{sandbox.pid}/fd")}
        assert set(links) == {"0", "1", "2"}
        assert links["2"] == "/dev/null"
        assert b"secret" not in Path(f"/proc/{sandbox.pid}/environ").read_bytes()
        limits = Path(f"/proc/{sandbox.pid}/limits").read_text()
        assert [line.split()[3:5] for line in limits.splitlines() if line.startswith("Max open files")] == [["3", "3"]]
    finally:
        sandbox.close()


def test_a_file_that_takes_too_long_is_rejected_and_the_child_replaced() -> None:
    slow = slow_file()
    sandbox = Sandbox(Limits(timeout_s=0.05))
    try:
        with pytest.raises(MediaRejected, match=r"longer than 0\.05 s"):
            sandbox.decode(slow, IMAGE)
        assert sandbox.pid is None
        sandbox.limits = Limits()
        assert sandbox.decode(image_file(), IMAGE).arrays["image"].shape == (16, 16, 3)
    finally:
        sandbox.close()


def test_a_file_that_takes_too_much_memory_is_rejected() -> None:
    sandbox = Sandbox(Limits(memory_mb=768))
    large = image_file("PNG", Image.new("RGB", (14_000, 14_000)))
    try:
        with pytest.raises(MediaRejected, match="memory"):
            sandbox.decode(large, Job("image", max_pixels=10**9))
        assert sandbox.decode(image_file(), IMAGE).arrays["image"].shape == (16, 16, 3)
        assert sandbox.pid
        assert peak_mb(sandbox.pid) < 768
    finally:
        sandbox.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGSTOP, signal.SIGXCPU])
def test_a_child_that_dies_or_stands_still_during_a_job(number: signal.Signals) -> None:
    sandbox = Sandbox(Limits(timeout_s=5))
    try:
        sandbox.decode(slow_file(), IMAGE)
        # It is struck from outside while it has a job: whichever way it ends, the job is answered.
        blow = f"import os, signal, time\ntime.sleep(0.2)\nos.kill({sandbox.pid}, {int(number)})"
        with subprocess.Popen([sys.executable, "-c", blow]), pytest.raises(MediaRejected, match=r"longer|ended|CPU"):  # noqa: PT012
            for _ in range(100):
                sandbox.decode(slow_file(), IMAGE)
        assert sandbox.decode(image_file(), IMAGE).arrays["image"].shape == (16, 16, 3)
    finally:
        sandbox.close()


def test_a_child_killed_between_jobs_costs_nothing(sandbox: Sandbox) -> None:
    sandbox.decode(image_file(), IMAGE)
    pid = sandbox.pid
    assert pid
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not is_running(pid), 10)
    assert sandbox.decode(image_file(), IMAGE).arrays["image"].shape == (16, 16, 3)
    assert sandbox.pid != pid


@pytest.mark.parametrize("busy", [False, True])
def test_it_ends_with_its_parent(busy: bool) -> None:
    code = (
        "import io, sys\nfrom PIL import Image\nfrom upwell.media.sandbox import Sandbox\n"
        "from upwell.media.wire import Job, Limits\n"
        "data = io.BytesIO()\nImage.effect_noise((6000, 6000), 50).save(data, 'TIFF', compression='tiff_lzw')\n"
        "sandbox = Sandbox(Limits(timeout_s=60, cpu_s=60))\n"
        "sandbox.decode(data.getvalue(), Job('image'))\nprint(sandbox.pid, flush=True)\n"
        f"while {busy}:\n    sandbox.decode(data.getvalue(), Job('image'))\n"
        "sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        assert is_running(child)
        parent.kill()
    eventually(lambda: not is_running(child), 10)


def test_too_little_memory_to_start_is_infrastructure() -> None:
    sandbox = Sandbox(Limits(memory_mb=100))
    with pytest.raises(MediaUnavailable, match="does not start"):
        sandbox.decode(image_file(), IMAGE)
    sandbox.close()


def test_a_closed_sandbox_says_so() -> None:
    sandbox = Sandbox()
    sandbox.decode(image_file(), IMAGE)
    pid = sandbox.pid
    assert pid
    sandbox.close()
    assert not is_running(pid)
    with pytest.raises(MediaUnavailable, match="closed"):
        sandbox.decode(image_file(), IMAGE)


@pytest.mark.parametrize(
    "lie",
    [
        b"\xff\xff\xff\xff",
        b"\x05\0\0\0not j",
        None,
        Answer(parts=(Part("image", "u1", (10**6, 10**6)),)),
        Answer(parts=(Part("image", "u1", (-5, -5)),)),
        Answer(parts=(Part("image", "f4", (16, 16, 3)),)),
    ],
)
def test_a_child_that_was_taken_over_gets_nothing_by_lying(lie: bytes | Answer | None, tmp_path: Path) -> None:
    # A child that greets as a real one, and answers the first job with whatever it likes.
    from upwell.media.wire import frame

    says = frame(Answer()) + (b"" if lie is None else lie if isinstance(lie, bytes) else frame(lie))
    liar = tmp_path / "liar"
    liar.write_text(
        f"#!{sys.executable}\nimport sys, time\nsys.stdout.buffer.write({says!r})\nsys.stdout.flush()\n"
        f"{'sys.stdout.close(); import os; os.close(1)' if lie is None else ''}\ntime.sleep(60)\n"
    )
    liar.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", str(liar))
        sandbox = Sandbox(Limits(timeout_s=2))
        with pytest.raises(MediaRejected, match=r"makes no sense|ended|longer"):
            sandbox.decode(image_file(image=picture(8, 8)), IMAGE)
        sandbox.close()
