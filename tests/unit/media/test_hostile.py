"""Hundreds of broken and hostile files: each is answered with arrays or a reason, within bounds, and nothing falls over.

The files are made from real ones, the same ones each time.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from media_files import film_file, image_file, png_of, seeds, sound_file, tone, wav_of
from upwell.events.contracts import Media
from upwell.media.errors import MediaRejected
from upwell.media.prepare import Prepared, Preparer
from upwell.settings import MediaSettings

VARIANTS = 30
MEMORY_MB = 1_024
CLAIMS = (0, 1, 0x7F, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)
GOOD = [Media("image", data=image_file()), Media("audio", data=sound_file("OGG"))]


@pytest.fixture(scope="module")
def preparer() -> Iterator[Preparer]:
    made = Preparer(MediaSettings(decode_memory_mb=MEMORY_MB, decode_timeout_s=20, decode_cpu_s=10, max_seconds=5))
    yield made
    made.close()


def fuzzed(data: bytes, rng: np.random.Generator) -> bytes:
    """One file, broken in one of nine ways."""
    raw = bytearray(data)
    size = len(raw)
    at = int(rng.integers(size))
    length = int(rng.integers(1, max(2, size // 4)))
    way = int(rng.integers(9))
    if way == 0:
        return bytes(raw[:at])
    if way == 1:  # single bits
        for place in rng.integers(size, size=int(rng.integers(1, 20))):
            raw[place] ^= 1 << int(rng.integers(8))
    elif way == 2:  # a stretch of noise
        raw[at : at + length] = rng.bytes(min(length, size - at))
    elif way == 3:
        del raw[at : at + length]
    elif way == 4:
        raw[at:at] = raw[max(0, at - length) : at]
    elif way == 5:
        raw[at:at] = rng.bytes(length)
    elif way == 6:  # a number that claims much, or nothing, where the headers are
        at = int(rng.integers(min(size, 400)))
        order = "<" if rng.random() < 0.5 else ">"
        raw[at : at + 4] = struct.pack(f"{order}I", CLAIMS[int(rng.integers(len(CLAIMS)))])
    elif way == 7:
        raw[at : at + length] = bytes(min(length, size - at))
    else:  # headers stay, all else is noise
        head = min(size, 64)
        raw[head:] = rng.bytes(size - head)
    return bytes(raw)


def fuzzed_files() -> list[Media]:
    rng = np.random.default_rng(20_241_124)
    return [Media(kind, data=fuzzed(data, rng)) for kind, data in seeds().values() for _ in range(VARIANTS)]


def box(name: bytes, body: bytes, claimed: int | None = None) -> bytes:
    return struct.pack(">I", len(body) + 8 if claimed is None else claimed) + name + body


def ogg_without_end() -> bytes:
    """A good beginning, then the same page again and again."""
    data = sound_file("OGG", tone(0.3))
    last = data.rindex(b"OggS")
    return data + data[last:] * 2_000


def handmade() -> dict[str, Media]:
    rows = zlib.compress(bytes(50_000 * 3 + 1) * 100, 1)
    png, jpeg, wav = image_file("PNG"), image_file("JPEG"), sound_file("WAV")
    body = (tone(1.0) * 32_767).astype("<i2").tobytes()
    text_bomb = zlib.compress(bytes(100 << 20), 1)
    chunk = b"zTXt" + b"a\0\0" + text_bomb
    with_text = png[:33] + struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + png[33:]
    tiff = bytearray(image_file("TIFF"))
    gif = bytearray(image_file("GIF"))
    gif[6:10] = b"\xff\xff\xff\xff"
    bmp = bytearray(image_file("BMP"))
    bmp[18:26] = struct.pack("<ii", 0x7FFFFFFF, 0x7FFFFFFF)
    loop = bytearray(tiff)
    loop[-4:] = struct.pack("<I", 8)
    files = {
        "bomb in a header": png_of(50_000, 50_000, rows),
        "bomb below the limit of pixels": png_of(7_000, 7_000, zlib.compress(bytes(7_000 * 3 + 1) * 7_000, 1)),
        "bomb of a wide line": png_of(40_000_000, 1, zlib.compress(bytes(120_000_001), 1)),
        "bomb within a bomb": png_of(60, 60, zlib.compress(zlib.compress(bytes(100 << 20), 1), 9)),
        "bomb of text": with_text,
        "more pixels than promised": png_of(4, 4, zlib.compress(bytes(100 << 20), 1)),
        "fewer pixels than promised": png_of(4_000, 4_000, zlib.compress(b"")),
        "large canvas": bytes(gif),
        "large bitmap": bytes(bmp),
        "negative bitmap": bytes(bmp[:18]) + struct.pack("<ii", -5, -5) + bytes(bmp[26:]),
        "many frames": image_file(
            "GIF", save_all=True, append_images=[Image.new("RGB", (96, 64), (n, n, n)) for n in range(200)]
        ),
        "directory that leads to itself": bytes(loop),
        "progressive": image_file("JPEG", Image.new("RGB", (5_000, 5_000)), progressive=True),
        "slow": image_file("WEBP", Image.effect_noise((1_500, 1_500), 90).convert("RGB"), lossless=True, method=0),
        "zero bytes": b"",
        "one byte": b"\x89",
        "only zeros": bytes(100_000),
        "polyglot page": b"<html><script>alert(1)</script>" + png,
        "polyglot archive": jpeg + b"PK\x03\x04" + bytes(500),
        "polyglot sound": wav[:44] + png,
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) run\n",
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "entities": b'<?xml version="1.0"?><!DOCTYPE s [<!ENTITY a "&b;&b;">]><svg>&a;</svg>',
    }
    sounds = {
        "4 GB": wav_of(0xFFFFFFFF, body),
        "4 GB without any": wav_of(0xFFFFFFFF, b""),
        "hours": wav_of(0x7FFFFFFE, body * 150),
        "without end": ogg_without_end(),
        "no rate": wav_of(len(body), body, rate=0),
        "high rate": wav_of(len(body), body, rate=0xFFFFFFFF),
        "no channels": wav_of(len(body), body, channels=0),
        "many channels": wav_of(len(body), body, channels=30_000),
        "playlist": b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
        "concat": b"ffconcat version 1.0\nfile /etc/passwd\n",
        "session": b"v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=audio 9 RTP/AVP 0\n",
        "tags without end": b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + bytes(500_000),
        "tag that claims": b"ID3\x04\0\x10\x7f\x7f\x7f\x7f" + sound_file("MP3"),
        "frames of nothing": b"\xff\xfb\x90\x00" * 200_000,
        "picture": png,
        "flac that claims": b"fLaC\x80\xff\xff\xff" + bytes(1_000),
    }
    films = {
        "atom of 4 GB": box(b"ftyp", b"isom\0\0\0\0", None) + box(b"moov", bytes(100), 0xFFFFFFFF),
        "atom of 16 EB": box(b"ftyp", b"isom\0\0\0\0") + struct.pack(">I", 1) + b"moov" + b"\xff" * 8 + bytes(100),
        "atoms in atoms": box(b"ftyp", b"isom\0\0\0\0") + nested(b"moov", 5_000),
        "element that claims": b"\x1aE\xdf\xa3\x01\xff\xff\xff\xff\xff\xff\xff" + bytes(1_000),
        "elements without end": film_file("webm", 2)[:300] + b"\x1f\x43\xb6\x75\xff" * 50_000,
        "sound as a film": sound_file("OGG"),
        "list of nothing": b"RIFF\xff\xff\xff\xffAVI LIST\xff\xff\xff\xffhdrl" + bytes(10_000),
        "half of it": film_file("mp4", 2)[: len(film_file("mp4", 2)) // 2],
    }
    made = {f"image: {name}": Media("image", data=data, mime="image/png") for name, data in files.items()}
    made |= {f"audio: {name}": Media("audio", data=data, mime="image/png") for name, data in sounds.items()}
    return made | {f"video: {name}": Media("video", data=data) for name, data in films.items()}


def nested(name: bytes, depth: int) -> bytes:
    data = b""
    for _ in range(depth):
        data = box(name, data)
    return data


def peak_mb(preparer: Preparer) -> float:
    pid = preparer._sandboxes[0].pid
    if pid is None:
        return 0.0
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def check(preparer: Preparer, files: list[Media]) -> list[Prepared | str]:
    """Each is answered, with what fits or with a reason; and the decoder's memory stays within its bound."""
    answers: list[Prepared | str] = []
    for outcome in preparer.prepare_many([file] for file in files):
        if isinstance(outcome, Prepared):
            assert outcome.images.shape[1:] == (224, 224, 3)
            assert len(outcome.images) <= 8
            for sound, rate in ((outcome.sound, 44_100), (outcome.speech, 16_000)):
                if sound is not None:
                    assert sound.size <= 5 * rate + 100
                    assert np.isfinite(sound).all()
            answers.append(outcome)
        else:
            assert isinstance(outcome, MediaRejected), outcome
            reason = str(outcome)
            assert reason.startswith("media[0]")
            assert reason.isprintable()
            assert len(reason) < 400
            answers.append(reason)
        assert peak_mb(preparer) < MEMORY_MB
    assert len(answers) == len(files)
    return answers


