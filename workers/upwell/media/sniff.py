"""What a file is, by its first bytes; what its sender calls it counts for nothing.

The names are those of FFmpeg's demuxers. A demuxer is never chosen by FFmpeg itself: among those that it knows are
playlists, which make it open further files and addresses.
"""

from __future__ import annotations

from typing import Final

from upwell.media.errors import MediaRejected

HEAD: Final = 64
_MARKS: Final = ((b"OggS", "ogg"), (b"fLaC", "flac"), (b"\x1aE\xdf\xa3", "matroska"), (b"ID3", "mp3"))


def container(data: bytes) -> str:
    """The demuxer of a sound or film: wav, avi, ogg, flac, matroska (WebM too), mov (MP4 too), mp3 or aac.

    Raises:
        MediaRejected: it is none of these.
    """
    head = bytes(data[:HEAD])
    if head[:4] == b"RIFF" and head[8:12] in {b"WAVE", b"AVI "}:
        return "wav" if head[8:12] == b"WAVE" else "avi"
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    if head[4:8] == b"ftyp":
        return "mov"
    if len(head) >= 2 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        # MPEG audio frames begin with 11 set bits; in AAC's ADTS the two bits of the layer are 0.
        return "mp3" if head[1] & 0x06 else "aac"
    raise MediaRejected(
        f"neither a sound nor a film that can be read here; it begins with {head[:8].hex(' ') or 'nothing'}"
    )


def is_vector_graphic(data: bytes) -> bool:
    """Whether it looks like SVG, which is a program for a renderer, not a picture."""
    head = bytes(data[:1024]).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return head.startswith((b"<svg", b"<?xml", b"<!doctype svg")) and b"<svg" in bytes(data[:65_536]).lower()
