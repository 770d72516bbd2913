"""What multistart must do on each cluster: as in one process, and losing nothing."""

import math
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optimagic_lite as om

OPTIONS = {"n_samples": 16, "stopping_maxopt": 4, "seed": 0, "n_cores": 2}
OPTIONS["convergence_max_discoveries"] = math.inf


class MultistartContract:
    """Tests of a class that has the name of a batch evaluator."""

    def test_results_and_logs_are_those_of_one_process(self, tmp_path):
        with jax.enable_x64(True):
            target = jnp.array([1 / 3, 2 / 3, -1 / 3])

        def fun(params, center):
            d = jnp.append(params["a"], params["b"]) - center
            return jnp.sum(d**2 + 1 - jnp.cos(5 * d))

        def solve(batch_evaluator, n_cores):
            return om.minimize(
                fun,
                {"a": np.array([0.5, 0.5]), "b": 1.0},
                "scipy_lbfgsb",
                fun_kwargs={"center": target},
                constraints=om.ProbabilityConstraint(lambda params: params["a"]),
                bounds=om.Bounds(soft_lower={"b": -2}, soft_upper={"b": 2}),
                multistart=OPTIONS | {"batch_evaluator": batch_evaluator, "n_cores": n_cores},
                logging=tmp_path / f"{batch_evaluator}.db",
            )

        here, there = solve("joblib", 1), solve(self.name, 2)
        np.testing.assert_array_equal(there.params["a"], here.params["a"])
        assert (there.fun, there.n_fun_evals, there.message) == (
            here.fun, here.n_fun_evals, here.message,
        )  # fmt: skip
        assert there.params["a"] == pytest.approx([1 / 3, 2 / 3], abs=1e-5)
        for one, two in zip(
            here.multistart_info.local_optima, there.multistart_info.local_optima, strict=True
        ):
            assert one.history.fun == two.history.fun
        times = ["time", "start_time", "stop_time"]
        frame = there.logger.to_frame().drop(columns=times)
        assert frame.equals(here.logger.to_frame().drop(columns=times))

    def test_a_killed_worker_loses_no_local_optimisation(self, tmp_path):
        flag, here = tmp_path / "killed", os.getpid()

        def fun(x):
            # once, in the middle of a local optimisation in another process
            if os.getpid() != here and abs(x[0] - 1) < 0.3 and not flag.exists():
                flag.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return float(x @ x)

        result = om.minimize(
            fun, np.ones(2), "scipy_lbfgsb", bounds=om.Bounds(lower=-4.0, upper=5.0),
            multistart=OPTIONS | {"batch_evaluator": self.name}, logging=tmp_path / "run.db",
        )  # fmt: skip
        assert flag.exists()
        assert result.multistart_info.failures == []
        assert len(result.multistart_info.local_optima) == 4
        np.testing.assert_allclose(result.params, 0, atol=1e-5)
        logged = result.logger.read_multistart_history()
        kept = result.multistart_info.history
        for in_log, in_memory in zip(logged.local_histories, kept.local_histories, strict=True):
            assert in_log.fun == in_memory.fun
