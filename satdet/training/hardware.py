"""What a trial runs on, by name: speeds are comparable only on the same."""

import platform
from pathlib import Path

import torch

_CPU_INFO = Path("/proc/cpuinfo")


def hardware_name(device: torch.device, threads: int) -> str:
    """The model of the GPU, or that of the CPU with the number of threads.

    Parameters
    ----------
    device : torch.device
    threads : int
        With which torch computes on a CPU.
    """
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"{_cpu_model()}, {threads} {'thread' if threads == 1 else 'threads'}"


def _cpu_model() -> str:
    try:
        lines = _CPU_INFO.read_text().splitlines()
    except OSError:  # not Linux
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(filter(None, models), "") or platform.processor() or platform.machine()