def test_the_seeds_are_good(preparer: Preparer) -> None:
    answers = check(preparer, [Media(kind, data=data) for kind, data in seeds().values()])
    assert all(isinstance(answer, Prepared) for answer in answers), answers


def test_three_hundred_broken_files(preparer: Preparer) -> None:
    files = fuzzed_files()
    assert len(files) >= 300
    answers = check(preparer, files)
    refused = [answer for answer in answers if isinstance(answer, str)]
    assert len(refused) > 50
    assert len(refused) < len(files)
    assert isinstance(preparer.prepare(GOOD), Prepared)


def test_broken_files_under_another_kind(preparer: Preparer) -> None:
    kinds = ("image", "audio", "video")
    rng = np.random.default_rng(7)
    files = [
        Media(other, data=fuzzed(data, rng)) for kind, data in seeds().values() for other in kinds if other != kind
    ]
    check(preparer, files)
    assert isinstance(preparer.prepare(GOOD), Prepared)


EXPECTED = {
    "image: bomb in a header": "more than media.max_pixels",
    "image: large bitmap": "more than media.max_pixels",
    "image: large canvas": "more than media.max_pixels",
    "image: zero bytes": "empty",
    "image: svg": "SVG",
    "image: entities": "SVG",
    "image: postscript": "known format",
    "audio: playlist": "neither a sound nor a film",
    "audio: concat": "neither a sound nor a film",
    "audio: session": "neither a sound nor a film",
    "audio: picture": "neither a sound nor a film",
    "video: sound as a film": "no pictures",
}
GOOD_AFTER_ALL = ("audio: 4 GB", "audio: hours", "audio: without end", "image: progressive", "image: many frames")


