"""Bijections between boxes and the flat forms of covariance matrices."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from optimagic_lite.space.transforms import Transform, open_units, without_rounding
from optimagic_lite.utilities import cov_matrix_to_params, cov_params_to_matrix

Array = NDArray[np.float64]

# how far a neighbour of a singular matrix lies inside: relative size of a diagonal, and radians
_NEAR_DIAGONAL = 1e-2
_NEAR_ANGLE = 5e-2
_STEPS = tuple(2.0**-k for k in range(0, 20, 2))


@dataclass(frozen=True)
class Cholesky(Transform):
    """The lower triangle of a covariance matrix, from that of its Cholesky factor.

    Pinheiro and Bates (1996), doi:10.1007/BF00140873.

    Args:
        dim: Number of rows.
        first_lower: Lower bound of the first standard deviation, shape (1,).
        first_upper: Upper bound of the first standard deviation, shape (1,).
        regularization: Square of the smallest diagonal entry of the factor.
    """

    dim: int
    first_lower: Array
    first_upper: Array
    regularization: float

    @cached_property
    def lower(self) -> Array:
        """The diagonal is at least the root of the regularization."""
        out = np.full(self.dim * (self.dim + 1) // 2, -np.inf)
        out[_diagonal(self.dim)] = np.sqrt(self.regularization)
        out[0] = max(out[0], self.first_lower[0])
        return out

    @cached_property
    def upper(self) -> Array:
        """Only the first standard deviation can be bounded from above."""
        out = np.full(self.dim * (self.dim + 1) // 2, np.inf)
        out[0] = self.first_upper[0]
        return out

    @property
    def n_free(self) -> int:
        """Without a first variance, what stands below it turns the factor and not the matrix."""
        n_idle = self.dim - 1 if self.upper[0] <= 0 else 0
        return super().n_free - n_idle

    def forward(self, t: jax.Array) -> jax.Array:
        """Multiply the factor with its transpose."""
        index = np.tril_indices(self.dim)
        factor = jnp.zeros((self.dim, self.dim)).at[index].set(t)
        return (factor @ factor.T)[index]

    def inverse(self, block: Array, *, margin: float = 1.0) -> Array:
        """Factorise."""
        del margin
        factor = semidefinite_cholesky(cov_params_to_matrix(block))
        return np.clip(factor[np.tril_indices(self.dim)], self.lower, self.upper)

    def may_deceive(self, t: Array, *, has_gradient: bool) -> bool:
        """Tell whether the matrix is nearly singular, where the diagonal may reach zero."""
        del has_gradient
        return len(self._zeros(t)) > 0

    def _zeros(self, t: Array) -> NDArray[np.intp]:
        """Positions of zeros on the diagonal that can be raised."""
        positions = _diagonal(self.dim)
        size = max(float(np.abs(t).max()), 1.0)
        is_zero = t[positions] <= _NEAR_DIAGONAL * size
        is_free = (self.lower[positions] <= 0) & (self.upper[positions] > 0)
        return positions[is_zero & is_free]

    def escapes(self, t: Array, block: Array, gradient: Array | None) -> list[Array]:
        """Return matrices with something added where the criterion falls, or zeros raised."""
        if gradient is None:
            size = max(1.0, float(np.abs(t).max()))
            return [self._raised(t, i, _NEAR_DIAGONAL * size) for i in self._zeros(t).tolist()]
        steps = _projected_steps(cov_params_to_matrix(block), cov_params_to_matrix(gradient))
        return [self.inverse(cov_matrix_to_params(matrix)) for matrix in steps]

    def moves(self, block: Array) -> list[Array]:
        """Return directions that add a matrix of rank one to the covariance."""
        unit = np.eye(self.dim)
        vectors = [unit[i] for i in range(self.dim)]
        for i in range(self.dim):
            vectors += [unit[i] + sign * unit[j] for j in range(i) for sign in (1.0, -1.0)]
        size = max(1.0, float(np.abs(block).max()))
        return [size * cov_matrix_to_params(np.outer(v, v)) for v in vectors]

    def _raised(self, t: Array, i: int, value: float) -> Array:
        out = t.copy()
        out[i] = min(value, self.upper[i])
        return out


@dataclass(frozen=True)
class Spherical(Transform):
    """Standard deviations (or variances) and correlations, from spherical coordinates.

    Row i of the Cholesky factor of the correlation matrix is a point on the unit sphere with
    angles in [0, pi] (Pinheiro and Bates 1996, doi:10.1007/BF00140873; Rapisarda, Brigo and
    Mercurio 2007, doi:10.1093/imaman/dpl010). Smooth up to singular matrices.

    Args:
        dim: Number of rows.
        sd_lower: Lower bounds of the standard deviations, shape (dim,).
        sd_upper: Upper bounds of the standard deviations, shape (dim,).
        as_covariance: Whether the block is the lower triangle of the covariance matrix, row by
            row, or else standard deviations and then correlations.
    """

    dim: int
    sd_lower: Array
    sd_upper: Array
    as_covariance: bool

    @cached_property
    def lower(self) -> Array:
        """Bounds of the standard deviations, then 0."""
        return np.concatenate([self.sd_lower, np.zeros(self.dim * (self.dim - 1) // 2)])

    @cached_property
    def upper(self) -> Array:
        """Bounds of the standard deviations, then pi."""
        return np.concatenate([self.sd_upper, np.full(self.dim * (self.dim - 1) // 2, np.pi)])

    def forward(self, t: jax.Array) -> jax.Array:
        """Build the factor row by row on the sphere."""
        dim = self.dim
        sds, angles = t[:dim], t[dim:]
        below = np.tril_indices(dim, -1)
        cosines = jnp.eye(dim).at[below].set(jnp.cos(angles))
        sines = jnp.ones((dim, dim)).at[below].set(jnp.sin(angles))
        heights = jnp.concatenate([jnp.ones((dim, 1)), jnp.cumprod(sines, axis=1)[:, :-1]], axis=1)
        factor = cosines * heights
        ones = np.ones(len(below[0]))
        correlations = without_rounding((factor @ factor.T)[below], -ones, ones)
        if not self.as_covariance:
            return jnp.concatenate([sds, correlations])
        products = jnp.outer(sds, sds)
        filled = jnp.diag(jnp.diag(products)).at[below].set(products[below] * correlations)
        return filled[np.tril_indices(dim)]

    def inverse(self, block: Array, *, margin: float = 1.0) -> Array:
        """Factorise and return the angles of each row."""
        del margin
        dim = self.dim
        below = np.tril_indices(dim, -1)
        if self.as_covariance:
            sds, corr = _scaled_to_correlation(cov_params_to_matrix(block))
        else:
            sds = block[:dim]
            corr = np.zeros((dim, dim))
            corr[below] = block[dim:]
            corr += corr.T
        np.fill_diagonal(corr, 1.0)
        squares = (factor := semidefinite_cholesky(corr)) ** 2
        # what a row has beyond a column, summed from the end: differences would lose all digits
        later = np.sqrt(np.cumsum(squares[:, ::-1], axis=1)[:, ::-1] - squares)
        angles = np.arctan2(later, factor)[below]
        return np.asarray(np.clip(np.concatenate([sds, angles]), self.lower, self.upper))

    def sample(self, units: Array, start: Array) -> Array:
        """Spread evenly over correlation matrices; standard deviations like entries of a box.

        The cosine of an angle of column j, counted from one, is ``2 b - 1`` with b distributed as
        Beta(a, a), ``a = 1 + (dim - 1 - j) / 2`` (Lewandowski, Kurowicka and Joe 2009,
        doi:10.1016/j.jmva.2009.04.008).
        """
        from scipy.special import betaincinv

        out = super().sample(units, start)
        a = 1 + (self.dim - 2 - np.tril_indices(self.dim, -1)[1]) / 2
        out[:, self.dim :] = np.arccos(2 * betaincinv(a, a, open_units(units[:, self.dim :])) - 1)
        return np.clip(out, self.lower, self.upper)

    def may_deceive(self, t: Array, *, has_gradient: bool) -> bool:
        """Tell whether an angle is nearly 0 or pi, or a standard deviation of a covariance zero."""
        del has_gradient
        return bool(self._edges(t).any()) or bool(self._zeros(t).any())

    def _edges(self, t: Array) -> NDArray[np.bool_]:
        return np.sin(t[self.dim :]) < _NEAR_ANGLE / 2

    def _zeros(self, t: Array) -> NDArray[np.bool_]:
        sds, upper = t[: self.dim], self.upper[: self.dim]
        return self.as_covariance & (sds <= _NEAR_DIAGONAL / 2) & (upper > 0)

    def escapes(self, t: Array, block: Array, gradient: Array | None) -> list[Array]:
        """Return projected steps against the gradient; else t with angles moved from the edge."""
        if gradient is not None:
            return [self.inverse(near) for near in self._lower_blocks(block, gradient)]
        dim = self.dim
        found = []
        for i in np.flatnonzero(self._zeros(t)).tolist():
            raised = t.copy()
            raised[i] = min(_NEAR_DIAGONAL, self.upper[i])
            found.append(raised)
        rows, columns = np.tril_indices(dim, -1)
        for k in np.flatnonzero(self._edges(t)).tolist():
            moved = t.copy()
            is_low = moved[dim + k] < 1
            moved[dim + k] = _NEAR_ANGLE if is_low else np.pi - _NEAR_ANGLE
            found.append(moved)
            if columns[k] + 1 < rows[k]:
                for angle in (_NEAR_ANGLE, np.pi - _NEAR_ANGLE):
                    turned = moved.copy()
                    turned[dim + k + 1] = angle
                    found.append(turned)
        return found

    def _lower_blocks(self, block: Array, gradient: Array) -> list[Array]:
        """Return blocks on projected steps against the gradient."""
        dim = self.dim
        below = np.tril_indices(dim, -1)
        if self.as_covariance:
            steps = _projected_steps(cov_params_to_matrix(block), cov_params_to_matrix(gradient))
            return [self._block(*_scaled_to_correlation(matrix)) for matrix in steps]
        corr, slope = np.zeros((dim, dim)), np.zeros((dim, dim))
        corr[below], slope[below] = block[dim:], gradient[dim:]
        found = []
        for step in _STEPS:
            sds = block[:dim] - step * gradient[:dim] * _reach(block[:dim], gradient[:dim])
            moved = corr + corr.T - step * (slope + slope.T) * _reach(np.ones(1), slope)
            np.fill_diagonal(moved, 1.0)
            found.append(self._block(sds, _scaled_to_correlation(_semidefinite(moved))[1]))
        return found

    def _block(self, sds: Array, corr: Array) -> Array:
        """Return the block of standard deviations, moved into their bounds, and correlations."""
        sds = np.clip(sds, self.sd_lower, self.sd_upper)
        if self.as_covariance:
            return np.asarray(cov_matrix_to_params(np.outer(sds, sds) * corr))
        return np.concatenate([sds, corr[np.tril_indices(self.dim, -1)]])

    def moves(self, block: Array) -> list[Array]:
        """Return directions to matrices with one correlation and to other standard deviations."""
        dim = self.dim
        if self.as_covariance:
            sds, corr = _scaled_to_correlation(cov_params_to_matrix(block))
        else:
            sds, corr = block[:dim], np.eye(dim)
            corr[np.tril_indices(dim, -1)] = block[dim:]
            corr = np.tril(corr) + np.tril(corr, -1).T
        found = []
        for i in range(dim):
            for target in (2.0 * sds[i] + 1.0, 0.5 * sds[i]):
                moved = sds.copy()
                moved[i] = target
                found.append(self._block(moved, corr))
            for j in range(i):
                for value in (0.5, -0.5):
                    other = np.eye(dim)
                    other[i, j] = other[j, i] = value
                    # half of the way, so that the direction in which sds move stays small
                    found.append(self._block(sds, (corr + other) / 2))
        return [point - block for point in found if not np.array_equal(point, block)]


def _reach(point: Array, gradient: Array) -> float:
    """Return the length of a step that changes the point by about its own size."""
    steepest = float(np.abs(gradient).max())
    return max(1.0, float(np.abs(point).max())) / steepest if steepest > 0 else 0.0


def _projected_steps(matrix: Array, gradient: Array) -> list[Array]:
    """Return matrices on steps against a gradient, made positive semidefinite.

    Args:
        matrix: Symmetric, shape (n, n).
        gradient: With respect to the entries of the lower triangle, in both triangles.
    """
    # an entry off the diagonal stands for two
    slope = (gradient + np.diag(np.diag(gradient))) / 2
    reach = _reach(matrix, slope)
    return [_semidefinite(matrix - step * reach * slope) for step in _STEPS]


def _semidefinite(matrix: Array) -> Array:
    """Return the closest semidefinite matrix (Higham 1988, doi:10.1016/0024-3795(88)90223-6)."""
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray((vectors * np.maximum(values, 0.0)) @ vectors.T)


def _scaled_to_correlation(covariance: Array) -> tuple[Array, Array]:
    """Return standard deviations and correlations; those of zero variances are zero."""
    sds = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    scale = np.where(sds > 0, sds, 1.0)
    corr = covariance / np.outer(scale, scale)
    np.fill_diagonal(corr, 1.0)
    return sds, corr


def semidefinite_cholesky(matrix: Array) -> Array:
    """Return a lower triangular L with L L' = matrix, also for singular matrices.

    Args:
        matrix: Symmetric and positive semidefinite, shape (n, n).

    Returns:
        L with a diagonal of at least zero.
    """
    try:
        return np.asarray(np.linalg.cholesky(matrix))
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(matrix)
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        factor = np.asarray(np.linalg.qr(root.T, mode="r")).T
        signs = np.where(np.diag(factor) < 0, -1.0, 1.0)
        return np.asarray(factor * signs)


def _diagonal(dim: int) -> NDArray[np.intp]:
    """Positions of the diagonal in the lower triangle, row by row."""
    return np.cumsum(np.arange(1, dim + 1)) - 1
