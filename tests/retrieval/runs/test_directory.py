"""What a run directory remembers: whose it is, where the run stood, what was logged; and that one process holds it."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from retrieval.errors import RunError
from retrieval.runs.directory import (
    claim,
    load_checkpoint,
    locked,
    log,
    read_claim,
    remove_checkpoint,
    save_checkpoint,
    trim_log,
)

CHECKPOINT = "checkpoint.safetensors"
IDENTITY = {"training": {"epochs": 3, "widths": (8, 16)}, "data": "a1"}


def network():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 1))


def adamw(model):
    return torch.optim.AdamW(model.parameters(), lr=0.05)


def go(model, optimizer, begin, end):
    """Steps `begin` to `end`, each on pictures that follow from its number."""
    for step in range(begin, end):
        pictures = torch.randn(5, 4, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        model(pictures).square().mean().backward()
        optimizer.step()


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_a_claim_is_read_back_as_json(tmp_path):
    claim(tmp_path / "new" / "run", IDENTITY)
    assert read_claim(tmp_path / "new" / "run") == {"training": {"epochs": 3, "widths": [8, 16]}, "data": "a1"}
    assert names(tmp_path / "new" / "run") == {"config.json"}


def test_the_same_claim_is_granted_again(tmp_path):
    claim(tmp_path, IDENTITY)
    written = (tmp_path / "config.json").read_bytes()
    claim(tmp_path, json.loads(json.dumps(IDENTITY)))
    assert (tmp_path / "config.json").read_bytes() == written


@pytest.mark.parametrize(
    ("other", "says"),
    [
        pytest.param({"training": {"epochs": 4}, "data": "a1"}, "other options", id="options"),
        pytest.param({**IDENTITY, "data": "b2"}, "other data", id="data"),
        pytest.param({"training": {"epochs": 4}, "data": "b2"}, "other data", id="both"),
        pytest.param({**IDENTITY, "start": "model"}, "other options", id="an option more"),
        pytest.param({"training": IDENTITY["training"]}, "other data", id="data left out"),
    ],
)
def test_a_directory_of_another_run_is_refused_and_left_alone(tmp_path, other, says):
    claim(tmp_path, IDENTITY, files={"pairs.json": "mine"})
    before = (tmp_path / "config.json").read_bytes()
    with pytest.raises(RunError, match=rf"{tmp_path} was started with {says}; .*choose another name"):
        claim(tmp_path, other, files={"pairs.json": "theirs"})
    assert (tmp_path / "config.json").read_bytes() == before
    assert (tmp_path / "pairs.json").read_text() == "mine"


def test_a_claim_that_was_killed_before_its_mark_is_made_anew(tmp_path):
    (tmp_path / "pairs.json").write_text("[half of")
    (tmp_path / ".config.json.partial").write_text('{"trai')
    claim(tmp_path, IDENTITY, files={"pairs.json": "[]"})
    assert (tmp_path / "pairs.json").read_text() == "[]"
    assert names(tmp_path) == {"config.json", "pairs.json"}


@pytest.mark.parametrize("content", [pytest.param(None, id="missing"), pytest.param("{", id="damaged")])
def test_a_claim_that_cannot_be_read_names_the_file(tmp_path, content):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(RunError, match=r"unreadable config\.json"):
            claim(tmp_path, IDENTITY)
    with pytest.raises(RunError, match=r"unreadable config\.json"):
        read_claim(tmp_path)


def test_only_one_holds_a_directory(tmp_path):
    with locked(tmp_path):
        with pytest.raises(RunError, match=f"another process is training in {tmp_path}"), locked(tmp_path):
            pytest.fail("two held it")
        with pytest.raises(RunError), locked(tmp_path):
            pytest.fail("a refusal let go of the other's lock")
    with pytest.raises(KeyError), locked(tmp_path):
        raise KeyError("the block's own")
    with locked(tmp_path):
        pass


def test_a_process_that_dies_lets_go(tmp_path):
    script = (
        "import os, sys\nfrom pathlib import Path\nfrom retrieval.runs.directory import locked\n"
        "with locked(Path(sys.argv[1])):\n    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(RunError, match="another process is training"), locked(tmp_path):
            pytest.fail("two processes held it")
        other.kill()
        other.wait()
        with locked(tmp_path):
            pass


def test_a_run_that_goes_on_ends_the_same(tmp_path):
    whole, killed, resumed = network(), network(), network()
    go(whole, adamw(whole), 0, 7)
    optimizer = adamw(killed)
    go(killed, optimizer, 0, 4)
    save_checkpoint(tmp_path, 4, killed, optimizer)
    with torch.no_grad():
        for weight in resumed.parameters():
            weight.fill_(float("nan"))
    optimizer = adamw(resumed)
    assert load_checkpoint(tmp_path, resumed, optimizer) == 4
    go(resumed, optimizer, 4, 7)
    assert all(torch.equal(tensor, whole.state_dict()[name]) for name, tensor in resumed.state_dict().items())
    assert resumed[1].num_batches_tracked == 7


def test_without_the_optimizer_it_would_not():
    """What the test above rests on: moments matter at this step size."""
    whole, resumed = network(), network()
    go(whole, adamw(whole), 0, 7)
    optimizer = adamw(resumed)
    go(resumed, optimizer, 0, 4)
    go(resumed, adamw(resumed), 4, 7)
    assert not torch.equal(resumed[0].weight, whole[0].weight)


def test_a_frozen_weight_has_no_moments(tmp_path):
    model, again = network(), network()
    for each in (model, again):
        each[0].requires_grad_(requires_grad=False)
    optimizer = adamw(model)
    go(model, optimizer, 0, 2)
    save_checkpoint(tmp_path, 2, model, optimizer)
    optimizer = adamw(again)
    assert load_checkpoint(tmp_path, again, optimizer) == 2
    assert set(optimizer.state) == {*again[1].parameters(), *again[2].parameters()}
    assert torch.equal(again[0].weight, model[0].weight)


def test_the_newest_checkpoint_alone_is_kept(tmp_path):
    model = network()
    optimizer = adamw(model)
    assert load_checkpoint(tmp_path, model, optimizer) == 0
    save_checkpoint(tmp_path, 1, model, optimizer)
    go(model, optimizer, 0, 2)
    save_checkpoint(tmp_path, 2, model, optimizer)
    # A kill while the next was being written leaves a part of it.
    (tmp_path / f"{CHECKPOINT}.partial").write_bytes(b"half")
    assert load_checkpoint(tmp_path, network(), adamw(model)) == 2
    remove_checkpoint(tmp_path)
    remove_checkpoint(tmp_path)
    assert load_checkpoint(tmp_path, model, optimizer) == 0


def other_model(path):
    model = nn.Linear(4, 6)
    save_checkpoint(path.parent, 1, model, adamw(model))


def other_size(path):
    model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 1))
    save_checkpoint(path.parent, 1, model, adamw(model))


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda path: path.write_bytes(b"{not safetensors"), id="damaged"),
        pytest.param(lambda path: path.touch(), id="empty"),
        pytest.param(lambda path: save_file({"model/x": torch.zeros(1)}, path), id="no step"),
        pytest.param(lambda path: save_file({"x": torch.zeros(1)}, path, {"step": "1"}), id="neither part"),
        pytest.param(lambda path: save_file({"model/x": torch.zeros(1)}, path, {"step": "one"}), id="no number"),
        pytest.param(other_model, id="of another model"),
        pytest.param(other_size, id="of another size"),
    ],
)
def test_a_checkpoint_that_does_not_fit_says_what_to_do(tmp_path, write):
    write(tmp_path / CHECKPOINT)
    model = network()
    with pytest.raises(RunError, match=rf"(?s){CHECKPOINT} cannot be read .*remove it to start over"):
        load_checkpoint(tmp_path, model, adamw(model))


def test_the_log_is_cut_where_the_run_goes_on(tmp_path):
    for step in (10, 20, 30):
        log(tmp_path, {"step": step, "loss": step / 100})
    log(tmp_path, {"step": 20, "validation": {}})
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"time": 1, "step": 1')
    trim_log(tmp_path, 20)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [10, 20, 20]
    assert lines[1]["loss"] == 0.2
    assert all(set(line) - {"step", "loss", "validation"} == {"time"} for line in lines)
    trim_log(tmp_path, 0)
    assert (tmp_path / "log.jsonl").read_text() == ""


def test_a_new_run_has_no_log_to_cut(tmp_path):
    trim_log(tmp_path, 5)
    assert names(tmp_path) == set()
