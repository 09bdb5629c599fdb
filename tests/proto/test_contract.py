"""The contract: documented throughout, its stubs up to date, its numbers the same everywhere."""

import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

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
PROTOS = sorted(path.relative_to(ROOT / "proto") for path in (ROOT / "proto").glob("recollect_api/**/*.proto"))


def run(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


def proto_paths():
    loader = SourceFileLoader("generate_stubs", str(ROOT / ".ci" / "generate-stubs"))
    script = module_from_spec(spec_from_loader(loader.name, loader))
    loader.exec_module(script)
    return script.proto_paths()


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


@pytest.mark.parametrize("proto", PROTOS, ids=str)
def test_everything_in_the_contract_is_documented(proto, tmp_path):
    out = tmp_path / "set.pb"
    options = [*proto_paths(), f"--descriptor_set_out={out}", "--include_source_info"]
    run(sys.executable, "-m", "grpc_tools.protoc", *options, proto, cwd=ROOT / "proto", check=True)
    (file,) = FileDescriptorSet.FromString(out.read_bytes()).file
    documented = {tuple(place.path) for place in file.source_code_info.location if place.leading_comments.strip()}
    elements = {}

    def note(path, name):
        elements[path] = name

    def messages(path, found):
        for at, message in enumerate(found):
            if message.options.map_entry:
                continue
            here = (*path, at)
            note(here, message.name)
            for number, field in enumerate(message.field):
                note((*here, 2, number), f"{message.name}.{field.name}")
            messages((*here, 3), message.nested_type)

    messages((4,), file.message_type)
    for at, enum in enumerate(file.enum_type):
        note((5, at), enum.name)
        for number, value in enumerate(enum.value):
            note((5, at, 2, number), value.name)
    for at, service in enumerate(file.service):
        note((6, at), service.name)
        for number, method in enumerate(service.method):
            note((6, at, 2, number), f"{service.name}.{method.name}")
    assert elements
    assert [name for path, name in elements.items() if path not in documented] == []


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
