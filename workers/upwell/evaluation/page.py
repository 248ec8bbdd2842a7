"""A template of this room and what it shows in, one HTML file out. All reports have the look of `page.html`.

The file holds all that it shows: it can be mailed, and loads nothing. What it shows comes from catalogues and models, so
everything is escaped.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup


def write(template: str, path: Path, command: str, **shown: Any) -> None:
    """Write a report.

    Args:
        template: of this room; it extends `page.html`, and finds macros in `parts.html`.
        path: of the HTML file; its folder is made.
        command: that writes it, for the reader.
        shown: what the template names; `notes` stand at the end of the page.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("upwell.evaluation", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda value: f"{value:.0%}"
    environment.filters["our_svg"] = Markup  # `drawing.svg` wrote it
    page = environment.get_template(template)
    written = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page.render(written=written, command=command, **shown), "utf-8")
