"""What a run returns, and the table that it prints."""

from __future__ import annotations

import contextlib
import html
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from optimagic_lite.deprecations.names import RESULT, old_attribute
from optimagic_lite.history import Direction, History
from optimagic_lite.inference.estimators import CovarianceMethod
from optimagic_lite.inference.inference import Inference, ReturnType, available
from optimagic_lite.multistart.info import MultistartInfo
from optimagic_lite.objective.objective import Derivatives
from optimagic_lite.space.trees import ParamTree

if TYPE_CHECKING:
    from optimagic_lite.algorithms.base import Algorithm, Outcome
    from optimagic_lite.evaluator import Evaluator
    from optimagic_lite.log.reader import LogReader
    from optimagic_lite.space.space import Space

_TREES = ("params", "start_params", "jac")
_STARS = ((1e-10, "***"), (1e-8, "**"), (1e-5, "*"))
_LEGEND = "*** change <= 1e-10, ** <= 1e-8, * <= 1e-5, between the best points so far"


@dataclass
class OptimizeResult:
    """The result of ``minimize`` or ``maximize``.

    All attributes can be read by key too, ``result["fun"]``, and by SciPy's names ``x, x0, nfev,
    njev, nhev, nit``.

    Attributes:
        params: The best parameters that were evaluated, in the structure of the start params.
        fun: Their value.
        start_fun: Value at the start.
        start_params: The start params.
        algorithm: Name of the algorithm.
        direction: "minimize" or "maximize".
        n_free: Number of free parameters: degrees of freedom that constraints leave.
        message: Why the run ended, and what to do if it did not converge.
        success: Whether the algorithm converged.
        n_fun_evals: Evaluations of the criterion, the start included.
        n_jac_evals: Evaluations of the gradient.
        n_hess_evals: Evaluations of the Hessian or of its product with a vector.
        n_iterations: Iterations, where the library counts them.
        n_numdiff_evals: Further evaluations of the criterion for difference quotients.
        n_constraint_evals: Evaluations of the constraints that the solver takes natively.
        n_failed_evals: Evaluations that failed (``error_handling="continue"``).
        status: Code of the library; 101 and above for limits and callbacks.
        jac: Gradient at ``params``, in their structure, where the solver knows it and no
            constraint ties parameters.
        hess: Hessian at the solver's last point, shape (n_params, n_params), where it knows it.
        hess_inv: Its approximate inverse, likewise.
        max_constraint_violation: Largest violation of bounds and constraints at ``params``.
        history: All evaluations, or None with ``collect_history=False``.
        derivatives: Which derivatives were used and why.
        multistart_info: Start points, local optima and exploration; None without multistart.
        algorithm_output: Further output of the library.
        elapsed: Seconds.
        log_path: The file of the log, or its URL, or None.
        log_run: Number of the run there, as the reader counts: from 0.
    """

    params: Any
    fun: float
    start_fun: float
    start_params: Any
    algorithm: str
    direction: Direction
    n_free: int
    message: str
    success: bool
    n_fun_evals: int
    n_jac_evals: int
    n_hess_evals: int
    n_iterations: int | None
    n_numdiff_evals: int
    n_constraint_evals: int
    n_failed_evals: int
    status: int | None
    jac: Any
    hess: NDArray[np.float64] | None
    hess_inv: NDArray[np.float64] | None
    max_constraint_violation: float
    history: History | None
    derivatives: Derivatives
    multistart_info: MultistartInfo | None = None
    algorithm_output: dict[str, Any] = field(default_factory=dict)
    elapsed: float = 0.0
    log_path: Path | str | None = None
    log_run: int | None = None
    _inference: Inference | None = field(default=None, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        # pickle brings JAX arrays of double precision back in single precision
        tree = ParamTree(self.params)
        trees = {name: getattr(self, name) for name in _TREES}
        flat = {name: None if t is None else tree.to_flat(t) for name, t in trees.items()}
        # nor can functions be taken along
        return self.__dict__ | {"_tree": tree, "_inference": None} | flat

    def __setstate__(self, state: dict[str, Any]) -> None:
        tree = state.pop("_tree")
        flat = {name: state[name] for name in _TREES}
        trees = {name: None if f is None else tree.to_params(f) for name, f in flat.items()}
        self.__dict__.update(state | trees)

    def __getattr__(self, name: str) -> Any:
        if hasattr(type(self), name):
            # a property has raised, and shall say so itself
            return object.__getattribute__(self, name)
        return old_attribute(self, name, RESULT)

    def __getitem__(self, key: str) -> Any:
        if isinstance(key, str) and not key.startswith("_"):
            with contextlib.suppress(AttributeError):
                return getattr(self, key)
        raise KeyError(f"{key!r} is no attribute of the result.")

    @property
    def x(self) -> Any:
        """The same as ``params``."""
        return self.params

    @property
    def x0(self) -> Any:
        """The same as ``start_params``."""
        return self.start_params

    @property
    def nfev(self) -> int:
        """The same as ``n_fun_evals``."""
        return self.n_fun_evals

    @property
    def njev(self) -> int:
        """The same as ``n_jac_evals``."""
        return self.n_jac_evals

    @property
    def nhev(self) -> int:
        """The same as ``n_hess_evals``."""
        return self.n_hess_evals

    @property
    def nit(self) -> int | None:
        """The same as ``n_iterations``."""
        return self.n_iterations

    @property
    def logger(self) -> LogReader | None:
        """A reader of the log, or None."""
        if self.log_path is None:
            return None
        from optimagic_lite.log.reader import open_reader

        return open_reader(self.log_path)

    @property
    def convergence_report(self) -> dict[str, dict[str, float]] | None:
        """Changes over the last step and the last five steps between best points so far.

        Relative changes are divided by the last value, at least 0.1 in absolute terms. None
        without a history or with fewer than two steps.
        """
        return None if self.history is None else convergence_report(self.history)

    def hessian(self, return_type: ReturnType = "pytree") -> Any:
        """Return the second derivative of the criterion at ``params``.

        See ``Inference.hessian`` for what it is and how exact.

        Args:
            return_type: "pytree" (default): a tree of trees like ``jax.hessian(fun)(params)``.
                "array": shape (n_params, n_params). "dataframe": labelled by parameters.

        Raises:
            NotAvailableError: If there is no second derivative.
        """
        return available(self._inference).hessian(return_type)

    def covariance(
        self, method: CovarianceMethod | None = None, return_type: ReturnType = "pytree"
    ) -> Any:
        """Return the covariance matrix of estimated params, after a likelihood or least squares.

        Constraints are kept; fixed and binding parameters have variance zero. See
        ``Inference.covariance`` for the formulas.

        Args:
            method: "hessian" (default for likelihoods), "jacobian" (default for least squares), or
                "robust".
            return_type: "pytree" (default), "array" or "dataframe", as for ``hessian``.

        Raises:
            NotAvailableError: If fun is not marked as a likelihood or least squares, or the data
                do not tell all parameters.
        """
        return available(self._inference).covariance(method, return_type)

    def standard_errors(
        self, method: CovarianceMethod | None = None, return_type: ReturnType = "pytree"
    ) -> Any:
        """Return the standard errors of estimated params, after a likelihood or least squares.

        Args:
            method: See ``covariance``.
            return_type: "pytree" (default): like params. "array": in flat order. "dataframe": with
                columns value, standard_error and note.

        Raises:
            NotAvailableError: As ``covariance`` does.

        Example:
            >>> import optimagic_lite as om
            >>> y = np.array([1.0, 2.0, 4.0, 5.0])
            >>> @om.mark.least_squares
            ... def residuals(params):
            ...     return y - params["mean"]
            >>> result = om.minimize(residuals, {"mean": 0.0}, "scipy_ls_trf")
            >>> round(result.standard_errors()["mean"], 4)
            0.9129
        """
        return available(self._inference).standard_errors(method, return_type)

    def to_pickle(self, path: str | Path) -> None:
        """Save the result.

        Args:
            path: File to write.
        """
        Path(path).write_bytes(pickle.dumps(self))

    def __repr__(self) -> str:
        lines = [self._headline(), ""]
        width = max(len(name) for name, _ in self._rows())
        lines += [f"  {name:<{width}}  {text}" for name, text in self._rows()]
        if self.convergence_report is not None:
            lines += ["", *_report_lines(self.convergence_report)]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
            f"<td style='text-align:left'>{html.escape(text)}</td></tr>"
            for name, text in self._rows()
        )
        report = self.convergence_report
        lines = html.escape("\n".join(_report_lines(report))) if report is not None else ""
        return (
            f"<p><b>{html.escape(self._headline())}</b></p><table>{rows}</table><pre>{lines}</pre>"
        )

    def _headline(self) -> str:
        verb = "converged" if self.success else "did not converge"
        direction = self.direction.capitalize()
        return f"{direction} over {self.n_free} free parameters with {self.algorithm} {verb}."

    def _rows(self) -> list[tuple[str, str]]:
        counts = [
            (self.n_fun_evals, "criterion"),
            (self.n_jac_evals, "gradient"),
            (self.n_hess_evals, "Hessian"),
            (self.n_numdiff_evals, "for differences"),
            (self.n_constraint_evals, "constraints"),
            (self.n_failed_evals, "failed"),
        ]
        rows = [
            ("value", f"{self.fun:.10g} (start {self.start_fun:.10g})"),
            ("params", _short(self.params)),
        ]
        if self.max_constraint_violation:
            rows.append(("violation", f"{self.max_constraint_violation:.3g}"))
        if self.multistart_info is not None:
            rows.append(("multistart", str(self.multistart_info)))
        rows += [
            ("message", self.message),
            ("evaluations", ", ".join(f"{n:,} {what}" for n, what in counts if n)),
        ]
        if self.n_iterations is not None:
            rows.append(("iterations", f"{self.n_iterations:,}"))
        rows += [("derivatives", str(self.derivatives)), ("time", f"{self.elapsed:.3g} seconds")]
        if self.log_path is not None:
            rows.append(("log", f"{self.log_path}, run {self.log_run}"))
        return rows


