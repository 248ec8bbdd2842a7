"""Settings for commands: loaded with clear errors, printed with secrets hidden."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from upwell.cli import exits
from upwell.settings import ConfigError, Settings, looks_secret


def load(file: Path | None, sets: list[str] | None, more: dict[str, str] | None = None) -> Settings:
    """Settings from file, variables and `--set` flags; exits with code 2 and a clear line on a bad one."""
    flags: dict[str, str] = {}
    for text in sets or []:
        name, equals, value = text.partition("=")
        if not equals:
            exits.fail(exits.CONFIG, f"--set {text}: expected group.name=value")
        flags[name.strip()] = value
    try:
        return Settings.load(file, flags | (more or {}))
    except ConfigError as error:
        exits.fail(exits.CONFIG, str(error))


def printable(settings: Settings) -> dict[str, Any]:
    """JSON-ready values; secrets, and options that look like one, as stars."""

    def hide(value: Any, name: str) -> Any:
        if isinstance(value, dict):
            return {key: hide(inner, key) for key, inner in value.items()}
        if isinstance(value, str) and value and looks_secret(name):
            return "********"
        return value

    shown: dict[str, Any] = {group: hide(values, group) for group, values in settings.model_dump(mode="json").items()}
    return shown


def toml(settings: Settings) -> str:
    """The same as TOML, each setting with its description: a file to start from."""
    lines: list[str] = []
    values = printable(settings)
    for group, field in type(settings).model_fields.items():
        model: Any = field.annotation
        lines += ["", f"[{group}]" + (f"  # {model.__doc__.strip().splitlines()[0]}" if model.__doc__ else "")]
        for name, inner in model.model_fields.items():
            lines.append(f"{name} = {_toml_value(values[group][name])}  # {inner.description}")
    for served, own in settings.models.by_name.items():
        lines += ["", f"[models.{served}]"]
        for name, inner in type(own).model_fields.items():
            lines.append(f"{name} = {_toml_value(values['models'][served][name])}  # {inner.description}")
    return "\n".join(lines).strip()


def _toml_value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {_toml_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml_value, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def variables(settings: dict[str, str]) -> dict[str, str]:
    """Environment for a child process that shall run with these settings (dotted name to value)."""
    return os.environ | {f"UPWELL_{name.upper().replace('.', '__')}": value for name, value in settings.items()}
