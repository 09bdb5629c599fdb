"""serve.yaml on a Ray cluster of its own, brought there by `serve deploy`, and changed as KubeRay changes it."""

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import yaml

from recollect.artifacts import ArtifactStore
from recollect.probe import probe
from recollect.settings import Settings
from recollect_api import RecollectClient

DEADLINE_S = 120.0
"""How long a test waits for Ray."""
BIN = Path(sys.executable).parent

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


def wait_for(condition, what):
    deadline = time.monotonic() + DEADLINE_S
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} did not happen within {DEADLINE_S} s"
        time.sleep(0.25)
    return value


class Cluster:
    """One node, started as `ray start` starts it, whose environment has the settings."""

    def __init__(self, directory, redis_url, deploy):
        self.directory = directory
        self.dashboard = f"http://127.0.0.1:{free_port()}"
        self.settings = Settings(
            var=directory / "var",
            redis_url=redis_url,
            port=free_port(),
            metrics_port=free_port(),
            classification=False,
            cores=2,
            replicas=2,
        )
        self.config = yaml.safe_load((deploy / "serve.yaml").read_text())
        # Ray's sockets need a short path.
        self._temporary = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
        self._token = secrets.token_hex(32)
        self._environment = os.environ | {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self._token,
            "RAY_USAGE_STATS_ENABLED": "0",
            "RECOLLECT_VAR": str(self.settings.var),
            "RECOLLECT_REDIS_URL": redis_url,
            "RECOLLECT_PORT": str(self.settings.port),
            "RECOLLECT_METRICS_PORT": str(self.settings.metrics_port),
            "RECOLLECT_CLASSIFICATION": "false",
            "RECOLLECT_CORES": "2",
        }
        self._environment.pop("RAY_ADDRESS", None)
        self._log = (directory / "ray.log").open("w+")

    @property
    def gateway(self):
        """The deployment, to be changed."""
        return self.config["applications"][0]["deployments"][0]

    def __enter__(self):
        ports = {name: free_port() for name in ("port", "ray-client-server-port", "dashboard-agent-listen-port")}
        ports |= {"min-worker-port": 0, "max-worker-port": 0, "metrics-export-port": free_port()}
        ports["dashboard-port"] = self.dashboard.rsplit(":", 1)[1]
        options = [f"--{name}={port}" for name, port in ports.items()]
        options += ["--head", "--block", "--num-cpus=2", "--dashboard-host=127.0.0.1", "--object-store-memory=80000000"]
        command = [BIN / "ray", "start", *options, f"--temp-dir={self._temporary}"]
        self._process = subprocess.Popen(
            command, env=self._environment, stdout=self._log, stderr=self._log, cwd=self.directory
        )
        try:
            wait_for(self._answers, f"a Ray head ({self._said()})")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self._process.terminate()  # with --block, it ends what it started
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        left = self.processes("")
        for process in left:
            process.kill()
        psutil.wait_procs(left, 30)
        self._log.close()
        shutil.rmtree(self._temporary, ignore_errors=True)

    def processes(self, title):
        """Processes of this cluster whose title has `title`."""

        def is_ours(process):
            try:
                return process.environ().get("RAY_AUTH_TOKEN") == self._token and title in " ".join(process.cmdline())
            except psutil.Error:
                return False

        return [process for process in psutil.process_iter() if process.pid != os.getpid() and is_ours(process)]

    def gateways(self):
        """Process ids of the replicas."""
        return {process.pid for process in self.processes("ServeReplica:recollect:Gateway")}

    def deploy(self):
        """By the command, as a person does."""
        path = self.directory / "serve.yaml"
        path.write_text(yaml.safe_dump(self.config, sort_keys=False))
        command = [BIN / "serve", "deploy", path, "-a", self.dashboard]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr

    def change(self):
        """By the head's dashboard, as KubeRay does."""
        self._ask("PUT", self.config)

    def status(self):
        return self._ask("GET")["applications"].get("recollect", {})

    def shutdown(self):
        self._ask("DELETE")

    def model(self):
        """Version that answers; None where nobody does."""
        try:
            with RecollectClient(f"127.0.0.1:{self.settings.port}", timeout_s=10, connections=1) as client:
                return client.score("nobody", [10, 20]).model_version
        except Exception:
            return None

    def _ask(self, method, config=None):
        request = urllib.request.Request(
            f"{self.dashboard}/api/serve/applications/",
            method=method,
            data=None if config is None else json.dumps(config).encode(),
            headers={"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            said = response.read()
        return json.loads(said) if method == "GET" else None

    def _answers(self):
        assert self._process.poll() is None, self._said()
        try:
            return isinstance(self._ask("GET"), dict)
        except OSError:
            return False

    def _said(self):
        self._log.flush()
        return (self.directory / "ray.log").read_text()[-2_000:]


@pytest.fixture(scope="module")
def versions(tmp_path_factory, publish_tiny_dare):
    """The directory of everything, and two versions of the model there: `stable` the first, `canary` the second."""
    directory = tmp_path_factory.mktemp("cluster")
    store = ArtifactStore(directory / "var" / "models")
    found = [publish_tiny_dare(store.root, seed) for seed in (1, 2)]
    for label, version in zip(("stable", "canary"), found, strict=True):
        store.set_label("dare", label, version)
    return directory, store, found


@pytest.fixture(scope="module")
def cluster(versions, history_redis_url, deploy):
    with Cluster(versions[0], history_redis_url, deploy) as started:
        started.gateway["autoscaling_config"] |= {
            "min_replicas": 1,
            "max_replicas": 2,
            "target_ongoing_requests": 0.5,
            "look_back_period_s": 2,
            "metrics_interval_s": 1,
            "upscale_delay_s": 1,
            "downscale_delay_s": 3,
        }
        started.deploy()
        wait_for(lambda: started.status().get("status") == "RUNNING", "a deployment")
        yield started


def test_it_answers_with_the_labelled_model(cluster, versions):
    _, _, (first, _) = versions
    assert cluster.model() == first
    assert probe(cluster.settings) is None


def test_it_tells_what_it_did(cluster):
    def told():
        with urllib.request.urlopen(f"http://127.0.0.1:{cluster.settings.metrics_port}/metrics", timeout=10) as answer:
            return answer.read().decode()

    cluster.model()
    wait_for(lambda: re.search(r"^recollect_calls_total\{[^}]*Score[^}]*\} [1-9]", told(), re.MULTILINE), "a count")


def test_a_label_that_moves_is_followed_by_replicas_that_run(cluster, versions):
    _, store, (first, second) = versions
    before = cluster.gateways()
    store.set_label("dare", "stable", second)
    wait_for(lambda: cluster.model() == second, "the new version")
    store.set_label("dare", "stable", first)
    wait_for(lambda: cluster.model() == first, "the version before")
    assert cluster.gateways() == before


def test_another_label_is_taken_in_place(cluster, versions):
    _, _, (first, second) = versions
    before = cluster.gateways()
    cluster.gateway["user_config"]["model"] = "dare@canary"
    cluster.change()
    wait_for(lambda: cluster.model() == second, "the other label")
    cluster.gateway["user_config"]["model"] = "dare@stable"
    cluster.change()
    wait_for(lambda: cluster.model() == first, "the label before")
    assert cluster.gateways() == before


def test_a_label_that_is_not_there_ends_no_replica(cluster, versions):
    _, _, (first, _) = versions
    before = cluster.gateways()
    cluster.gateway["user_config"]["model"] = "dare@missing"
    cluster.change()
    wait_for(lambda: cluster.status()["status"] == "RUNNING", "the change")
    assert cluster.model() == first
    assert cluster.gateways() == before
    cluster.gateway["user_config"]["model"] = "dare@stable"
    cluster.change()


@contextmanager
def calling(cluster, *, callers, pause_s=0.0):
    """Call for the time of the block, and fail where one call did."""
    stop, failed = threading.Event(), []

    def call():
        with RecollectClient(f"127.0.0.1:{cluster.settings.port}", timeout_s=20, connections=1) as client:
            while not stop.is_set():
                try:
                    client.score("nobody", [10, 20, 30])
                except Exception as error:
                    failed.append(error)
                stop.wait(pause_s)

    threads = [threading.Thread(target=call) for _ in range(callers)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    assert [str(error) for error in failed] == []


def test_gateways_become_more_under_load_and_fewer_without(cluster):
    wait_for(lambda: len(cluster.gateways()) == 1, "an idle cluster")
    with calling(cluster, callers=4):
        wait_for(lambda: len(cluster.gateways()) == 2, "a second gateway")
    wait_for(lambda: len(cluster.gateways()) == 1, "one gateway again")


def test_other_arguments_start_replicas_anew_and_no_call_fails(cluster):
    cluster.gateway["autoscaling_config"]["min_replicas"] = 2
    cluster.change()
    before = wait_for(lambda: len(found := cluster.gateways()) == 2 and found, "two gateways")
    wait_for(lambda: cluster.status()["status"] == "RUNNING", "the change")
    with calling(cluster, callers=2, pause_s=0.02):
        cluster.config["applications"][0]["args"] = {"history_limit": 1_000}
        cluster.change()
        wait_for(lambda: len(now := cluster.gateways()) == 2 and not now & before, "two other gateways")
        wait_for(lambda: cluster.status()["status"] == "RUNNING", "the end of it")


def test_an_argument_that_is_no_setting_is_told_and_what_answers_answers_on(cluster, versions):
    _, _, (first, _) = versions
    cluster.config["applications"][0]["args"] = {"replica_count": 2}
    cluster.change()
    failed = wait_for(lambda: (now := cluster.status())["status"] == "DEPLOY_FAILED" and now, "a refusal")
    assert "replica_count" in failed["message"]
    assert cluster.model() == first


def test_a_shutdown_frees_the_port(cluster):
    cluster.shutdown()
    wait_for(lambda: probe(cluster.settings) is not None, "the end")
    wait_for(lambda: not cluster.gateways(), "the end of the replicas")
