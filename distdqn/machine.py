"""What this machine has and does, found out without importing anything heavy."""

import ctypes
import os
import re
import shutil
import socket
import time
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
    shared = shutil.disk_usage("/dev/shm").free if Path("/dev/shm").is_dir() else 0
    return Machine(_cores(), cuda_devices(), *_memory(), shared)


def _cores(group: Path = Path("/sys/fs/cgroup")) -> int:
    """Cores that this process may use; a container may be given the time of so many as docker's --cpus says."""
    cores = len(os.sched_getaffinity(0))
    with suppress(OSError, ValueError, ZeroDivisionError):  # "max" where there is no limit
        quota, period = (group / "cpu.max").read_text().split()
        cores = min(cores, max(1, int(quota) // int(period)))
    return cores


def _memory() -> tuple[int, int]:
    """Bytes in all and free; a container's limit counts."""
    import psutil

    memory = psutil.virtual_memory()
    total, free = memory.total, memory.available
    limit = Path("/sys/fs/cgroup/memory.max")
    used = Path("/sys/fs/cgroup/memory.current")
    if limit.exists() and (text := limit.read_text().strip()).isdigit():
        total = min(total, int(text))
        if used.exists():
            free = min(free, max(0, int(text) - int(used.read_text())))
    return total, free


@dataclass(frozen=True)
class Usage:
    """What a machine does at the moment `at`, in seconds on a clock of its own.

    Attributes:
        host: its name. busy_s, core_s: seconds that its cores were busy, and in all, since it started.
        received, sent: bytes that came from and went to other machines since it started.
        memory, shared_memory: shares in use, in [0, 1]; a container's memory limit counts.
        gpu, gpu_memory: share of time in which the busiest of its GPUs computed, and share in use of the fullest one's
            memory; None where there is no NVIDIA GPU, or it does not say.
    """

    host: str
    at: float
    busy_s: float
    core_s: float
    received: int
    sent: int
    memory: float
    shared_memory: float
    gpu: float | None = None
    gpu_memory: float | None = None

    def figures(self, earlier: "Usage | None" = None) -> dict[str, float]:
        """Metrics by name: the shares, and since an `earlier` moment `cpu`, the share of all cores' time that was busy,
        and `received` and `sent` in bytes/s. What is not known is left out."""
        found: dict[str, float | None] = {name: getattr(self, name) for name in ("memory", "shared_memory")}
        if earlier is not None and self.core_s > earlier.core_s and self.at > earlier.at:
            found["cpu"] = min(1.0, max(0.0, (self.busy_s - earlier.busy_s) / (self.core_s - earlier.core_s)))
            for name in ("received", "sent"):
                found[name] = max(0, getattr(self, name) - getattr(earlier, name)) / (self.at - earlier.at)
        found |= {"gpu": self.gpu, "gpu_memory": self.gpu_memory}
        return {name: float(f"{value:.4g}") for name, value in found.items() if value is not None}


def usage() -> Usage:
    """What this machine does now, which takes half a millisecond to find out."""
    import psutil

    cpu, (total, free) = psutil.cpu_times(), _memory()
    core_s = sum(cpu) - getattr(cpu, "guest", 0.0) - getattr(cpu, "guest_nice", 0.0)  # counted in user and nice, too
    interfaces = {n: i for n, i in psutil.net_io_counters(pernic=True).items() if n != "lo"}
    # bridges and the like count again what passes through a card; a container has no card that it sees as one
    cards = {name for name in interfaces if Path(f"/sys/class/net/{name}/device").exists()} or set(interfaces)
    shared = shutil.disk_usage("/dev/shm") if Path("/dev/shm").is_dir() else None
    gpu, gpu_memory = _gpus()
    return Usage(
        host=re.sub(r"[^\w.-]", "_", socket.gethostname()) or "localhost",
        at=time.monotonic(),
        busy_s=core_s - cpu.idle - getattr(cpu, "iowait", 0.0),
        core_s=core_s,
        received=sum(interfaces[name].bytes_recv for name in cards),
        sent=sum(interfaces[name].bytes_sent for name in cards),
        memory=1 - free / total,
        shared_memory=shared.used / shared.total if shared and shared.total else 0.0,
        gpu=gpu,
        gpu_memory=gpu_memory,
    )


@cache
def _nvml() -> ctypes.CDLL | None:
    """NVIDIA's library for looking at GPUs, which comes with the driver; None where there is none."""
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
        return library if library.nvmlInit_v2() == 0 else None
    except (OSError, AttributeError):
        return None


def _gpus() -> tuple[float | None, float | None]:
    """`gpu` and `gpu_memory` of `Usage`."""
    if (library := _nvml()) is None:
        return None, None
    count = ctypes.c_uint()
    library.nvmlDeviceGetCount_v2(ctypes.byref(count))
    computed, used = list[float](), list[float]()
    for i in range(count.value):
        device, rates, memory = ctypes.c_void_p(), (ctypes.c_uint * 2)(), (ctypes.c_ulonglong * 3)()
        if library.nvmlDeviceGetHandleByIndex_v2(i, ctypes.byref(device)):
            continue
        if library.nvmlDeviceGetUtilizationRates(device, rates) == 0:
            computed.append(rates[0] / 100)
        if library.nvmlDeviceGetMemoryInfo(device, memory) == 0 and memory[0]:
            used.append(memory[2] / memory[0])  # total, free, used
    return max(computed, default=None), max(used, default=None)


def existing(path: Path) -> Path:
    """`path`, absolute, or the first above it that is there."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path


def disk_free(path: Path) -> int:
    """Bytes free where `path` is or would be."""
    return shutil.disk_usage(existing(path)).free
