"""What figures were measured on: processor, memory, software, and the instructions that low precision needs."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any, Final

INT8: Final = ("avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm")
BF16: Final = ("avx512_bf16", "amx_bf16", "bf16")
"""Names as in /proc/cpuinfo."""


def machine() -> dict[str, Any]:
    """Processor, cores, memory in GB, instructions for 8 bits and bfloat16, load before; JSON-able."""
    import psutil

    with Path("/proc/cpuinfo").open() as cpuinfo:
        lines = cpuinfo.readlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    flags = {
        flag for line in lines if line.startswith(("flags", "Features")) for flag in line.partition(":")[2].split()
    }
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "int8": [flag for flag in INT8 if flag in flags],
        "bf16": [flag for flag in BF16 if flag in flags],
        "load": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }
