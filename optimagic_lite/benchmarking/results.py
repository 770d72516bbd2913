"""What a benchmark has found: one entry a run, to be joined, saved and loaded."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from optimagic_lite.exceptions import InvalidBenchmarkError

_HISTORIES = ("params_history", "criterion_history", "time_history", "batches_history")
_VERSION = 1


@dataclass(frozen=True)
class SavedSolution:
    """What a file keeps of an ``OptimizeResult``.

    Attributes:
        params: Flat best parameters, shape (n_params,).
        fun: Their value, with noise if the problem is noisy.
        success: Whether the algorithm converged.
        message: Why the run ended.
        algorithm: Name of the algorithm.
        n_fun_evals: Evaluations of the criterion.
        n_jac_evals: Evaluations of the gradient.
        n_numdiff_evals: Further evaluations for difference quotients.
        elapsed: Seconds.
    """

    params: tuple[float, ...]
    fun: float
    success: bool
    message: str
    algorithm: str
    n_fun_evals: int
    n_jac_evals: int
    n_numdiff_evals: int
    elapsed: float


class BenchmarkResults(dict[tuple[str, str], dict[str, Any]]):
    """Runs of a benchmark, by name of the problem and name of the optimize options.

    Each entry is a dict with "params_history" (flat parameters, shape (n, n_params)),
    "criterion_history" (values without noise, shape (n,)), "time_history" (seconds from the start
    of the first evaluation to the end of each), "batches_history" (number of the batch) and
    "solution": the ``OptimizeResult``; a ``SavedSolution`` if it was loaded; the traceback if the
    run failed.

    Results of several benchmarks are joined with ``|``; of a run that is in both, the right one
    is kept.

    Example:
        >>> import optimagic_lite as om
        >>> problems = om.get_benchmark_problems("example", exclude=["mancino_5_good_start"])
        >>> first = om.run_benchmark(problems, ["scipy_lbfgsb"])
        >>> both = first | om.run_benchmark(problems, ["scipy_bfgs"])
        >>> both.save("benchmark.npz")
        >>> len(om.BenchmarkResults.load("benchmark.npz"))
        18
    """

    def __repr__(self) -> str:
        problems, names = ({key[i] for key in self} for i in (0, 1))
        n_failed = sum(failed(run) for run in self.values())
        return (
            f"BenchmarkResults({len(self)} runs: {len(problems)} problems, {len(names)} "
            f"algorithms, {n_failed} failed)"
        )

    def __or__(self, other: Any) -> BenchmarkResults:  # type: ignore[override]
        return BenchmarkResults({**self, **other})

    def __ror__(self, other: Any) -> BenchmarkResults:  # type: ignore[override]
        return BenchmarkResults({**other, **self})

    def save(self, path: str | Path) -> None:
        """Write all runs into one file, which NumPy reads; nothing in it is pickled.

        Args:
            path: The file, usually with the ending ".npz". An existing one is replaced.

        Raises:
            FileNotFoundError: If there is no such folder.
        """
        if not Path(path).parent.is_dir():
            raise FileNotFoundError(f"There is no folder {Path(path).parent} for {path}.")
        runs = [
            {"problem": problem, "algorithm": name, "solution": _described(run["solution"])}
            for (problem, name), run in self.items()
        ]
        arrays = {
            f"{i}_{column}": np.asarray(run[column], dtype=np.float64)
            for i, run in enumerate(self.values())
            for column in _HISTORIES
        }
        about = np.array(json.dumps({"version": _VERSION, "runs": runs}))
        # a file is whole or not there, whatever happens meanwhile
        beside = Path(f"{path}.part")
        with beside.open("wb") as file:
            np.savez_compressed(file, about=about, **arrays)  # type: ignore[arg-type]
        os.replace(beside, path)

    @classmethod
    def load(cls, path: str | Path) -> BenchmarkResults:
        """Read a file that ``save`` has written.

        Args:
            path: The file.

        Raises:
            FileNotFoundError: If there is none.
            InvalidBenchmarkError: If it is something else.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                about = json.loads(str(file["about"]))
                version = int(about["version"])
                arrays = {name: file[name] for name in file.files if name != "about"}
        except FileNotFoundError:
            raise
        except Exception as error:
            raise InvalidBenchmarkError(
                f"{path} holds no results of a benchmark that can be read: {error}"
            ) from error
        if version > _VERSION:
            raise InvalidBenchmarkError(f"{path} was written by a newer version of the package.")
        return cls(
            {
                (run["problem"], run["algorithm"]): {
                    column: arrays[f"{i}_{column}"] for column in _HISTORIES
                }
                | {"solution": _restored(run["solution"])}
                for i, run in enumerate(about["runs"])
            }
        )


def failed(run: Mapping[str, Any]) -> bool:
    """Return whether a run ended with an error; its solution is the traceback then."""
    return isinstance(run["solution"], str)


def _described(solution: Any) -> Any:
    if isinstance(solution, str):
        return solution
    if isinstance(solution, SavedSolution):
        return dataclasses.asdict(solution)
    from optimagic_lite.space.trees import ParamTree

    fields = [f.name for f in dataclasses.fields(SavedSolution) if f.name != "params"]
    flat = ParamTree(solution.params).start_values()
    return {"params": flat.tolist(), **{name: getattr(solution, name) for name in fields}}


def _restored(solution: Any) -> str | SavedSolution:
    if isinstance(solution, str):
        return solution
    return SavedSolution(**{**solution, "params": tuple(solution["params"])})
