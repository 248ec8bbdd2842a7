"""Installs the locked packages into the environment that runs this: uv where it works, else pip, both as pip is configured.

uv does not read pip's configuration, so what is set there (index, certificates, proxy, …) is handed on to it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

NEED_BYTES = 9_000_000_000
ROOT = Path(__file__).resolve().parent.parent
PIP_TO_UV = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "timeout": "UV_HTTP_TIMEOUT",
    "default-timeout": "UV_HTTP_TIMEOUT",
    "cert": "SSL_CERT_FILE",
    "trusted-host": "UV_INSECURE_HOST",
    "proxy": "ALL_PROXY",
}


def pip_configuration() -> dict[str, str]:
    """Options in force by name, from pip's files and variables; the latter win."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    found: dict[str, str] = {}
    for line in sorted(listed.stdout.splitlines(), key=lambda line: line.startswith(":env:")):
        name, _, value = line.partition("=")
        section, _, option = name.rpartition(".")
        if section in {"global", "install", ":env:"}:
            found[option] = value.strip().strip("'\"")
    return found


def environment() -> dict[str, str]:
    """The environment with pip's configuration in uv's words; what is set for uv already stays."""
    env = {**os.environ, "VIRTUAL_ENV": sys.prefix}
    for option, value in pip_configuration().items():
        variable = PIP_TO_UV.get(option)
        if variable and variable not in env:
            env[variable] = ",".join(value.split()) if option == "find-links" else value
    return env


def main() -> int:
    """0, or the installer's exit code."""
    # Before the first install nothing of it is there; later ones need little.
    if not (Path(sys.prefix) / ".installed").exists() and (free := shutil.disk_usage(sys.prefix).free) < NEED_BYTES:
        print(
            f"too little disk: the packages need {NEED_BYTES / 1e9:.0f} GB, {free / 1e9:.1f} GB are free at {sys.prefix}",
            file=sys.stderr,
        )
        return 3
    wanted = [
        ["--require-hashes", "-r", str(ROOT / "requirements.lock")],
        ["--no-deps", "--no-build-isolation", "-e", str(ROOT)],
    ]
    env = environment()
    for arguments in wanted:
        uv = [sys.executable, "-m", "uv", "pip", "install", *arguments]
        pip = [sys.executable, "-m", "pip", "install", *arguments]
        if subprocess.run(uv, env=env, check=False).returncode == 0:
            continue
        print("uv could not do it; trying pip, which takes longer", flush=True)
        if code := subprocess.run(pip, check=False).returncode:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
