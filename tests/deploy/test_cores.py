"""How many cores a process may use, in a container and outside."""

import os

import pytest

from recollect import serve_config
from recollect.cores import usable_cores
from recollect.settings import Settings

ALL = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "100000 100000\n"}, 1),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "max 100000\n"}, ALL),
        ({"cpu.max": "100000000 100000\n"}, ALL),
        ({"cpu/cpu.cfs_quota_us": "150000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, ALL),
        ({}, ALL),
    ],
    ids=["one", "half of one", "no limit", "more than there are", "version 1", "version 1, no limit", "no group"],
)
def test_a_container_has_as_many_as_its_limit(tmp_path, files, cores):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    assert usable_cores(tmp_path) == cores


@pytest.mark.parametrize(("cores", "replicas", "threads"), [(8, 2, 4), (1, 4, 1)])
def test_replicas_of_a_node_share_its_cores(cores, replicas, threads):
    assert serve_config.gateway_config(Settings(cores=cores, replicas=replicas), 1).ranking_threads == threads
