"""Whether the unpacker may share the processors out: its threads step back behind the largest layer by their nice value, which
takes CAP_SYS_NICE, or they could not come forth again. Without it all works as well, only not as fast."""

from trial.engine import Failed, say

CAP_SYS_NICE = 1 << 23


def are_shared(what, status):
    """`status`: /proc/PID/status of a process that unpacks."""
    with open("/proc/self/status", encoding="utf-8") as own:
        if not _mask(own.read(), "CapBnd") & CAP_SYS_NICE:
            return say(f"{what}: nobody here may set nice values, so it may not either")
    if not _mask(status, "CapEff") & CAP_SYS_NICE:
        raise Failed(f"{what} may not set the nice values of its threads: CAP_SYS_NICE is missing")
    return None


def _mask(status, name):
    return next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith(f"{name}:"))
