"""What a number was measured on: versions, accelerator, processor."""

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

import jax

PACKAGES = (
    *("jax", "jaxlib", "flax", "optax", "numpy", "scipy", "implicit", "pandas", "pyarrow", "orbax-checkpoint"),
    *("litert-converter", "ai-edge-litert"),
)


def environment() -> dict[str, Any]:
    """{"versions": {name: text, or None where not installed}, "device": text, "cpu_count": processors this process may use}."""
    return {"versions": versions(), "device": device(), "cpu_count": _processors()}


def versions() -> dict[str, str | None]:
    """Version of Python and of every package that numbers may depend on."""
    return {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES}


def device() -> str:
    """JAX's devices and the processor beside them, e.g. "8 x NVIDIA H100 80GB HBM3; Intel(R) Xeon(R) Platinum 8480C"."""
    devices = jax.devices()
    kind = devices[0].device_kind if len(devices) == 1 else f"{len(devices)} x {devices[0].device_kind}"
    return f"{kind}; {processor()}"


def processor(account: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's model name where the kernel tells it, else its architecture."""
    try:
        lines = account.read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processors() -> int:
    # A container often owns fewer processors than the machine has; not every system can tell.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
