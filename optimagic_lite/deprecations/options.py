"""Dicts of options as they were written in the past."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from typing import Any

from optimagic_lite.deprecations.names import (
    ALGO_OPTIONS,
    Advice,
    Call,
    dotless,
    renamed,
    shown,
)
from optimagic_lite.exceptions import (
    AliasError,
    InvalidAlgoOptionError,
    InvalidMultistartError,
    InvalidNumdiffOptionsError,
)

_MULTISTART = {"convergence_relative_params_tolerance": "convergence_xtol_rel"}
_SHARES = ("share_optimization", "share_optimizations")
_ERROR_HANDLING = ("optimization_error_handling", "exploration_error_handling")
_DISTRIBUTIONS = {"triangle": "triangular"}

# all old names of fields, for messages
MULTISTART_FIELDS = {
    **_MULTISTART,
    **dict.fromkeys(_SHARES, "stopping_maxopt"),
    **dict.fromkeys(_ERROR_HANDLING, "error_handling"),
}

_NUMDIFF = {"base_steps": "step_size"}
# with one step a parameter
_WITHOUT_EFFECT = ("n_steps", "step_ratio")


def new_algo_options(options: Mapping[str, Any]) -> tuple[Call, Advice]:
    """Return options of an algorithm by their names of today, and what was changed.

    Raises:
        InvalidAlgoOptionError: If one option is given by two names.
    """
    return renamed(options, dotless(ALGO_OPTIONS, options), InvalidAlgoOptionError)


def new_numdiff_options(options: Mapping[str, Any]) -> tuple[Call, Advice]:
    """Return options of numerical derivatives by their names of today, and what was changed.

    Raises:
        AliasError: If one option is given by two names.
        InvalidNumdiffOptionsError: If one of them cannot be had any more.
    """
    out, advice = renamed(options, _NUMDIFF)
    if out.get("n_steps") not in (None, 1):
        raise InvalidNumdiffOptionsError(
            f"n_steps={out['n_steps']!r} asks for Richardson extrapolation, which there is not. "
            'Leave it out: method="central" has an error of order step squared, and functions '
            "written with jax.numpy have exact derivatives."
        )
    for name in _WITHOUT_EFFECT:
        if name in out:
            advice.append(f"{name}={shown(out.pop(name))}  ->  leave it out, it changes nothing")
    return out, advice


def new_multistart_options(options: Mapping[str, Any]) -> tuple[Call, Advice]:
    """Return fields of ``MultistartOptions`` by their names of today, and what was changed.

    Raises:
        AliasError: If one option is given by two names.
        InvalidMultistartError: If they mean nothing today.
    """
    out, advice = renamed(options, dotless(_MULTISTART, options))
    _translate_share(out, advice)
    _translate_error_handling(out, advice)
    distribution = out.get("sampling_distribution")
    if isinstance(distribution, str) and distribution in _DISTRIBUTIONS:
        out["sampling_distribution"] = new = _DISTRIBUTIONS[distribution]
        change = f"{distribution!r}  ->  sampling_distribution={new!r}"
        advice.append(f"sampling_distribution={change}")
    return out, advice


def _translate_share(out: Call, advice: Advice) -> None:
    """Turn the share of explored points that optimisations begin at into their number."""
    for name in _SHARES:
        if name not in out:
            continue
        share = out.pop(name)
        if share is None:
            advice.append(f"{name}=None  ->  leave it out")
            continue
        if not isinstance(share, numbers.Real) or not 0 < float(share) <= 1:
            raise InvalidMultistartError(f"{name} must be a share of the sample, not {share!r}.")
        if out.get("stopping_maxopt") is not None:
            raise AliasError(f"{name} is an old way to give stopping_maxopt; give only that.")
        sample = out.get("sample")
        n_samples = out.get("n_samples") if sample is None else len(sample)
        if n_samples is None:
            raise InvalidMultistartError(
                f"{name}={share!r} says nothing without n_samples. Give n_samples, the number of "
                "explored points, and stopping_maxopt, the number of local optimisations."
            )
        out["stopping_maxopt"] = max(1, int(float(share) * n_samples))
        advice.append(f"{name}={share!r}  ->  stopping_maxopt={out['stopping_maxopt']}")


def _translate_error_handling(out: Call, advice: Advice) -> None:
    given = {name: out.pop(name) for name in _ERROR_HANDLING if name in out}
    values = {value for value in (*given.values(), out.get("error_handling")) if value is not None}
    if not given:
        return
    if len(values) > 1:
        raise InvalidMultistartError(
            f"{' and '.join(given)} differ, and there is one error_handling for both: "
            "'continue' leaves out what fails, 'raise' ends the run."
        )
    value = next(iter(values), None)
    out["error_handling"] = value
    advice.append(
        f"{', '.join(f'{n}={shown(v)}' for n, v in given.items())}  ->  "
        f"error_handling={shown(value)}, for points and for optimisations"
    )
