"""A folder's drawings in SVG in, pictures in PNG beside them out: what reads pictures afterwards needs no renderer.

For pinned packages only. An SVG that comes with an item stays refused (docs/media.md): it is a document, not a picture.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Final

from PIL import Image

from upwell.local.assets import Progress
from upwell.local.errors import StackError

SIDE: Final = 512
"""Longest side of a rendered drawing, pixels."""
DPI: Final = 96.0
"""CSS's pixels to the inch, for drawings that are measured in millimetres or points."""


def render(folder: Path, progress: Progress) -> int:
    """Replace each SVG below `folder` by a PNG of the same name; one that has its PNG already is only removed.

    Returns:
        How many were rendered.

    Raises:
        StackError: a drawing cannot be read.
    """
    import resvg_py

    drawings = sorted(folder.rglob("*.svg"))
    wanted = [drawing for drawing in drawings if not drawing.with_suffix(".png").exists()]
    if wanted:
        progress(f"Rendering {len(wanted)} drawings")
    for drawing in wanted:
        try:
            rendered = resvg_py.svg_to_bytes(svg_path=str(drawing), dpi=DPI, skip_system_fonts=True)
        except ValueError as error:
            raise StackError(f"{drawing.name} is no drawing that can be rendered: {error}") from error
        with Image.open(io.BytesIO(rendered)) as picture:
            picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
            picture.save(drawing.with_suffix(".png"))
        drawing.with_suffix(".png").chmod(0o644)
    for drawing in drawings:
        drawing.unlink()
    return len(wanted)
