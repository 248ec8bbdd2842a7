"""Becomes another program that ends with its parent: `python launch.py '{"parent": PID, …}' PROGRAM ARG…`.

Runs between fork and exec of every supervised process, as its own small program, because Python code between fork
and exec of a process with threads may deadlock. Uses nothing but the standard library.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys

PR_SET_PDEATHSIG, PR_SET_KEEPCAPS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, PR_CAPBSET_READ = 1, 8, 47, 2, 23
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2
CAPABILITY_VERSION_3 = 0x20080522


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def _call(result: int, what: str) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")


def inheritable_reach(libc: ctypes.CDLL | None = None) -> int | None:
    """The right to walk through closed folders that can be passed on; None where there is none."""
    libc = libc or ctypes.CDLL(None, use_errno=True)
    # Containers often drop the narrower right and leave the wider one.
    held = [cap for cap in (CAP_DAC_READ_SEARCH, CAP_DAC_OVERRIDE) if libc.prctl(PR_CAPBSET_READ, cap, 0, 0, 0) == 1]
    return held[0] if held else None


def become(libc: ctypes.CDLL, uid: int, gid: int, reach: bool) -> None:
    """Give up root for another user; with `reach`, keep only the right to walk through folders closed to that user."""
    if reach:
        _call(libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0), "prctl KEEPCAPS")
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    if not reach:
        return
    right = inheritable_reach(libc)
    if right is None:
        raise PermissionError("the folder is closed to the unprivileged user, and this container forbids passing it on")
    bit = 1 << right
    data = (_Data * 2)(_Data(bit, bit, bit), _Data(0, 0, 0))
    _call(libc.capset(ctypes.byref(_Header(CAPABILITY_VERSION_3, 0)), data), "capset")
    _call(libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, right, 0, 0), "prctl CAP_AMBIENT_RAISE")


def main() -> None:
    options = json.loads(sys.argv[1])
    program = sys.argv[2:]
    libc = ctypes.CDLL(None, use_errno=True)
    if options.get("nice"):
        os.nice(int(options["nice"]))
    if options.get("uid") is not None:
        become(libc, options["uid"], options["gid"], options.get("reach", False))
    # After the change of user, which would reset it.
    _call(libc.prctl(PR_SET_PDEATHSIG, int(options["death_signal"]), 0, 0, 0), "prctl PDEATHSIG")
    if os.getppid() != options["parent"]:
        sys.exit(0)  # the parent died before the line above
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and exec would pass that on
    os.execvp(program[0], program)  # noqa: S606


if __name__ == "__main__":
    main()
