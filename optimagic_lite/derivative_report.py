"""What a check of derivatives found, entry by entry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from optimagic_lite.objective.comparison import ArrayFunction, compare_with_differences

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]

COLUMNS = ("derivative", "output", "params", "given", "difference", "error", "verdict")
_SHOWN = 20


@dataclass(frozen=True, repr=False, eq=False)
class DerivativeCheck:
    """What differences say about derivatives.

    Attributes:
        table: One row for each entry that is not correct, with the columns derivative ("jac",
            "fun_and_jac" or "hess", "by JAX" where JAX made it), output (name of the entry of
            what fun returns; "" for a number), params (one name, or two for second derivatives),
            given, difference (the derivative by differences), error (by how much that may be
            off) and verdict: "wrong", or "unsure" where differences cannot tell.
        n_entries: Number of entries that were checked, by derivative.
        not_checked: Why something was left out, a sentence each.
    """

    table: pd.DataFrame
    n_entries: dict[str, int]
    not_checked: tuple[str, ...] = ()

    @property
    def is_correct(self) -> bool:
        """Whether no entry is wrong."""
        return not (self.table["verdict"] == "wrong").any()

    def __repr__(self) -> str:
        lines = [self._summary(name, n) for name, n in self.n_entries.items()]
        if len(self.table):
            shown = self.table.head(_SHOWN).to_string(index=False)
            lines += ["", *shown.splitlines()]
        if len(self.table) > _SHOWN:
            lines.append(f"... and {len(self.table) - _SHOWN} more rows in .table")
        return "\n".join([*lines, *self.not_checked])

    def _summary(self, name: str, n_entries: int) -> str:
        verdicts = self.table["verdict"][self.table["derivative"] == name]
        counts = {verdict: int((verdicts == verdict).sum()) for verdict in ("wrong", "unsure")}
        parts = [f"{count} {verdict}" for verdict, count in counts.items() if count]
        found = ", ".join(parts) if parts else "all correct"
        return f"{name}: {n_entries} {'entry' if n_entries == 1 else 'entries'}, {found}"

    @classmethod
    def joined(
        cls, checks: list[DerivativeCheck], not_checked: tuple[str, ...] = ()
    ) -> DerivativeCheck:
        """Return several checks as one."""
        import pandas as pd

        rows = [row for check in checks for row in check.table.itertuples(index=False)]
        n_entries = {name: n for check in checks for name, n in check.n_entries.items()}
        return cls(pd.DataFrame(rows, columns=list(COLUMNS)), n_entries, not_checked)


def check_matrix(
    name: str,
    function: ArrayFunction,
    given: Array,
    x: Array,
    lower: Array,
    upper: Array,
    *,
    outputs: Sequence[str] | None,
    params: Sequence[str],
    rtol: float = 1e-5,
) -> DerivativeCheck:
    """Check a matrix of derivatives; what ``check_derivatives`` does for each of them.

    Args:
        name: How to call it.
        function: Points of shape (k, n) inside the bounds -> values of shape (k, m), NaN where
            there are none.
        given: The derivatives, shape (m, n).
        x: Where, shape (n,).
        lower: Lower bounds, shape (n,).
        upper: Upper bounds, shape (n,).
        outputs: Names of the rows; None for second derivatives, whose rows are parameters too.
        params: Names of the columns.
        rtol: Relative difference that counts as correct.

    Example:
        >>> free = np.full(2, np.inf)
        >>> check_matrix("jac", lambda points: points**2, np.diag([2.0, -4.0]),
        ...              np.array([1.0, 2.0]), -free, free,
        ...              outputs=["u", "v"], params=["a", "b"]).table["params"].tolist()
        ['b']
    """
    import pandas as pd

    found = compare_with_differences(function, given, x, lower, upper, rtol)
    rows = []
    for i, j in np.argwhere(found.verdict != "correct").tolist():
        entry = ("", f"{params[i]}, {params[j]}") if outputs is None else (outputs[i], params[j])
        numbers = given[i, j], found.difference[i, j], found.error[i, j]
        rows.append((name, *entry, *map(float, numbers), str(found.verdict[i, j])))
    return DerivativeCheck(pd.DataFrame(rows, columns=list(COLUMNS)), {name: given.size})
