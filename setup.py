"""Packaging of recjax; the extras name what heavy or rare parts need."""

import pathlib

from setuptools import find_packages, setup

HERE = pathlib.Path(__file__).parent
VERSION = "0.1.0"

EXTRAS = {
  "scann": ["scann>=1.4; platform_system == 'Linux'"],
  "faiss": ["faiss-cpu>=1.8"],
  "tfds": [
    "tensorflow-datasets>=4.9.7",
    "array_record>=0.8",
    "importlib_resources",
  ],
  "search": ["optuna>=4.2"],
  "ray": ["ray>=2.40"],
  "slurm": ["submitit>=1.5"],
  "tpu": ["jax[tpu]>=0.10"],
  "cuda": ["jax[cuda13]>=0.10"],
  "benchmarks": ["torch==2.13.0", "psutil>=6", "scann>=1.4", "faiss-cpu>=1.8"],
  "docs": ["mkdocs>=1.6", "mkdocs-material>=9.5"],
  "test": [
    "pytest>=8",
    "pytest-xdist>=3",
    "beartype>=0.20",
    "scikit-learn>=1.5",
    "statsmodels>=0.14",
    "ruff>=0.14",
    "pyright>=1.1.400",
    "tensorflow-datasets>=4.9.7",
    "array_record>=0.8",
    "importlib_resources",
    "scann>=1.4; platform_system == 'Linux'",
    "faiss-cpu>=1.8",
    "optuna>=4.2",
    "ray>=2.40",
    "submitit>=1.5",
  ],
}

setup(
  name="recjax",
  version=VERSION,
  description="A JAX/Flax research framework for recommender systems.",
  long_description=(HERE / "README.md").read_text("utf-8"),
  long_description_content_type="text/markdown",
  license="Apache-2.0",
  python_requires=">=3.11",
  packages=[
    *find_packages(include=["recjax", "recjax.*"]),
    "recjax.gin_configs",
  ],
  package_dir={"recjax.gin_configs": "gin"},
  package_data={"recjax.gin_configs": ["*/*.gin"]},
  install_requires=[
    "jax>=0.10",
    "flax>=0.12",
    "optax>=0.2.5",
    "orbax-checkpoint>=0.11.20",
    "grain>=0.2.12",
    "gin-config>=0.5",
    "absl-py>=2.1",
    "jaxtyping>=0.3",
    "numpy>=2",
    "scipy>=1.15",
    "pyarrow>=17",
    "matplotlib>=3.9",
    "rich>=13",
    "tensorboardX>=2.6.2",
  ],
  extras_require=EXTRAS,
  entry_points={"console_scripts": ["recjax = recjax.cli:main"]},
)
