"""Films give a few key frames from their whole length, and their sound."""

from __future__ import annotations

import io
import struct

import av
import numpy as np
import pytest

from media_files import film_file, picture, sound_file
from upwell.media import video
from upwell.media.errors import MediaRejected
from upwell.media.wire import Job

JOB = Job("video", side=32, rates=(44_100, 16_000), seconds=30.0)


@pytest.mark.parametrize("kind", ["mp4", "webm"])
def test_frames_lie_evenly_over_the_film(kind: str) -> None:
    arrays, notes = video.film(film_file(kind), JOB)
    images = arrays["images"]
    assert images.dtype == np.uint8
    assert images.shape[1:] == (32, 32, 3)
    assert 4 <= len(images) <= 8
    grey = images.mean(axis=(1, 2, 3))
    assert (np.diff(grey) > 10).all()
    assert grey[0] < 40
    assert grey[-1] > 180
    assert arrays["sound_44100"].size == pytest.approx(4 * 44_100, rel=0.05)
    assert notes["level"] == "loudness"


def test_no_more_frames_than_asked() -> None:
    arrays, _ = video.film(film_file("mp4"), Job("video", side=32, frames=3, rates=(16_000,)))
    grey = arrays["images"].mean(axis=(1, 2, 3))
    assert len(grey) == 3
    assert grey[0] < 70
    assert grey[2] > 150


def test_a_film_without_sound_is_a_film() -> None:
    arrays, notes = video.film(film_file("mp4", sound=False), JOB)
    assert set(arrays) == {"images"}
    assert notes == {"silent": "there is no sound track in it"}


def test_a_sound_is_no_film() -> None:
    with pytest.raises(MediaRejected, match="no pictures"):
        video.film(sound_file("OGG"), JOB)


def test_a_turned_telephone_is_turned_back() -> None:
    into = io.BytesIO()
    with av.open(into, "w", format="mp4") as file:
        stream = file.add_stream("mpeg4", rate=5)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        shown = np.asarray(picture(64, 64))
        file.mux(stream.encode(av.VideoFrame.from_ndarray(shown, format="rgb24")))
        file.mux(stream.encode(None))
    # The track's matrix (ISO 14496-12, tkhd; the film's own comes first), from none to a quarter turn clockwise.
    none = struct.pack(">9i", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
    quarter = struct.pack(">9i", 0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000)
    before, film, track = into.getvalue().rpartition(none)
    job = Job("video", side=64)
    straight = video.key_frames(before + film + track, job)[0].astype(int)
    turned = video.key_frames(before + quarter + track, job)[0].astype(int)
    assert np.abs(np.rot90(straight, -1) - turned).max() <= 2
    assert np.abs(straight - turned).mean() > 20


def test_frames_larger_than_allowed_are_not_decoded() -> None:
    with pytest.raises(MediaRejected, match=r"64 x 64 pixels are more than media\.max_pixels = 4000"):
        video.film(film_file("mp4"), Job("video", side=32, max_pixels=4_000))


def test_a_kind_of_picture_that_is_not_listed_is_not_read() -> None:
    into = io.BytesIO()
    with av.open(into, "w", format="avi") as file:
        stream = file.add_stream("ffv1", rate=5)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        file.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        file.mux(stream.encode(None))
    with pytest.raises(MediaRejected, match="of a kind that is not read here: ffv1"):
        video.film(into.getvalue(), JOB)
