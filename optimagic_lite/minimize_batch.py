"""One problem with many data sets or starts, solved side by side in compiled loops."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from optimagic_lite.batch_inputs import read_batch
from optimagic_lite.batch_problem import make_batch, n_fitting
from optimagic_lite.batch_result import BatchResult
from optimagic_lite.batch_run import BatchRun, opened_bar, opened_log
from optimagic_lite.exceptions import InvalidAlgoOptionError
from optimagic_lite.history import Direction
from optimagic_lite.jax_problem import JaxProblem, resolve_jax_algorithm
from optimagic_lite.log_options import LogOptions, read_log_options


def minimize_batch(
    fun: Callable[..., Any],
    params: Any = None,
    algorithm: Any = "jax_bfgs",
    *,
    batch: Any,
    bounds: Any = None,
    constraints: Any = None,
    fun_kwargs: dict[str, Any] | None = None,
    algo_options: dict[str, Any] | None = None,
    scaling: Any = False,
    logging: LogOptions | str | Path | None = None,
    collect_history: bool = False,
    progress: bool = False,
    batch_size: int | None = None,
    devices: Sequence[Any] | None = None,
) -> BatchResult:
    """Minimize a JAX criterion for many data sets, from many starts, or both, side by side.

    All runs are lanes of one compiled loop, which is some ten to hundred times faster than a loop
    over ``minimize``. What is compiled serves other data of the same shapes again.

    Args:
        fun: The criterion, written with jax.numpy; may be marked with ``om.mark``.
        params: Start of all runs. None if ``batch`` has starts.
        algorithm: One that runs inside JAX: "jax_bfgs" (default), "jax_lbfgs" for many parameters,
            "jax_newton" for few, "jax_lm" for residuals, or one of optimistix or optax.
        batch: What differs: a dict of arguments of fun, each an array or a tree of arrays whose
            first axis runs over the runs; or a list with one such dict, without that axis, for
            each run. "params" in it are starts. Shapes are the same in all runs: pad data that are
            shorter and give them weight zero.
        bounds: See ``minimize``.
        constraints: See ``minimize``; all but nonlinear ones.
        fun_kwargs: Further arguments of fun that all runs share.
        algo_options: Options of the algorithm. Limits on evaluations and iterations are those of
            each run, and that on seconds (``stopping_maxtime``) is one of all. Without
            ``stopping_maxfun`` a run ends after 10,000 evaluations.
        scaling: See ``minimize``; each run has its own scale.
        logging: See ``minimize``. In the log the batch is one run, and each of its runs a step.
        collect_history: Whether the result has a history for each run.
        progress: Whether to show a bar with the number of runs that have ended; needs tqdm.
        batch_size: Number of runs that are side by side at most. Default is what fits into an
            eighth of the device's memory, or into a gigabyte.
        devices: Devices of JAX, each of which takes a share of the runs. Default are all local
            ones of the default kind.

    Returns:
        The results of all runs, stacked. A run that fails does not end the others.

    Raises:
        InvalidFunctionError: If JAX cannot trace fun.
        OptimagicError: Other subclasses for arguments that are wrong, before any evaluation.

    Example:
        >>> import jax.numpy as jnp
        >>> import numpy as np
        >>> import optimagic_lite as om
        >>> def fun(params, y):
        ...     return jnp.sum((y - params["mean"]) ** 2)
        >>> ys = np.array([[1.0, 2.0], [4.0, 6.0], [0.0, 0.0]])
        >>> result = om.minimize_batch(fun, {"mean": 0.0}, batch={"y": ys})
        >>> result.params["mean"].round(6)
        array([1.5, 5. , 0. ])
        >>> result.success
        array([ True,  True,  True])
    """
    return _solve_batch("minimize", locals())


def maximize_batch(
    fun: Callable[..., Any],
    params: Any = None,
    algorithm: Any = "jax_bfgs",
    *,
    batch: Any,
    bounds: Any = None,
    constraints: Any = None,
    fun_kwargs: dict[str, Any] | None = None,
    algo_options: dict[str, Any] | None = None,
    scaling: Any = False,
    logging: LogOptions | str | Path | None = None,
    collect_history: bool = False,
    progress: bool = False,
    batch_size: int | None = None,
    devices: Sequence[Any] | None = None,
) -> BatchResult:
    """Maximize a JAX criterion many times; all arguments as in ``minimize_batch``.

    Values have the sign of fun.

    Example:
        >>> import numpy as np
        >>> import optimagic_lite as om
        >>> starts = np.array([[0.0], [9.0]])
        >>> result = om.maximize_batch(lambda x: -((x - 2) ** 2).sum(), batch={"params": starts})
        >>> result.params.round(6)
        array([[2.],
               [2.]])
    """
    return _solve_batch("maximize", locals())


def _solve_batch(direction: Direction, a: dict[str, Any]) -> BatchResult:
    clock = time.perf_counter()
    algorithm = resolve_jax_algorithm(a["algorithm"], a["algo_options"], f"{direction}_batch")
    limits = {name: a[name] for name in ("bounds", "constraints", "scaling")}
    problem = JaxProblem(direction, a["fun"], algorithm, **limits)
    inputs = read_batch(a["batch"], a["params"], a["fun_kwargs"])
    size, devices = _checked_size(a["batch_size"]), _checked_devices(a["devices"])
    with jax.enable_x64(True):
        batch = make_batch(problem, inputs)
        size = size or n_fitting(batch.task, devices)
        with (
            opened_log(read_log_options(a["logging"]), batch) as log,
            opened_bar(a["progress"], batch) as bar,
        ):
            run = BatchRun(batch, log, bar, clock, collects=a["collect_history"])
            return run.result(run.solve(devices, size))


def _checked_size(size: Any) -> int | None:
    is_integer = isinstance(size, (int, np.integer)) and not isinstance(size, bool)
    if size is None or (is_integer and size >= 1):
        return None if size is None else int(size)
    raise InvalidAlgoOptionError(f"batch_size must be an integer, at least 1, not {size!r}.")


def _checked_devices(devices: Any) -> list[Any]:
    if devices is None:
        return list(jax.local_devices())
    known = [*jax.local_devices(backend="cpu"), *jax.local_devices()]
    is_list = isinstance(devices, Sequence) and not isinstance(devices, str) and len(devices) > 0
    if not is_list or any(device not in known for device in devices):
        raise InvalidAlgoOptionError(
            "devices must be a list of devices of JAX on this machine, such as jax.devices()[:1], "
            f"not {devices!r}. Leave it out to use all."
        )
    return list(dict.fromkeys(devices))
