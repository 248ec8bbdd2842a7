"""Items' media become what the encoders read; a bad piece costs its item and no other."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from media_files import film_file, image_file, picture, sound_file, tone
from upwell.events.contracts import Media
from upwell.media.errors import MediaRejected, MediaUnavailable
from upwell.media.prepare import Prepared, Preparer
from upwell.settings import MediaSettings


@pytest.fixture(scope="module")
def preparer() -> Iterator[Preparer]:
    made = Preparer(MediaSettings(in_flight=3))
    yield made
    made.close()


def colour(name: str) -> Media:
    return Media("image", data=image_file("PNG", Image.new("RGB", (30, 20), name)))


LOW, HIGH = tone(1.0, hertz=300), tone(1.0, hertz=1_200)


def pitch(track: np.ndarray | None, rate: int) -> float:
    assert track is not None
    assert track.dtype == np.float32
    spectrum = np.abs(np.fft.rfft(track * np.hanning(track.size)))
    return float(spectrum.argmax() * rate / track.size)


def test_an_item_without_media_has_none(preparer: Preparer) -> None:
    prepared = preparer.prepare([])
    assert prepared.images.shape == (0, 224, 224, 3)
    assert (prepared.sound, prepared.speech, prepared.unread) == (None, None, 0)


def test_the_first_four_pictures_in_their_order(preparer: Preparer) -> None:
    names = ["red", "lime", "blue", "white", "black"]
    prepared = preparer.prepare([colour(name) for name in names])
    assert prepared.images.shape == (4, 224, 224, 3)
    assert prepared.images.dtype == np.uint8
    assert [tuple(image[5, 5]) for image in prepared.images] == [
        (255, 0, 0),
        (0, 255, 0),
        (0, 0, 255),
        (255, 255, 255),
    ]
    assert prepared.unread == 1


def test_sound_and_speech(preparer: Preparer) -> None:
    audio, speech = Media("audio", data=sound_file("OGG", LOW)), Media("speech", data=sound_file("WAV", HIGH))
    both = preparer.prepare([speech, audio])
    assert pitch(both.sound, 44_100) == pytest.approx(300, abs=3)
    assert pitch(both.speech, 16_000) == pytest.approx(1_200, abs=3)
    assert both.levelled == "loudness"
    one = preparer.prepare([audio])
    assert pitch(one.sound, 44_100) == pytest.approx(300, abs=3)
    assert pitch(one.speech, 16_000) == pytest.approx(300, abs=3)


def test_a_film_gives_pictures_and_sound_where_there_are_no_others(preparer: Preparer) -> None:
    film = Media("video", data=film_file("mp4"))
    alone = preparer.prepare([film])
    assert 4 <= len(alone.images) <= 8
    assert pitch(alone.sound, 44_100) == pytest.approx(440, abs=3)
    beside = preparer.prepare([film, colour("red"), Media("audio", data=sound_file("FLAC", LOW))])
    assert len(beside.images) == 1
    assert pitch(beside.sound, 44_100) == pytest.approx(300, abs=3)
    silent = preparer.prepare([film, Media("audio", data=sound_file("WAV", np.zeros(44_100, np.float32)))])
    assert pitch(silent.sound, 44_100) == pytest.approx(440, abs=3)


def test_a_silent_sound_is_none(preparer: Preparer) -> None:
    prepared = preparer.prepare([Media("audio", data=sound_file("WAV", np.zeros(44_100, np.float32)))])
    assert (prepared.sound, prepared.speech, prepared.levelled) == (None, None, "")


def test_a_bad_piece_is_named(preparer: Preparer) -> None:
    with pytest.raises(MediaRejected, match=r"^media\[1\] \(image\): not a picture"):
        preparer.prepare([colour("red"), Media("image", data=b"junk")])
    with pytest.raises(MediaRejected, match=r"^media\[0\]: no kind is called 'smell'"):
        preparer.prepare([Media("smell", data=b"junk")])
    with pytest.raises(MediaRejected, match=r"^media\[0\] \(audio\): neither a sound nor a film"):
        preparer.prepare([Media("audio", data=image_file(), mime="audio/wav")])


def test_what_the_sender_calls_it_counts_for_nothing(preparer: Preparer) -> None:
    assert len(preparer.prepare([Media("image", data=image_file("WEBP"), mime="application/pdf")]).images) == 1


def test_many_items_in_order_and_not_far_ahead(preparer: Preparer) -> None:
    taken = []

    def items() -> Iterator[list[Media]]:
        for number in range(12):
            taken.append(number)
            yield [Media("image", data=b"junk")] if number % 3 == 1 else [colour(f"rgb({number},0,0)")]

    outcomes = preparer.prepare_many(items())
    first = next(outcomes)
    assert len(taken) <= 3
    for number, outcome in enumerate([first, *outcomes]):
        if number % 3 == 1:
            assert isinstance(outcome, MediaRejected)
        else:
            assert isinstance(outcome, Prepared)
            assert outcome.images[0, 0, 0, 0] == number


def test_a_batch_may_be_left(preparer: Preparer) -> None:
    outcomes = preparer.prepare_many([[colour("red")]] * 10)
    assert isinstance(next(outcomes), Prepared)
    outcomes.close()  # type: ignore[attr-defined]
    assert preparer.prepare([colour("red")])


def test_an_item_has_a_deadline() -> None:
    preparer = Preparer(MediaSettings(item_timeout_s=0.001))
    try:
        with pytest.raises(MediaUnavailable, match=r"media\.item_timeout_s = 0\.001|busy"):
            preparer.prepare([colour("red"), colour("red")])
    finally:
        preparer.close()


def test_a_thumbnail_for_a_poster(preparer: Preparer) -> None:
    media = Media("image", data=image_file("JPEG", picture(300, 100)))
    assert preparer.thumbnail(media, 150).shape == (50, 150, 3)
    assert preparer.thumbnail(media, 10**6).shape == (100, 300, 3)