def make_result(
    *,
    evaluator: Evaluator,
    outcome: Outcome,
    algorithm: Algorithm,
    direction: Direction,
    history: History | None,
    inference: Callable[[Any], Inference],
) -> OptimizeResult:
    """Turn what evaluator and solver know into the user's words.

    Args:
        evaluator: Knows the best point and the counts.
        outcome: What the solver reported.
        algorithm: The algorithm.
        direction: "minimize" or "maximize".
        history: All evaluations, or None.
        inference: Returns what is known of the precision of params.
    """
    space: Space = evaluator.space
    sign = evaluator.objective.sign
    x, gradient = evaluator.best_x, evaluator.best_gradient
    if gradient is None and not evaluator.has_failed_at_best:
        gradient = outcome.gradient_at(x)
    hess = space.matrix_in_params(outcome.hess)
    hess_inv = space.matrix_in_params(outcome.hess_inv, inverse=True)
    params = space.to_params(x)
    return OptimizeResult(
        params=params,
        fun=evaluator.user_value(evaluator.best_f),
        start_fun=evaluator.start_fun,
        start_params=space.to_params(space.x0),
        algorithm=algorithm.name,
        direction=direction,
        n_free=space.n_free,
        message=outcome.message,
        success=outcome.success,
        n_fun_evals=evaluator.n_fun,
        n_jac_evals=evaluator.n_jac,
        n_hess_evals=evaluator.n_hess,
        n_iterations=outcome.n_iterations,
        n_numdiff_evals=evaluator.n_numdiff,
        n_constraint_evals=evaluator.n_constraint,
        n_failed_evals=evaluator.n_failed,
        status=outcome.status,
        jac=None if gradient is None else space.gradient_in_params(sign * gradient),
        hess=None if hess is None else sign * hess,
        hess_inv=None if hess_inv is None else sign * hess_inv,
        max_constraint_violation=evaluator.violation(x),
        history=history,
        derivatives=evaluator.objective.derivatives,
        algorithm_output=outcome.info,
        elapsed=evaluator.elapsed(),
        _inference=inference(params),
    )


