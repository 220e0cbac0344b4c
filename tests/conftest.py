"""Strict JAX for every test: two CPU devices, rank promotion raises, warnings are errors (see pyproject.toml)."""

import atexit
import os
import shutil
import tempfile

os.environ["JAX_PLATFORMS"] = "cpu"
# For every program from the cache below XLA reports its own tuning hints as processor features that this machine lacks, as errors.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["XLA_FLAGS"] = (os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2").strip()

import jax

jax.config.update("jax_numpy_rank_promotion", "raise")

# What was compiled once, later tests and the processes that they start need not compile again. JAX does not write such a folder atomically,
# so each worker has its own.
COMPILED = tempfile.mkdtemp(prefix="jaxrec-tests-")
atexit.register(shutil.rmtree, COMPILED, ignore_errors=True)
CACHE = {"compilation_cache_dir": COMPILED, "persistent_cache_min_compile_time_secs": 0.1, "persistent_cache_min_entry_size_bytes": -1}


def pytest_configure(config):
    """Programs are compiled once and, where the long tests are left out, without most optimisations: that is half of what tests take."""
    quick = {"disable_most_optimizations": True} if "not long" in config.getoption("markexpr") else {}
    for name, value in (CACHE | quick).items():
        jax.config.update(f"jax_{name}", value)
        os.environ[f"JAX_{name.upper()}"] = str(int(value)) if value is True else str(value)
