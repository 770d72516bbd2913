"""What an estimate says about its precision: covariances and standard errors.

Estimators are those of White (1982, Econometrica 50, 1-25, doi:10.2307/1912526) for likelihoods and
White (1980, Econometrica 48, 817-838, doi:10.2307/1912934) for least squares. Constraints enter by
the tangent of what they leave free, as in Silvey (1959, Annals of Mathematical Statistics 30,
389-407, doi:10.1214/aoms/1177706259).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, get_args

import jax
import numpy as np
from numpy.typing import NDArray

from optimagic_lite.constraints import Constraint, read_constraints
from optimagic_lite.exceptions import (
    InvalidBoundsError,
    InvalidKwargsError,
    InvalidParamsError,
    NotAvailableError,
    did_you_mean,
)
from optimagic_lite.history import Direction
from optimagic_lite.inference.criterion import LocalCriterion
from optimagic_lite.inference.estimators import CovarianceMethod, Estimators
from optimagic_lite.inference.tangent import Tangent
from optimagic_lite.mark import Structure
from optimagic_lite.objective.objective import DerivativesArgument
from optimagic_lite.objective.outputs import nested
from optimagic_lite.objective.written import UserFunctions
from optimagic_lite.options import NumdiffOptions
from optimagic_lite.space.make import make_space
from optimagic_lite.space.space import Space
from optimagic_lite.space.trees import ParamTree

Array = NDArray[np.float64]
ReturnType = Literal["pytree", "array", "dataframe"]

_DEFAULTS: dict[Structure, CovarianceMethod] = {
    "likelihood": "hessian",
    "least_squares": "jacobian",
}


@dataclass(frozen=True, eq=False)
class Inference:
    """Second derivatives and covariances at the solution of a run.

    Args:
        functions: What the user gave.
        params: The solution.
        structure: What ``fun`` returns.
        direction: "minimize" or "maximize".
        bounds: As in ``minimize``.
        constraints: As in ``minimize``.
        derivatives: As in ``minimize``.
        numdiff: Options of numerical derivatives.
    """

    functions: UserFunctions
    params: Any
    structure: Structure
    direction: Direction = "minimize"
    bounds: Any = None
    constraints: tuple[Constraint, ...] = ()
    derivatives: DerivativesArgument = "auto"
    numdiff: NumdiffOptions = field(default_factory=NumdiffOptions)

    def hessian(self, return_type: ReturnType = "pytree") -> Any:
        """Return the second derivative of the criterion with respect to params at the solution.

        Of a likelihood, that is the derivative of the sum of the contributions; of least squares,
        that of the sum of squares. Constraints do not count: all parameters are varied.

        It is exact where JAX can differentiate fun, or hess was given. Else it is made of
        differences of the gradient, with about 8 digits, or of values, with about 4 to 6.

        Args:
            return_type: "pytree" (default): a tree of trees like ``jax.hessian(fun)(params)``, of
                NumPy arrays, and DataFrames where params hold pandas objects. "array": shape
                (n_params, n_params). "dataframe": labelled with the names of parameters.

        Raises:
            NotAvailableError: If there is no second derivative.
            UserFunctionRuntimeError: If a user function fails.

        Example:
            >>> import optimagic_lite as om
            >>> result = om.minimize(lambda x: x[0] ** 2 + x[0] * x[1] + 3 * x[1] ** 2,
            ...                      np.ones(2), "scipy_lbfgsb")
            >>> result.hessian().round(4)
            array([[2., 1.],
                   [1., 6.]])
        """
        _check_choice("return_type", return_type, ReturnType)
        with jax.enable_x64(True):
            sign = -1.0 if self.direction == "maximize" else 1.0
            matrix = sign * self._criterion(self._flat_space()).hessian
        return _matrix(matrix, ParamTree(self.params), return_type)

    def covariance(
        self, method: CovarianceMethod | None = None, return_type: ReturnType = "pytree"
    ) -> Any:
        """Return the covariance matrix of the estimated params.

        Constraints are kept: the covariance is that in the directions that they leave, and zero
        in all others. Bounds and inequalities that hold with equality count as equalities.

        ========== ============================== ===============================================
        method     likelihood                     least squares
        ========== ============================== ===============================================
        "hessian"  inverse of the Hessian H of    ``s2 inv(H / 2)``, H the Hessian of the sum of
                   the negative log likelihood    squares
        "jacobian" ``inv(S'S)``, S the scores     ``s2 inv(J'J)``, J the Jacobian of residuals
        "robust"   ``inv(H) S'S inv(H)``          ``inv(H / 2) J' diag(r**2) J inv(H / 2)``
        ========== ============================== ===============================================

        Here ``s2 = sum(r**2) / (m - n_free)`` with m residuals r. "robust" is valid where the
        model does not describe the distribution of the data (White 1982), or errors do not have
        one variance (White 1980, without a correction for small samples).

        Args:
            method: Default None means "hessian" for likelihoods and "jacobian" for least squares.
            return_type: "pytree" (default), "array" or "dataframe", as for ``hessian``.

        Raises:
            NotAvailableError: If fun is not marked as a likelihood or least squares, the data do
                not tell all parameters, or there are too few of them.
            UserFunctionRuntimeError: If a user function fails.

        Example:
            >>> import optimagic_lite as om
            >>> y = np.array([1.0, 2.0, 4.0, 5.0])
            >>> @om.mark.least_squares
            ... def residuals(params):
            ...     return y - params["mean"]
            >>> result = om.minimize(residuals, {"mean": 0.0}, "scipy_ls_trf")
            >>> result.covariance(return_type="dataframe").round(4)
                    mean
            mean  0.8333
        """
        _check_choice("return_type", return_type, ReturnType)
        return _matrix(self._flat_covariance(method), ParamTree(self.params), return_type)

    def standard_errors(
        self, method: CovarianceMethod | None = None, return_type: ReturnType = "pytree"
    ) -> Any:
        """Return the standard errors of the estimated params.

        Args:
            method: See ``covariance``.
            return_type: "pytree" (default): like params. "array": in flat order. "dataframe": with
                columns value, standard_error and note. The note says why a standard error is zero
                or depends on a constraint: "fixed", "at bound", "binding constraint", or "".

        Raises:
            OptimagicError: As ``covariance`` does.

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
        _check_choice("return_type", return_type, ReturnType)
        tree = ParamTree(self.params)
        errors = np.sqrt(np.diag(self._flat_covariance(method)))
        if return_type == "pytree":
            return tree.to_params(errors)
        if return_type == "array":
            return errors
        import pandas as pd

        with jax.enable_x64(True):
            columns = {
                "value": tree.start_values(),
                "standard_error": errors,
                "note": self._tangent.notes,
            }
        return pd.DataFrame(columns, index=tree.names)

    # ---- the place -----------------------------------------------------------------------

    def _criterion(self, space: Space) -> LocalCriterion:
        return LocalCriterion(
            self.functions,
            space,
            self.structure,
            self.direction == "maximize",
            self.derivatives,
            self.numdiff,
        )

    def _flat_space(self) -> Space:
        """Return the space of all parameters, in which bounds keep differences inside."""
        bounded = self._space(())
        flat = bounded.to_flat(bounded.x0)
        lower, upper = np.full(len(flat), -np.inf), np.full(len(flat), np.inf)
        places = np.arange(len(flat)) if bounded.plan is None else bounded.plan.gather
        is_free = places < bounded.n_x
        lower[is_free], upper[is_free] = bounded.lower, bounded.upper
        return Space(bounded.tree, flat, lower, upper)

    def _space(self, constraints: Sequence[Constraint]) -> Space:
        try:
            return make_space(self.params, bounds=self.bounds, constraints=constraints)
        except (InvalidParamsError, InvalidBoundsError) as error:
            raise NotAvailableError(
                "Params must fulfil bounds and constraints, so that one can say how they may "
                f"vary. What was said of them as a start: {error}"
            ) from error

    @cached_property
    def _tangent(self) -> Tangent:
        return Tangent.of(self._criterion(self._space(self.constraints)))

    # ---- covariances in params -----------------------------------------------------------

    def _flat_covariance(self, method: CovarianceMethod | None) -> Array:
        """Return the covariance matrix of the flat vector."""
        if self.structure == "scalar":
            raise NotAvailableError(
                "Standard errors need more than one number from fun. Let it return contributions "
                "to the log likelihood, or residuals, and mark it with om.mark.likelihood or "
                "om.mark.least_squares; algorithms work with it as before."
            )
        if method is not None:
            _check_choice("method", method, CovarianceMethod)
        with jax.enable_x64(True):
            tangent = self._tangent
            n_params = len(tangent.criterion.space.names)
            if tangent.criterion.space.n_x == 0 or tangent.n_free == 0:
                return np.zeros((n_params, n_params))
            method = method or _DEFAULTS[self.structure]
            covariance = Estimators(tangent, method).covariance()
            out = tangent.in_params @ covariance @ tangent.in_params.T
        return np.asarray((out + out.T) / 2)


