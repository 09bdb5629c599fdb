"""compose.yaml: its schema, and that what it names is there and fits together."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from recollect.gateway.replica import DRAIN_S
from recollect.security.exposure import is_loopback
from recollect.settings import Settings


def seconds(duration):
    number, unit = re.fullmatch(r"(\d+)(s|m)", duration).groups()
    return int(number) * {"s": 1, "m": 60}[unit]


def defaults(text):
    """With every `${NAME:-default}` replaced by its default."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def mounts(service):
    """Source → target of what is bound into a service."""
    found = {}
    for volume in service.get("volumes", []):
        source, target = (volume["source"], volume["target"]) if isinstance(volume, dict) else volume.split(":")[:2]
        if defaults(source).startswith("."):
            found[defaults(source)] = target
    return found


def test_the_schema_of_compose_files_has_nothing_to_say(deploy):
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*check, deploy / "compose.yaml"], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_images_are_named_by_release(compose):
    for name, service in compose["services"].items():
        image = defaults(service["image"])
        assert name == "recollect" or re.search(r":v?\d+\.\d+\.\d+", image), image


@pytest.mark.parametrize("name", ["recollect", "redis", "prometheus", "grafana"])
def test_every_service_is_bounded_and_has_no_rights_that_it_does_not_need(compose, name):
    service = compose["services"][name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]
    assert service["pids_limit"]
    assert service["restart"] == "unless-stopped"
    assert service["logging"]["options"]["max-size"]
    assert not service.get("privileged")


def test_only_this_machine_reaches_what_is_published_and_nothing_reaches_redis(compose):
    published = {name: service.get("ports", []) for name, service in compose["services"].items()}
    assert {name for name, ports in published.items() if ports} == {"recollect", "grafana"}
    for ports in published.values():
        for port in ports:
            host, _, _ = defaults(port).split(":")
            assert is_loopback(host)
    networks = {name: set(service["networks"]) for name, service in compose["services"].items()}
    assert networks["redis"] == {"histories"}
    assert compose["networks"]["histories"]["internal"]
    assert {name for name, joined in networks.items() if "histories" in joined} == {"redis", "recollect"}


def test_the_service_accepts_its_settings(compose, monkeypatch, tmp_path):
    from recollect.security.exposure import require_guarded

    environment = {name: defaults(value) for name, value in compose["services"]["recollect"]["environment"].items()}
    names = {name.removeprefix("RECOLLECT_").lower() for name in environment} - {"secrets"}
    assert names <= set(Settings.model_fields)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RECOLLECT_SECRETS", str(tmp_path))
    (tmp_path / "recollect_redis_url").write_text("redis://recollect:secret@redis:6379/0\n")
    settings = Settings.load()
    assert settings.redis_url == "redis://recollect:secret@redis:6379/0"
    require_guarded(settings)


def test_a_stop_leaves_time_to_drain(compose):
    assert seconds(compose["services"]["recollect"]["stop_grace_period"]) > 2 * DRAIN_S


def test_what_is_mounted_is_there(compose, deploy):
    for name, service in compose["services"].items():
        for source in mounts(service):
            path = deploy / source
            known = path.exists() or source.startswith(("./secrets", "./prometheus", "./grafana"))
            assert known, f"{name} mounts {source}"


def test_grafana_finds_its_dashboards_where_its_provisioning_looks(compose, deploy):
    provisioning = deploy / "grafana" / "provisioning" / "dashboards" / "recollect.yaml"
    if not provisioning.exists():
        pytest.skip("no dashboards yet")
    targets = set(mounts(compose["services"]["grafana"]).values())
    for provider in yaml.safe_load(provisioning.read_text())["providers"]:
        assert provider["options"]["path"] in targets


def test_secrets_are_what_the_script_makes(compose, deploy, tmp_path):
    directory = tmp_path / "secrets"
    subprocess.run([deploy / "make-secrets", directory, "recollect.example"], check=True, capture_output=True)
    for secret in compose["secrets"].values():
        assert (directory / secret["file"].partition("}/")[2]).exists(), secret
    (source,) = mounts(compose["services"]["recollect"])
    assert source == "./secrets/recollect"
    environment = compose["services"]["recollect"]["environment"]
    for name in ("RECOLLECT_TLS_CERT", "RECOLLECT_TLS_KEY"):
        assert (directory / "recollect" / Path(environment[name]).name).exists()


def test_each_service_is_given_the_secrets_that_it_reads(compose):
    for name, service in compose["services"].items():
        read = set(re.findall(r"/run/secrets/(\w+)", yaml.safe_dump(service)))
        assert read <= set(service.get("secrets", [])), name
        assert set(service.get("secrets", [])) <= set(compose["secrets"])
