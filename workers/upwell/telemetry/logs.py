"""Structured logs on standard error: JSON for machines, coloured lines for people."""

from __future__ import annotations

import logging
import sys

import structlog

from upwell.settings import Telemetry


def configure(telemetry: Telemetry, **context: object) -> None:
    """Set the format and the level of all logs of this process; `context` is on every line."""
    renderer = (
        structlog.processors.JSONRenderer()
        if telemetry.log_format == "json"
        # Where rich is installed, the default shows the locals of every frame: passwords among them.
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.StackInfoRenderer(),
            *([structlog.processors.format_exc_info] if telemetry.log_format == "json" else []),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, telemetry.log_level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(**context)
