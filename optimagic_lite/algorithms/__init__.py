"""The algorithms, one file a library; importing this package registers all of them."""

from optimagic_lite.algorithms import (
    bhhh,
    jax_bfgs,
    jax_lm,
    jax_newton,
    nlopt,
    nlopt_global,
    nlopt_stogo,
    optax,
    optimistix,
    scipy_global,
    scipy_least_squares,
    scipy_local,
    scipy_searches,
)

__all__ = [
    "bhhh",
    "jax_bfgs",
    "jax_lm",
    "jax_newton",
    "nlopt",
    "nlopt_global",
    "nlopt_stogo",
    "optax",
    "optimistix",
    "scipy_global",
    "scipy_least_squares",
    "scipy_local",
    "scipy_searches",
]
