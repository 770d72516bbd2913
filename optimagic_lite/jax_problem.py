"""A problem for solvers that run whole inside JAX, from starts and data that may be traced."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from optimagic_lite.algorithms.base import REGISTRY
from optimagic_lite.algorithms.jax_loop import JaxAlgorithm
from optimagic_lite.algorithms.jax_pass import NO_LIMIT, Box, Settings, Status
from optimagic_lite.algos import resolve_algorithm
from optimagic_lite.compilation import trace_function
from optimagic_lite.exceptions import InvalidBoundsError, NotAvailableError
from optimagic_lite.history import Direction
from optimagic_lite.mark import structure_of
from optimagic_lite.objective.kinds import Kind, structure_of_value
from optimagic_lite.objective.tracing import Program, is_array_or_float
from optimagic_lite.optimize import minimize
from optimagic_lite.problem import Problem, check_capabilities, check_structure, make_problem
from optimagic_lite.space.bounds import read_bounds
from optimagic_lite.space.traced import Start, TracedSpace, make_traced_space
from optimagic_lite.space.trees import ParamTree, flatten_in_order
from optimagic_lite.stopping import Stop

Array = NDArray[np.float64]

# limit on evaluations where the user sets none: a compiled loop cannot be interrupted
MAXFUN = 10_000


class JaxProblem:
    """What is known of a problem before its start and its data are.

    Args:
        direction: "minimize" or "maximize".
        fun: The criterion.
        algorithm: One that runs inside JAX.
        bounds: See ``minimize``.
        constraints: See ``minimize``.
        scaling: See ``minimize``.
    """

    def __init__(
        self,
        direction: Direction,
        fun: Callable[..., Any],
        algorithm: JaxAlgorithm,
        *,
        bounds: Any,
        constraints: Any,
        scaling: Any,
    ) -> None:
        self.direction: Direction = direction
        self.fun = fun
        self.algorithm = algorithm
        self._limits = {"bounds": bounds, "constraints": constraints, "scaling": scaling}

    @cached_property
    def messages(self) -> dict[int, str]:
        """What each status of a result means."""
        limits = {"maxiter": self.algorithm.stopping_maxiter, "maxfun": self.maxfun}
        texts = {status.code: status.text(**limits) for status in Status}
        stop = Stop.MAXTIME
        return texts | {stop.status: stop.text(self.algorithm.stopping_maxtime)}

    @property
    def maxfun(self) -> int:
        """Limit on evaluations of a solve."""
        limit = self.algorithm.stopping_maxfun
        return MAXFUN if limit == type(self.algorithm).stopping_maxfun else min(limit, NO_LIMIT)

    def settings(self, lower: Any, upper: Any) -> Settings:
        """Return the numbers of a solve with these bounds on x."""
        return Settings(
            self.algorithm.tolerances(),
            Box(lower, upper),
            maxiter=min(self.algorithm.stopping_maxiter, NO_LIMIT),
            maxfun=self.maxfun,
        )

    def is_outside(self, tree: ParamTree, flats: Array) -> NDArray[np.bool_]:
        """Tell which params, as vectors of shape (k, n_params), are outside of the bounds."""
        bounds = read_bounds(self._limits["bounds"], tree, start=None)
        return np.asarray(((flats < bounds.lower) | (flats > bounds.upper)).any(axis=1))

    def space(
        self,
        params: Any,
        kwargs: dict[str, Any] | None = None,
        *,
        for_all_starts: bool | None = None,
    ) -> TracedSpace:
        """Return where to search; refuse what the algorithm cannot do.

        Args:
            params: Start params, traced or not.
            kwargs: Further arguments of the criterion, if they are to be checked.
            for_all_starts: See ``make_traced_space``.
        """
        space = make_traced_space(
            params,
            **self._limits,
            keeps_bounds=self.algorithm.algo_info.supports_bounds,
            for_all_starts=for_all_starts,
        )
        try:
            check_capabilities(self.described(space.space.tree.template, kwargs), space.space)
        except InvalidBoundsError as error:
            # there is no such argument here
            advice = str(error).replace('bounds_as="transform", or ', "")
            raise InvalidBoundsError(advice) from None
        return space

    def described(self, params: Any, kwargs: dict[str, Any] | None = None) -> Problem:
        """Return the problem, checked like one of ``minimize``; arguments as in ``space``."""
        defaults = {name: p.default for name, p in inspect.signature(minimize).parameters.items()}
        del defaults["resume"]
        fun = self.fun if kwargs is not None else lambda params: params
        given = {"fun": fun, "fun_kwargs": kwargs, "params": params, "algorithm": self.algorithm}
        problem = make_problem(self.direction, defaults | given | self._limits)
        check_structure(problem, structure_of(self.fun) or "scalar")
        return problem

    def program(
        self,
        space: TracedSpace,
        start: Start,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        of_flat: bool = False,
    ) -> tuple[Program, Kind]:
        """Trace the criterion as a function of x, of numbers of the space and of data.

        Args:
            space: Where to search.
            start: From where.
            args: Further arguments of the criterion.
            kwargs: The same by name.
            of_flat: Whether it is to be a function of params as a vector, instead of x.

        Returns:
            The program, whose data end with the numbers of the space and then the data among the
            arguments; and what the criterion returns.
        """
        leaves, places, rebuild = read_data(args, kwargs)
        numbers, structure = jax.tree.flatten(start.numbers)
        kinds: list[Kind] = []

        def function(x: jax.Array, *data: Any) -> jax.Array:
            own = jax.tree.unflatten(structure, data[: len(numbers)])
            filled = dict(enumerate(leaves))
            filled |= zip(places, data[len(numbers) :], strict=True)
            args, kwargs = rebuild(filled[i] for i in range(len(leaves)))
            params = space.space.tree.trace(x) if of_flat else space.params(x, own)
            raw = self.fun(params, *args, **kwargs)
            found = structure_of_value(raw, structure_of(self.fun))
            kinds.append(Kind(found, self.algorithm.algo_info.solver_type))
            return kinds[-1].traced(raw)

        data = [*numbers, *(leaves[i] for i in places)]
        at = jnp.zeros(space.space.tree.n_params) if of_flat else jnp.asarray(start.x)
        trace = trace_function(function, at, *data)
        arrays = (*trace.consts, *(jnp.asarray(value) for value in data))
        return Program(trace, arrays, -1.0 if self.direction == "maximize" else 1.0), kinds[-1]


def read_data(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[list[Any], list[int], Callable[[Iterable[Any]], Any]]:
    """Return all leaves of further arguments, which of them are data, and the way back."""
    leaves, rebuild = flatten_in_order((args, kwargs))
    return leaves, [i for i, leaf in enumerate(leaves) if is_array_or_float(leaf)], rebuild


def resolve_jax_algorithm(
    algorithm: Any, algo_options: dict[str, Any] | None, who: str
) -> JaxAlgorithm:
    """Return an algorithm that runs inside JAX.

    Args:
        algorithm: Name, class or instance.
        algo_options: Its options.
        who: What it is for, in messages.

    Raises:
        NotAvailableError: If it does not run inside JAX.
        InvalidAlgoOptionError: If it or an option is not known, or there is a limit on seconds.
    """
    resolved = resolve_algorithm(algorithm, algo_options)
    if not isinstance(resolved, JaxAlgorithm):
        able = sorted(n for n, c in REGISTRY.items() if issubclass(c, JaxAlgorithm))
        raise NotAvailableError(
            f"{who} needs an algorithm that runs inside JAX, and {resolved.name} does not. "
            f"Those that do: {', '.join(able)}."
        )
    return resolved
