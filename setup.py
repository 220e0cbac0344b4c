"""Packaging of jaxrec; `pyproject.toml` only holds settings of tools."""

from pathlib import Path

from setuptools import find_packages, setup

# jax 0.10.2 and 0.11.0: scatter-add on GPU is hundreds of times slower.
JAX = "jax>=0.10.1,!=0.10.2,!=0.11.0"
TENSORBOARD = "tensorboardX>=2.6"
DEVICE = ["litert-converter>=0.5", "ai-edge-litert>=2.3"]

setup(
    name="jaxrec",
    version="0.1.0",
    description="On-device recommendation in JAX: one global GRU, thousands of personal models, one TFLite file",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["jaxrec", "jaxrec.*", "launch"]),
    install_requires=[
        JAX,
        "flax>=0.12",
        "optax>=0.2.6",
        "numpy>=2",
        "pandas>=2.2",
        "pyarrow>=18",
        "scipy>=1.13",
        "orbax-checkpoint>=0.11.20",
        "absl-py>=2",
        "tqdm>=4.66",
        "matplotlib>=3.9",
        "implicit>=0.7.3",
        "threadpoolctl>=3.1",
    ],
    extras_require={
        "device": DEVICE,
        "cuda": [JAX.replace("jax", "jax[cuda13]", 1)],
        "tpu": [JAX.replace("jax", "jax[tpu]", 1)],
        "bench": ["torch>=2.5"],
        "tensorboard": [TENSORBOARD],
        "dev": [*DEVICE, TENSORBOARD, "pytest>=8", "pytest-xdist>=3.6", "ruff>=0.15", "hypothesis>=6.100", "ir-measures>=0.4"],
    },
)
