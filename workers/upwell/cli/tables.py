"""Tables of figures, printed so that no figure is cut or broken into two lines."""

from __future__ import annotations

from typing import Final

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

WIDEST: Final = 1_000


def whole(table: Table) -> None:
    """Print a table at the width that its cells need, also where the terminal is narrower."""
    for column in table.columns:
        column.no_wrap = True
    console = Console(highlight=False, soft_wrap=True)
    needed = Measurement.get(console, console.options.update(max_width=WIDEST), table).maximum
    Console(highlight=False, soft_wrap=True, width=max(console.width, needed)).print(table)
