"""The algorithms, one file a library; importing this package registers all of them."""

from optimagic_lite.algorithms import nlopt, optax, optimistix, scipy_local

__all__ = ["nlopt", "optax", "optimistix", "scipy_local"]
