"""The algorithms, one file a library; importing this package registers all of them."""

from optimagic_lite.algorithms import (
    bhhh,
    nlopt,
    optax,
    optimistix,
    scipy_least_squares,
    scipy_local,
)

__all__ = ["bhhh", "nlopt", "optax", "optimistix", "scipy_least_squares", "scipy_local"]
