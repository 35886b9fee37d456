"""recjax: a JAX/Flax research framework for recommender systems."""

__version__ = "0.1.0"