def test_handmade(preparer: Preparer) -> None:
    files = handmade()
    answers = dict(zip(files, check(preparer, list(files.values())), strict=True))
    for name, expected in EXPECTED.items():
        assert expected in str(answers[name]), name
    for name in GOOD_AFTER_ALL:
        assert isinstance(answers[name], Prepared), (name, answers[name])
    assert isinstance(preparer.prepare(GOOD), Prepared)


def test_films_open_nothing_beside_themselves(preparer: Preparer, tmp_path: Path) -> None:
    """A film may say that its tracks lie in another file; that file is not read."""
    into = io.BytesIO(film_file("mp4", 2))
    data = into.getvalue()
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(data)
    # The data reference of each track: `url ` with the flag "in this file"; without it, and with an address.
    pointing = data.replace(b"url \0\0\0\x01", b"url \0\0\0\0")
    assert pointing != data
    check(preparer, [Media("video", data=pointing)])
    playlist = f"#EXTM3U\n#EXTINF:1,\n{secret}\n#EXT-X-ENDLIST\n".encode()
    (answer,) = check(preparer, [Media("video", data=playlist)])
    assert isinstance(answer, str)


def test_a_slow_file_is_cut_off() -> None:
    preparer = Preparer(MediaSettings(decode_cpu_s=1))
    try:
        (answer,) = check(preparer, [Media("image", data=jpeg_of_many_scans())])
        assert "more than 1 s of CPU time" in str(answer)
        assert isinstance(preparer.prepare(GOOD), Prepared)
    finally:
        preparer.close()


def jpeg_of_many_scans() -> bytes:
    """A progressive JPEG that refines its last bit a thousand times: small, within all limits, and minutes of work."""
    data = image_file("JPEG", Image.new("RGB", (6_000, 6_000), "red"), progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * 1_000 + data[-2:]
