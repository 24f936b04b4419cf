"""What a trial runs on, by name: speeds are comparable only on the same."""

import platform
from pathlib import Path

import torch

_CPU_INFO = Path("/proc/cpuinfo")


def hardware_name(device: torch.device, threads: int, workers: int = 1) -> str:
    """The model of the GPU, or that of the CPU with the number of threads; and how many of them.

    Parameters
    ----------
    device : torch.device
    threads : int
        With which torch computes on a CPU.
    workers : int
        That train one trial together, each on its own.
    """
    if device.type == "cuda":
        name = str(torch.cuda.get_device_name(device))
    else:
        name = f"{_cpu_model()}, {threads} {'thread' if threads == 1 else 'threads'}"
    return name if workers == 1 else f"{workers} x {name}"


def _cpu_model() -> str:
    try:
        lines = _CPU_INFO.read_text().splitlines()
    except OSError:  # not Linux
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(filter(None, models), "") or platform.processor() or platform.machine()
