"""Runs on several devices do not wait for each other, and Ctrl-C leaves what was found."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import optimagic_lite as om

SCRIPT = """
import contextlib, json, os, signal, sqlite3, threading, time
import jax, jax.numpy as jnp, numpy as np
import optimagic_lite as om

def rosenbrock(x, a):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (a - x[:-1]) ** 2)

a = np.random.default_rng(0).uniform(0.5, 1.5, 37)
def solve(n, **more):
    result = om.minimize_batch(rosenbrock, np.zeros(2), batch={"a": a[:n]}, **more)
    return result.flat_params.tolist(), result.n_fun_evals.tolist(), bool(result.success.all())

# parts of ten and of seven runs share a program, so this is little to compile
solved = [solve(n, devices=d, batch_size=10) for n in (10, 37) for d in (None, jax.devices()[:1])]
print(json.dumps({"devices": len(jax.devices()), "solved": solved}), flush=True)

def n_logged():
    with contextlib.suppress(sqlite3.OperationalError):
        log = sqlite3.connect("file:slow.db?mode=ro", uri=True)
        return log.execute("select count(*) from evaluations").fetchone()[0]
    return 0

def interrupt():
    while n_logged() < 100:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
threading.Thread(target=interrupt).start()
endless = {"learning_rate": 1e-12, "stopping_maxfun": 10**9}
try:
    om.minimize_batch(rosenbrock, np.zeros(2), "optax_sgd", batch={"a": a}, batch_size=10,
                      algo_options=endless, logging="slow.db", devices=jax.devices()[:1])
except KeyboardInterrupt as error:
    found = error.partial_result
    print(json.dumps({"n": found.n_fun_evals.tolist(), "message": found.message}), flush=True)
"""


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """Solve on four devices that JAX pretends to have, and interrupt a batch by a signal."""
    folder = tmp_path_factory.mktemp("elsewhere")
    flags = f"--xla_force_host_platform_device_count=4 --xla_dump_to={folder}/programs"
    root = str(Path(om.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=folder,
        env=os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    return folder, *map(json.loads, done.stdout.splitlines())


def test_several_devices_find_the_same(elsewhere):
    _, found, _ = elsewhere
    assert found["devices"] == 4
    for (params, counts, success), one in zip(
        found["solved"][::2], found["solved"][1::2], strict=True
    ):
        np.testing.assert_allclose(params, one[0], rtol=0, atol=1e-12)
        assert counts == one[1]
        assert success


def test_devices_do_not_wait_for_each_other(elsewhere):
    folder, *_ = elsewhere
    texts = [p.read_text() for p in (folder / "programs").glob("*after_optimizations.txt")]
    spread = [text for text in texts if "num_partitions=4" in text]
    assert any("while(" in text for text in spread)
    for collective in ("all-reduce", "all-gather", "all-to-all", "collective-permute"):
        assert not any(collective in text for text in spread)


def test_ctrl_c_leaves_what_was_found(elsewhere):
    folder, _, partial = elsewhere
    assert all(n >= 10 for n in partial["n"][:10])
    assert partial["n"][10:] == [0] * 27
    assert set(partial["message"]) == {"The run was interrupted."}
    told = om.SQLiteLogReader(folder / "slow.db").runs().iloc[0]
    assert told["status"] == "interrupted"
    # a signal may come just after a chunk has been written
    assert told["n_evaluations"] >= sum(partial["n"]) >= 100
