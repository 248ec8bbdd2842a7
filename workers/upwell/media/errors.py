"""What became of a piece of media that could not be used."""

from __future__ import annotations


class MediaError(Exception):
    """A piece of media could not be used."""


class MediaRejected(MediaError):
    """The media are bad, or not allowed: the same again fails the same way."""


class MediaUnavailable(MediaError):
    """Where the media lie, or what decodes them, does not answer: infrastructure. Retry."""