def make_inference(
    functions: UserFunctions,
    params: Any,
    structure: Structure,
    *,
    direction: Direction = "minimize",
    bounds: Any = None,
    constraints: Any = None,
    derivatives: DerivativesArgument = "auto",
    numdiff: NumdiffOptions | None = None,
) -> Inference:
    """Keep what is needed to say later how precise an estimate is; nothing is evaluated.

    Args:
        functions: What the user gave.
        params: The solution.
        structure: What ``fun`` returns.
        direction: "minimize" or "maximize".
        bounds: As in ``minimize``.
        constraints: As in ``minimize``; an iterator is read here.
        derivatives: As in ``minimize``.
        numdiff: Options of numerical derivatives; None means the defaults.
    """
    return Inference(
        functions,
        params,
        structure,
        direction,
        bounds,
        read_constraints(constraints),
        derivatives,
        NumdiffOptions() if numdiff is None else numdiff,
    )


def available(inference: Inference | None) -> Inference:
    """Return what a result knows, or say why it knows nothing.

    Args:
        inference: What it knows; None if its functions are lost.

    Raises:
        NotAvailableError: If it knows nothing.
    """
    if inference is None:
        raise NotAvailableError(
            "The functions of the run are not part of a result that was loaded from a file. Call "
            "minimize or maximize again, starting at the params of this result, and ask the new "
            "result."
        )
    return inference


def _matrix(matrix: Array, tree: ParamTree, return_type: ReturnType) -> Any:
    """Return a matrix over the parameters in the form that was asked for."""
    if return_type == "array":
        return matrix
    if return_type == "pytree":
        return nested(matrix, (tree, tree))
    import pandas as pd

    return pd.DataFrame(matrix, index=tree.names, columns=tree.names)


def _check_choice(name: str, value: Any, choices: Any) -> None:
    valid = get_args(choices)
    if value not in valid:
        raise InvalidKwargsError(
            f"{name} must be one of {', '.join(map(repr, valid))}, not {value!r}."
            + did_you_mean(value, valid)
        )
