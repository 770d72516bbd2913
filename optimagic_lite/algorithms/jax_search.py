"""A line search along the projection of a ray onto a box, one evaluation at a time.

The conditions of Armijo along the projected arc (Bertsekas 1976, doi:10.1109/TAC.1976.1101194),
and close to a minimum, where rounding hides a decrease, a smaller projected gradient instead
(after Hager and Zhang 2005, doi:10.1137/030601880).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from optimagic_lite.algorithms.jax_pass import Box

_ARMIJO = 1e-4
_EPS = float(np.finfo(np.float64).eps)
# a change of the value, relative to it, that rounding alone may cause
_ROUNDING = 10 * _EPS
# factors by which a rejected step is shortened; what was not finite says nothing of the best one
_LEAST, _MOST, _BLIND = 0.1, 0.5, 0.2


class Trial(NamedTuple):
    """What a search makes of a point.

    Attributes:
        accepted: Whether the point is the next iterate.
        length: Length of the next step to try along the same direction if it is not.
        is_stuck: Whether the step was so short that rounding swallowed it.
    """

    accepted: jax.Array
    length: jax.Array
    is_stuck: jax.Array


def judge(
    box: Box,
    x: jax.Array,
    f: jax.Array,
    g: jax.Array,
    trial: jax.Array,
    f_trial: jax.Array,
    g_trial: jax.Array,
    length: jax.Array,
) -> Trial:
    """Accept or reject a trial point.

    Args:
        box: Bounds.
        x: The iterate, shape (n,).
        f: The criterion there; infinite if there is none yet, so that the trial is taken.
        g: Its gradient.
        trial: The point, shape (n,).
        f_trial: The criterion there; it may be not finite.
        g_trial: Its gradient.
        length: Length of the step, in multiples of the direction.
    """
    step = trial - x
    slope = g @ step
    is_lower = f_trial <= f + _ARMIJO * jnp.minimum(slope, 0.0)
    is_level = jnp.abs(f_trial - f) <= _ROUNDING * jnp.maximum(jnp.abs(f), jnp.abs(f_trial))
    before, after = (jnp.abs(box.projected(*v)).max() for v in ((x, g), (trial, g_trial)))
    is_fine = jnp.isfinite(f_trial) & jnp.isfinite(g_trial).all()
    is_known = jnp.isfinite(f)
    accepted = is_fine & (~is_known | (is_lower & (slope < 0)) | (is_level & (after < before)))
    # the minimum of the parabola through value and slope at x and value at the trial point
    bend = f_trial - f - slope
    parabola = jnp.clip(-0.5 * slope / jnp.where(bend > 0, bend, 1.0), _LEAST, _MOST)
    factor = jnp.where(jnp.isfinite(f_trial) & (bend > 0), parabola, _BLIND)
    is_stuck = (jnp.abs(step) <= _EPS * jnp.abs(x)).all() & ~accepted
    return Trial(accepted, length * factor, is_stuck)
