"""What this machine has, found out without importing anything heavy."""

import ctypes
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Numbers in glibc's malloc.h."""


@dataclass(frozen=True)
class Machine:
    """Cores that this process may use, GPUs, bytes of memory that are free, bytes free in shared memory."""

    cores: int
    gpus: int
    memory: int
    memory_free: int
    shared_memory_free: int


def in_ray_job() -> bool:
    """Whether a Ray cluster has started this process as its job."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ


@cache
def cuda_devices() -> int:
    """Number of CUDA devices, asked of the driver itself: importing PyTorch for it takes seconds."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        count = ctypes.c_int()
        if driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0:
            return count.value
    except OSError:
        pass
    return 0


def cpu_has(flag: str) -> bool:
    """True where Linux lists `flag` among the processor's features."""
    try:
        return f" {flag} " in Path("/proc/cpuinfo").read_text().replace("\n", " \n")
    except OSError:
        return False


def keep_freed_memory() -> None:
    """From now on this process keeps what it frees for itself: only more than 512 MiB in one piece at the top of its
    heap, and single pieces above 32 MiB, are given back.

    Tensors of some MiB come and go in every update. With glibc's own thresholds many are given back and taken
    again page by page, and taking a page away interrupts the other threads. Elsewhere than on glibc nothing happens.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_MMAP_THRESHOLD, 32 << 20)  # the most that every version takes
    mallopt(_M_TRIM_THRESHOLD, 512 << 20)


def inspect() -> Machine:
    """This machine now; a container's limits count."""
    import psutil

    memory = psutil.virtual_memory()
    total, free = memory.total, memory.available
    limit = Path("/sys/fs/cgroup/memory.max")
    used = Path("/sys/fs/cgroup/memory.current")
    if limit.exists() and (text := limit.read_text().strip()).isdigit():
        total = min(total, int(text))
        if used.exists():
            free = min(free, max(0, int(text) - int(used.read_text())))
    shared = shutil.disk_usage("/dev/shm").free if Path("/dev/shm").is_dir() else 0
    return Machine(_cores(), cuda_devices(), total, free, shared)


def _cores(group: Path = Path("/sys/fs/cgroup")) -> int:
    """Cores that this process may use; a container may be given the time of so many as docker's --cpus says."""
    cores = len(os.sched_getaffinity(0))
    with suppress(OSError, ValueError, ZeroDivisionError):  # "max" where there is no limit
        quota, period = (group / "cpu.max").read_text().split()
        cores = min(cores, max(1, int(quota) // int(period)))
    return cores


def disk_free(path: Path) -> int:
    """Bytes free where `path` is or would be."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free
