"""First-order methods of optax (DeepMind 2020, https://optax.readthedocs.io), run inside JAX.

Only the gradient is a test of convergence: without a line search, a small change of the value says
little. optax's L-BFGS is left out: its line search evaluates inside an update, and those
evaluations could not be recorded; ``optimistix_lbfgs`` takes its place.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from optimagic_lite.algorithms.base import (
    CONVERGENCE_GTOL_ABS,
    Algorithm,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    algorithm,
    option_types,
)
from optimagic_lite.algorithms.jax_loop import JaxAlgorithm
from optimagic_lite.algorithms.jax_pass import Box, Evaluation, Status


@dataclass(frozen=True)
class OptaxStepper:
    """A gradient transformation without evaluations of its own.

    Args:
        key: Name and options of the method.
        make: Makes the transformation.
    """

    key: Hashable
    make: Callable[[], Any]

    order = 1

    @cached_property
    def method(self) -> Any:
        """The transformation."""
        return self.make()

    def init(self, x: jax.Array, start: Evaluation) -> Any:
        """Return iterate and state of the transformation."""
        del start
        return x, self.method.init(x)

    def point(self, state: Any) -> jax.Array:
        """Return the iterate."""
        return state[0]  # type: ignore[no-any-return]

    def step(self, state: Any, found: Evaluation, box: Box) -> tuple[Any, jax.Array, jax.Array]:
        """Move by the transformed gradient; each point is accepted."""
        del box  # it keeps none
        x, inner = state
        update, inner = self.method.update(found.derivative, inner, x)
        return (x + update, inner), jnp.asarray(True), jnp.asarray(int(Status.RUNNING))


@dataclass(frozen=True, kw_only=True)
class OptaxMinimizer(JaxAlgorithm):
    """Base of the wrappers.

    Args:
        stopping_maxiter: Limit on iterations, each of one evaluation.
        convergence_gtol_abs: Stop when the largest entry of the gradient is below.
        learning_rate: Step size, or an optax schedule. Methods that move by the sign of the
            gradient, such as lion, need a decreasing one to converge.
    """

    function: ClassVar[str]

    stopping_maxiter: PositiveInt = 10_000
    convergence_gtol_abs: NonNegativeFloat = CONVERGENCE_GTOL_ABS
    learning_rate: PositiveFloat | Callable[..., Any] = 1e-2

    def stepper(self) -> OptaxStepper:
        """Return the method."""
        own = set(option_types(type(self))) - set(option_types(JaxAlgorithm))
        options = {name: getattr(self, name) for name in sorted(own - {"convergence_gtol_abs"})}

        def make() -> Any:
            import optax

            return getattr(optax, self.function)(**options)

        return OptaxStepper((self.function, *options.items()), make)


@dataclass(frozen=True)
class _Row:
    """One method: its name here and in optax, its source, options with default and meaning."""

    name: str
    source: str
    options: dict[str, tuple[float | bool, str]] = field(default_factory=dict)
    learning_rate: float = 1e-2


_B1 = {"b1": (0.9, "Decay rate of the mean of gradients.")}
_B2 = {"b2": (0.999, "Decay rate of the mean of squared gradients.")}
_EPS = {"eps": (1e-8, "Added to the root in the denominator.")}
_ADAM: dict[str, tuple[float | bool, str]] = {**_B1, **_B2, **_EPS}
_DECAY = {
    "weight_decay": (0.0, "Pull of parameters towards zero; positive values move the minimum.")
}

_ROWS = [
    _Row("adam", "Adam (Kingma and Ba 2015, doi:10.48550/arXiv.1412.6980)", _ADAM),
    _Row("adamw", "AdamW (Loshchilov and Hutter 2019, doi:10.48550/arXiv.1711.05101)",
         {**_ADAM, **_DECAY}),
    _Row("nadam", "Adam with Nesterov momentum (Dozat 2016)", _ADAM),
    _Row("radam", "Rectified Adam (Liu et al. 2020, doi:10.48550/arXiv.1908.03265)", _ADAM),
    _Row("amsgrad", "AMSGrad (Reddi et al. 2018, doi:10.48550/arXiv.1904.09237)", _ADAM),
    _Row("adabelief", "AdaBelief (Zhuang et al. 2020, doi:10.48550/arXiv.2010.07468)",
         {**_B1, **_B2, "eps": (1e-16, "Added to the root in the denominator.")}),
    _Row("yogi", "Yogi (Zaheer et al. 2018)",
         {**_B1, **_B2, "eps": (1e-3, "Added to the root in the denominator.")}),
    _Row("sgd", "Gradient descent with momentum (Sutskever et al. 2013)",
         {"momentum": (0.9, "Weight of the last step."),
          "nesterov": (False, "Take the gradient after the momentum step.")}, 1e-3),
    _Row("rmsprop", "RMSProp (Tieleman and Hinton 2012)",
         {"decay": (0.9, "Decay rate of the mean of squared gradients."), **_EPS,
          "momentum": (0.0, "Weight of the last step.")}),
    _Row("adagrad", "AdaGrad (Duchi, Hazan and Singer 2011)",
         {"initial_accumulator_value": (0.1, "Start of the sum of squares."),
          "eps": (1e-7, "Added to the root in the denominator.")}, 0.5),
    _Row("lion", "Lion (Chen et al. 2023, doi:10.48550/arXiv.2302.06675)",
         {**_B1, "b2": (0.99, "Decay rate of the mean of gradients in the state."), **_DECAY}),
    _Row("rprop", "Resilient backpropagation (Riedmiller and Braun 1993, "
         "doi:10.1109/ICNN.1993.298623)",
         {"eta_minus": (0.5, "Factor of steps whose gradient changed sign."),
          "eta_plus": (1.2, "Factor of the other steps.")}),
]  # fmt: skip


def _register(row: _Row) -> type[Algorithm]:
    """Make a class of a row of the table."""
    inherited = (OptaxMinimizer.__doc__ or "").split("\n", 2)[2].rstrip()
    lines = [f"        {name}: {doc}" for name, (_, doc) in row.options.items()]
    body: dict[str, Any] = {
        "__doc__": "\n".join([f"{row.source}.", "", inherited, *lines, "    "]),
        "__module__": __name__,
        "__annotations__": {
            "learning_rate": PositiveFloat | Callable[..., Any],
            **{name: bool if isinstance(value, bool) else NonNegativeFloat
               for name, (value, _) in row.options.items()},
        },
        "function": row.name,
        "learning_rate": row.learning_rate,
        **{name: value for name, (value, _) in row.options.items()},
    }  # fmt: skip
    decorate = algorithm(f"optax_{row.name}", needs_jac=True, needs_program=True)
    return decorate(type(f"Optax{row.name.capitalize()}", (OptaxMinimizer,), body))


for _row in _ROWS:
    globals()[f"Optax{_row.name.capitalize()}"] = _register(_row)
