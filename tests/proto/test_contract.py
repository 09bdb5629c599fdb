"""The contract: documented throughout, its stubs up to date, its numbers the same everywhere."""

import subprocess
import sys
from pathlib import Path

import pytest

from recollect_api import classification_records, composed_records, history_records, metadata_records, records
from recollect_api.admin import records as admin_records
from recollect_api.v1 import (
    classifier_pb2,
    composed_retrieval_pb2,
    descriptor_sets_pb2,
    event_pb2,
    histories_pb2,
    indexes_pb2,
    metadata_pb2,
    recommender_pb2,
)
from recsys.data import event_store

ROOT = Path(__file__).parents[2]


def run(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


def test_the_stubs_are_those_of_the_protos():
    done = run(sys.executable, ROOT / ".ci" / "generate-stubs", "--check")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_stub_that_drifted_is_named(tmp_path):
    for part in ("proto", ".ci"):
        run("cp", "-r", ROOT / part, tmp_path / part, check=True)
    (tmp_path / "proto/recollect_api/v1/event_pb2.py").write_text("# edited\n")
    done = run(sys.executable, tmp_path / ".ci" / "generate-stubs", "--check")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "proto/recollect_api/v1/event_pb2.py is out of date: run `python .ci/generate-stubs` and commit the result"
    ]


@pytest.fixture
def changed_contract(tmp_path):
    """Check a copy of the contract in which one text of recommender.proto stands for another; what is printed."""
    for part in ("proto", ".ci"):
        run("cp", "-r", ROOT / part, tmp_path / part, check=True)
    proto = tmp_path / "proto/recollect_api/v1/recommender.proto"

    def check(old, new):
        text = proto.read_text()
        assert text.count(old) == 1
        proto.write_text(text.replace(old, new))
        done = run(sys.executable, tmp_path / ".ci" / "contract")
        return done.returncode, done.stdout + done.stderr

    return check


def test_the_contract_is_in_order_and_breaks_nothing_that_was_released():
    done = run(sys.executable, ROOT / ".ci" / "contract")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("  float score_without_history = 3;", "  double score_without_history = 3;", 'changed type from "float"'),
        ("  float score_without_history = 3;", "  reserved 3;", 'field "3" with name "score_without_history"'),
        ("  rpc Explain(ExplainRequest)", "  rpc Why(ExplainRequest)", 'RPC "Explain" on service "Recommender"'),
        (
            "key = 1;\n  // One of",
            "key = 1;\n  bool other = 9;\n  // One of",
            'Field "other" should have a non-empty comment',
        ),
        ("  string key = 1;\n  // One of the two.", "  string Key = 1;\n  // One of the two.", "lower_snake_case"),
    ],
    ids=["another type", "a field withdrawn", "a method renamed", "no documentation", "another style"],
)
def test_what_breaks_callers_or_the_style_is_named(changed_contract, old, new, says):
    code, printed = changed_contract(old, new)
    assert code == 1
    assert says in printed, printed


def test_event_types_have_one_number_on_the_wire_on_disk_and_in_the_client():
    wire = {name.removeprefix("EVENT_TYPE_"): number for name, number in event_pb2.EventType.items()}
    assert wire == {kind.name: kind.value for kind in event_store.EventType}
    assert wire == {kind.name: kind.value for kind in records.EventType}


def test_degraded_reasons_have_one_number_on_the_wire_and_in_the_client():
    wire = {name.removeprefix("DEGRADED_REASON_"): number for name, number in recommender_pb2.DegradedReason.items()}
    assert wire == {reason.name: reason.value for reason in records.DegradedReason}


@pytest.mark.parametrize(
    ("enum", "prefix", "record"),
    [
        (metadata_pb2.Availability, "AVAILABILITY_", metadata_records.Availability),
        (recommender_pb2.CandidateOrigin, "CANDIDATE_ORIGIN_", records.CandidateOrigin),
        (classifier_pb2.Scoring, "SCORING_", classification_records.Scoring),
        (classifier_pb2.RefusalReason, "REFUSAL_REASON_", classification_records.RefusalReason),
        (histories_pb2.ErasureState, "ERASURE_STATE_", history_records.ErasureState),
        (descriptor_sets_pb2.RevisionState, "REVISION_STATE_", classification_records.RevisionState),
        (composed_retrieval_pb2.SearchWarningKind, "SEARCH_WARNING_KIND_", composed_records.SearchWarningKind),
        (indexes_pb2.IndexKind, "INDEX_KIND_", admin_records.IndexKind),
        (indexes_pb2.VectorStorage, "VECTOR_STORAGE_", admin_records.VectorStorage),
    ],
    ids=[
        "availabilities",
        "origins",
        "scorings",
        "reasons for refusals",
        "states of an erasure",
        "states of a revision",
        "warnings of a search",
        "kinds of an index",
        "storages of a vector",
    ],
)
def test_what_is_counted_has_one_number_on_the_wire_and_in_the_client(enum, prefix, record):
    assert {name.removeprefix(prefix): number for name, number in enum.items()} == {
        each.name: each.value for each in record
    }
