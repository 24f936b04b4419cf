"""On what a benchmark ran: the processor and the versions, and nothing that names a particular machine."""

import os
import platform
from importlib import metadata
from pathlib import Path

_PACKAGES = ("numpy", "torch", "torchvision", "torchmetrics", "faster-coco-eval", "albumentations", "astropy", "sep")


def machine() -> dict[str, str | int]:
    """Model of the processor, how many of its cores this process may use, and the accelerator if there is one."""
    import torch

    found: dict[str, str | int] = {"processor": _processor(), "cores": len(os.sched_getaffinity(0))}
    if torch.cuda.is_available():
        found["accelerator"] = torch.cuda.get_device_name()
    return found


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide speed and results."""
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in _PACKAGES}


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
