"""Clips: 5 to 10 seconds, both streams, captions in the narration's time, an index at the front."""

from __future__ import annotations

import io
import itertools

import av
import numpy as np
import pytest

from upwell.content import clip as clips
from upwell.content.clip import captions, clip
from upwell.content.poster import ground, poster
from upwell.content.sound import Narration, encode

TEXT = "You liked Alien, so Orbit, a drama about space featuring Ida Falk, looks like a good match. Have a look!"


def tone(seconds: float, rate: int = 22_050) -> Narration:
    wave = np.sin(np.arange(round(seconds * rate)) * 2 * np.pi * 440 / rate)
    return Narration((wave * 20_000).astype(np.int16), rate)


@pytest.fixture(scope="module")
def pictures():
    return [np.asarray(ground(None, seed).image) for seed in (1, 2)]


@pytest.fixture(scope="module")
def last():
    return poster(None, "Orbit", TEXT, seed=1).pixels


@pytest.mark.parametrize(("spoken", "expected"), [(0.5, 5.0), (4.0, 6.25), (30.0, 10.0)])
def test_decodes_with_both_streams(pictures, last, spoken, expected):
    made = clip(pictures, last, TEXT, tone(spoken))
    assert made.mime == "video/mp4"
    assert made.seconds == pytest.approx(expected, abs=0.05)
    with av.open(io.BytesIO(made.data)) as file:
        assert file.duration / 1e6 == pytest.approx(expected, abs=0.1)
        assert [stream.codec_context.name for stream in file.streams] == ["h264", "aac"]
        frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
    assert len(frames) == round(made.seconds * 24)
    assert frames[0].shape == (720, 480, 3)
    assert np.abs(frames[0].astype(int) - frames[-1]).mean() > 3
    # It moves all the time, and never jumps: a fade is the fastest thing in it.
    steps = [np.abs(a.astype(int) - b).mean() for a, b in itertools.pairwise(frames)]
    assert max(steps) < 40
    assert made.data.find(b"moov") < made.data.find(b"mdat")


def test_the_sound_is_heard_in_its_place(pictures, last):
    made = clip(pictures, last, TEXT, tone(2.0))
    with av.open(io.BytesIO(made.data)) as file:
        rate = file.streams.audio[0].rate
        samples = np.concatenate([frame.to_ndarray()[0] for frame in file.decode(audio=0)])
    loud = np.abs(samples) > 0.2
    start = np.flatnonzero(loud)[0] / rate
    assert start == pytest.approx(clips.NARRATION_AT_S, abs=0.06)
    assert np.flatnonzero(loud)[-1] / rate == pytest.approx(clips.NARRATION_AT_S + 2.0, abs=0.06)


def test_speech_alone_is_a_file_of_its_length():
    data, mime = encode(tone(2.5))
    assert mime == "audio/mp4"
    with av.open(io.BytesIO(data)) as file:
        assert [stream.codec_context.name for stream in file.streams] == ["aac"]
        samples = np.concatenate([frame.to_ndarray()[0] for frame in file.decode(audio=0)])
        assert len(samples) / file.streams.audio[0].rate == pytest.approx(2.5, abs=0.06)
    assert np.abs(samples).max() > 0.3
    assert encode(tone(2.5))[0] == data


def test_without_pictures_and_narration_the_poster_is_shown(last):
    made = clip([], last, TEXT)
    with av.open(io.BytesIO(made.data)) as file:
        assert len(file.streams.audio) == 0
        assert 5 <= file.duration / 1e6 <= 10


def test_captions_hold_the_whole_text_in_order_and_time():
    found = captions(TEXT, 0.5, 6.5)
    assert " ".join(caption.text for caption in found) == TEXT
    assert found[0].start == 0.5
    assert found[-1].end == pytest.approx(6.5)
    assert all(a.end == b.start for a, b in itertools.pairwise(found))
    assert all(len(caption.text) <= clips.CAPTION_CHARS for caption in found)
    assert captions("", 0, 5) == []


def test_same_input_same_frames(pictures, last):
    """The frames, not the bytes: x264 compresses the same frames into others now and then."""
    first, second = ([f.tobytes() for f in clips._frames(pictures, last, 5.0, 3.0, [], ())] for _ in range(2))
    assert len(first) == 120
    assert first == second


def test_vp9_where_there_is_no_x264(pictures, last, monkeypatch):
    monkeypatch.setattr(clips, "_has", lambda codec: codec in ("libvpx-vp9", "libopus"))
    made = clip(pictures, last, TEXT, tone(1))
    assert made.mime == "video/webm"
    with av.open(io.BytesIO(made.data)) as file:
        assert [stream.codec_context.name for stream in file.streams] == ["vp9", "opus"]
        assert file.duration / 1e6 == pytest.approx(5, abs=0.1)


def test_a_picture_of_another_kind_is_refused(last):
    with pytest.raises(ValueError, match=r"uint8 \[h, w, 3\]"):
        clip([np.zeros((4, 4), dtype=np.uint8)], last, TEXT)
