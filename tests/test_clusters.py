"""Batches and multistart on real clusters of Dask and Ray, on this machine."""

import os
import sys

import pytest
from batch_contract import BatchContract, check_interrupts, processes_that_meet
from multistart_contract import MultistartContract

from optimagic_lite.exceptions import NotInstalledError
from optimagic_lite.parallel import Cores, dask, dask_batch_evaluator, ray_batch_evaluator


@pytest.fixture(scope="module")
def cluster_of_dask():
    # made by the first batch
    yield
    dask.close()


@pytest.fixture(scope="module")
def session_of_ray():
    import ray

    yield
    ray.shutdown()


@pytest.mark.xdist_group("dask")
@pytest.mark.usefixtures("cluster_of_dask")
class TestDask(BatchContract, MultistartContract):
    name = "dask"

    def test_a_connected_client_is_used(self):
        import distributed

        with (
            distributed.LocalCluster(
                n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0"
            ) as cluster,
            distributed.Client(cluster),
        ):
            ours = [worker.address for worker in cluster.workers.values()]
            found = Cores(2, "dask").evaluate(lambda _: distributed.get_worker().address, range(3))

        assert found == ours * 3

    def test_a_cluster_grows_with_the_number_of_cores(self, tmp_path):
        assert len(processes_that_meet(Cores(3, "dask"), tmp_path)) == 3

    def test_ctrl_c_is_quick_and_leaves_nothing_behind(self, tmp_path):
        check_interrupts(self.name, tmp_path)


@pytest.mark.xdist_group("ray")
@pytest.mark.usefixtures("session_of_ray")
class TestRay(BatchContract, MultistartContract):
    name = "ray"

    def test_ctrl_c_is_quick_and_leaves_nothing_behind(self, tmp_path):
        # a session takes long to start; both ways take the same one here
        check_interrupts(self.name, tmp_path, (os.killpg,))


@pytest.mark.parametrize(
    ("evaluator", "library", "extra"),
    [
        (dask_batch_evaluator, "distributed", "dask"),
        (dask_batch_evaluator, "cloudpickle", "dask"),
        (ray_batch_evaluator, "ray", "ray"),
    ],
)
def test_what_is_missing_is_named(monkeypatch, evaluator, library, extra):
    monkeypatch.setitem(sys.modules, library, None)

    assert evaluator(abs, [-1]) == [1]
    with pytest.raises(NotInstalledError, match=rf"{library}.*optimagic_lite\[{extra}\]"):
        evaluator(abs, [-1], n_cores=2)
