"""Say how many processor cores this process may use, which in a container are fewer than the machine has."""

import os
from pathlib import Path

CONTROL_GROUP = Path("/sys/fs/cgroup")
"""Where Linux tells a container its own limits."""


def usable_cores(control_group: Path = CONTROL_GROUP) -> int:
    """Cores that this process may run on, and no more than its control group's share of time amounts to, at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(control_group)
    return allowed if quota is None else max(1, min(allowed, int(quota)))


def _quota(control_group: Path) -> float | None:
    """Seconds of processor time a second that the control group allows; None: any number."""
    try:
        quota, period = (control_group / "cpu.max").read_text().split()  # version 2
    except (OSError, ValueError):
        try:
            quota, period = (
                (control_group / "cpu" / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period")
            )
        except OSError:
            return None
    if not quota.isdigit() or not period.isdigit():  # "max", or -1 in version 1
        return None
    return int(quota) / int(period)
