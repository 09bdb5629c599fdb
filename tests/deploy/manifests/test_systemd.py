"""The systemd unit: what systemd says of it, and that its settings are settings."""

import re
import shutil
import subprocess

import pytest

from recollect.gateway.replica import DRAIN_S
from recollect.settings import Settings

OF_OTHERS = {"secrets", "config"}
"""RECOLLECT_SECRETS and RECOLLECT_CONFIG say where settings are."""


@pytest.fixture
def unit(deploy):
    return (deploy / "systemd" / "recollect.service").read_text()


def test_systemd_has_nothing_to_say_but_that_the_program_is_not_here(deploy):
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd is not installed")
    unit = deploy / "systemd" / "recollect.service"
    done = subprocess.run([analyze, "verify", unit], capture_output=True, text=True, check=False, timeout=60)
    said = [line for line in done.stderr.splitlines() if "recollect.service" in line]
    assert [line for line in said if "is not executable: No such file or directory" not in line] == []


def test_its_settings_are_settings_and_its_secret_is_one(unit):
    names = {name.lower() for name in re.findall(r"RECOLLECT_(\w+)=", unit)}
    assert names - OF_OTHERS <= set(Settings.model_fields)
    (secret,) = re.findall(r"LoadCredential=recollect_(\w+):", unit)
    assert secret in Settings.model_fields
    assert "RECOLLECT_SECRETS=%d" in unit


def test_a_stop_leaves_time_to_drain(unit):
    assert "KillMode=mixed" in unit  # replicas are ended by the command, not beside it
    assert int(re.search(r"TimeoutStopSec=(\d+)", unit)[1]) > 2 * DRAIN_S
