"""Whether the process that writes a run is still there."""

from __future__ import annotations

import os
from pathlib import Path


def process_started(pid: int) -> str | None:
    """Return a text that tells a process from later ones with the same number.

    Args:
        pid: Number of the process, on this machine.

    Returns:
        When it started, as the operating system counts; None if that cannot be had, because it is
        gone or because this is not Linux.
    """
    fields = _status(pid)
    if fields is None:
        return None
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        boot = ""
    return f"{boot} {fields[19]}".strip()


def is_this_process(pid: int, started: str | None) -> bool:
    """Tell whether a process of this machine is the one that asks; arguments as of ``is_alive``."""
    return pid == os.getpid() and started in (None, process_started(pid))


def is_alive(pid: int, started: str | None) -> bool:
    """Tell whether a process of this machine is there.

    Args:
        pid: Its number.
        started: What ``process_started`` said when it was.
    """
    # on Windows os.kill would end the process instead of asking for it
    if os.name == "nt":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        # it belongs to another user
        pass
    fields = _status(pid)
    if fields is None:
        return True
    is_another = started is not None and process_started(pid) != started
    # one that nobody has waited for leaves its number behind
    return not is_another and fields[0] not in "ZX"


def _status(pid: int) -> list[str] | None:
    """Return what Linux tells of a process, from its state on (see ``man 5 proc``)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    # the name before it may hold blanks and parentheses
    return text.rpartition(")")[2].split()