def convergence_report(history: History) -> dict[str, dict[str, float]] | None:
    """Return the changes over the last step and the last five steps between best points.

    Args:
        history: All evaluations.

    Returns:
        Columns "one_step" and "five_steps", each with relative and absolute changes of the
        criterion and of the params (Euclidean); None if there were fewer than two steps.
    """
    positions = np.flatnonzero(history.is_accepted)[-6:]
    if len(positions) < 2:
        return None
    fun = np.array(history.fun)[positions]
    flat = history.flat_at(positions)
    report = {}
    for name, n_points in (("one_step", 2), ("five_steps", 6)):
        last_fun, last_flat = fun[-n_points:], flat[-n_points:]
        df = abs(last_fun[-1] - last_fun[0])
        dx = last_flat - last_flat[-1]
        scale = np.maximum(np.abs(last_flat[-1]), 0.1)
        report[name] = {
            "relative_criterion_change": float(df / max(abs(last_fun[-1]), 0.1)),
            "relative_params_change": float(np.linalg.norm(dx / scale, axis=1).max()),
            "absolute_criterion_change": float(df),
            "absolute_params_change": float(np.linalg.norm(dx, axis=1).max()),
        }
    return report


def _report_lines(report: dict[str, dict[str, float]]) -> list[str]:
    one, five = report["one_step"], report["five_steps"]
    head = f"  {'':<26}  {'last step':<14}  last five steps"
    body = [
        f"  {name.replace('_', ' '):<26}  {_starred(one[name]):<14}  {_starred(five[name])}"
        for name in one
    ]
    return [head, *body, f"  {_LEGEND}"]


def _starred(change: float) -> str:
    stars = next((stars for limit, stars in _STARS if change <= limit), "")
    return f"{change:.4g}{stars}"


def _short(params: Any, limit: int = 500) -> str:
    text = repr(params).replace("\n", "\n" + " " * 15)
    return text if len(text) <= limit else f"{text[: limit - 4]} ..."
