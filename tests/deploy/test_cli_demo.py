"""`recollect demo`, whole, as `make demo` runs it: everything real, twice."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_demo_shows_a_user_ten_candidates_and_the_reasons(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-c",
        "from recollect.entry import main; main()",
        "demo",
        "--var",
        str(tmp_path / "demo"),
    ]
    environment = {**os.environ, "HOME": str(tmp_path), "COLUMNS": "120"}
    outputs = []
    for _ in range(2):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        outputs.append(done)
    first, second = outputs
    assert re.search(r"User u\d+: the latest 8 of \d+ behaviours", first.stdout)
    scores = [float(score) for score in re.findall(r"│ +\d+ │ (0\.\d{4}) │", first.stdout)]
    assert len(scores) == 10
    assert scores == sorted(scores, reverse=True)
    assert first.stdout.count("◀ chosen") == 1
    assert "behaviours that the search found among" in first.stdout
    drawn = re.search(r"A picture of the (.+), classified by", first.stdout)
    best = re.search(r"what fits best.*\n.*\n│ ([a-z ]+?) +│", first.stdout)
    assert drawn is not None
    assert best is not None
    assert drawn[1].endswith(best[1]), "the item's name ends in what it is, and the service knew no name"
    found = re.search(r"│ 1 │ 0\.\d{3} │ (\S+) +│ yes +│ ◀ target │", first.stdout)
    assert found is not None, "the object of the box, in the picture that was asked for, comes first"
    assert (tmp_path / "demo" / "composed-search.png").read_bytes().startswith(b"\x89PNG")
    auc = re.search(r"AUC (0\.\d+) on", first.stderr)
    assert auc is not None
    assert float(auc[1]) > 0.9
    assert "are in" in second.stderr, "the second run finds the shop of the first"
    assert re.findall(r"│ +\d+ │ (0\.\d{4}) │", second.stdout) == [f"{score:.4f}" for score in scores]
