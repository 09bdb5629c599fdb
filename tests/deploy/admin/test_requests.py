"""Admin requests that are wrong: every field is named, and nothing that was sent leads anywhere on the disk."""

from pathlib import Path

import grpc
import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc

from recollect.admin.server import RunningAdmin
from recollect_api import InvalidRequest, NotFound, RecollectClient, Violation
from recollect_api.admin import AdminClient
from recollect_api.v1 import indexes_pb2, indexes_pb2_grpc

NAMES = ["", "..", "../x", "a/b", "/etc", ".hidden", "x" * 101, "a\nb", "a\0b"]


def violations(refused: "pytest.ExceptionInfo[InvalidRequest]") -> dict[str, str]:
    return {each.field: each.description for each in refused.value.violations}


@pytest.fixture
def outside(var: Path) -> Path:
    """A file beside the directory of sources, and links to it from there."""
    outside = var / "secret.parquet"
    outside.write_bytes((var / "vectors" / "small.parquet").read_bytes())
    (var / "vectors" / "link.parquet").symlink_to(outside)
    (var / "vectors" / "up").symlink_to(var)
    (var / "vectors" / "linked").mkdir()
    (var / "vectors" / "linked" / "part.parquet").symlink_to(outside)
    return outside


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_a_name_that_is_none_is_refused_everywhere(admin: AdminClient, name: str) -> None:
    good = "20260101T000000-00000000"
    for call in (
        lambda: admin.build_index(name, files=["small.parquet"]),
        lambda: admin.verify_index(name, good),
        lambda: admin.activate_index(name, good),
        lambda: admin.roll_back_index(name),
        lambda: admin.remove_unneeded_index_versions(name),
        lambda: admin.activate_model(name, good),
        lambda: admin.roll_back_model(name),
        lambda: admin.remove_unneeded_model_versions(name),
    ):
        with pytest.raises(InvalidRequest) as refused:
            call()
        assert set(violations(refused)) == {"name"}
    if name:
        for call in (
            lambda: admin.list_index_versions(name),
            lambda: admin.list_model_versions(name),
            lambda: admin.build_index("items", files=["small.parquet"], label=name),
            lambda: admin.activate_index("items", good, label=name),
            lambda: admin.activate_index("items", good, expected_version=name),
            lambda: admin.verify_index("items", good, against=name),
            lambda: admin.activate_model("dare", name),
        ):
            with pytest.raises(InvalidRequest):
                call()
    with pytest.raises(InvalidRequest) as refused:
        admin.activate_index("items", name)
    assert set(violations(refused)) == {"version"}


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "../secret.parquet",
        "a/../../secret.parquet",
        "./small.parquet",
        ".hidden",
        "a//b",
        "a b",
        "*",
        pytest.param("a" * 256, id="a name that no file can have"),
    ],
    ids=repr,
)
def test_a_path_that_could_lead_elsewhere_is_refused(admin: AdminClient, outside: Path, path: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        admin.build_index("items", files=["small.parquet", path])
    assert set(violations(refused)) == {"parquet.paths[1]"}


@pytest.mark.parametrize("path", ["link.parquet", "up", "up/secret.parquet", "linked"])
def test_a_link_that_leads_out_of_the_sources_is_refused(admin: AdminClient, outside: Path, path: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        admin.build_index("items", files=[path])
    assert "leads out of it" in violations(refused)["parquet.paths[0]"]


@pytest.mark.parametrize(("path", "told"), [("none.parquet", "is not in"), ("empty", "without a *.parquet")])
def test_what_is_not_there_is_told(admin: AdminClient, var: Path, path: str, told: str) -> None:
    (var / "vectors" / "empty").mkdir()
    with pytest.raises(NotFound) as missing:
        admin.build_index("items", files=[path])
    assert told in str(missing.value)
    assert str(var) not in str(missing.value)


@pytest.mark.parametrize("model", ["", "dare", "var/models/dare", "/etc/passwd", "../x@stable", "dare@../x", "dare@"])
def test_a_model_is_named_and_never_a_path(admin: AdminClient, model: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest) as refused:
        admin.build_index("items", model=model)
    assert set(violations(refused)) == {"model.model"}
    with pytest.raises(InvalidRequest) as refused:
        admin.build_index("items", gallery=model)
    assert set(violations(refused)) == {"gallery.gallery"}


@pytest.mark.parametrize("model", ["dare@stable", "dare/20260101T000000-00000000"])
def test_a_model_that_is_not_there_is_told(admin: AdminClient, model: str) -> None:
    with pytest.raises(NotFound, match=f"there is no model '{model}'") as missing:
        admin.build_index("items", model=model)
    assert missing.value.reason == "SOURCE_NOT_FOUND"
    with pytest.raises(NotFound, match="there is no gallery"):
        admin.build_index("items", gallery=model)


def test_every_field_that_is_wrong_is_named_at_once(running: RunningAdmin) -> None:
    request = indexes_pb2.IndexesBuildRequest(
        name="a b",
        label=".",
        recall_aim=1.5,
        request_id="x" * 129,
        specification=indexes_pb2.IndexSpecification(memory_bytes=-1),
    )
    with grpc.insecure_channel(running.address) as channel, pytest.raises(grpc.RpcError) as failed:
        indexes_pb2_grpc.IndexesStub(channel).Build(request, timeout=30)
    from recollect_api.errors import from_rpc_error

    error = from_rpc_error(failed.value, target="")
    assert isinstance(error, InvalidRequest)
    assert {each.field for each in error.violations} == {
        "name",
        "label",
        "request_id",
        "source",
        "specification.memory_bytes",
        "recall_aim",
    }


@pytest.mark.parametrize(
    ("field", "value"), [("kind", 9), ("storage", 9), ("refine", indexes_pb2.VECTOR_STORAGE_PQ)], ids=str
)
def test_a_choice_that_there_is_not_is_refused(running: RunningAdmin, field: str, value: int) -> None:
    request = indexes_pb2.IndexesBuildRequest(
        name="items",
        model=indexes_pb2.ModelItems(model="dare@stable"),
        specification=indexes_pb2.IndexSpecification(**{field: value}),  # type: ignore[arg-type]
    )
    with grpc.insecure_channel(running.address) as channel, pytest.raises(grpc.RpcError) as failed:
        indexes_pb2_grpc.IndexesStub(channel).Build(request, timeout=30)
    assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_galleries_name_is_not_an_indexes(admin: AdminClient, var: Path) -> None:
    (var / "indexes" / "shop" / "20260101T000000-00000000" / "gallery").mkdir(parents=True)
    (var / "indexes" / "shop" / "20260101T000000-00000000" / "manifest.json").write_text("{}")
    with pytest.raises(InvalidRequest, match="must not be the name of a gallery"):
        admin.build_index("shop", files=["small.parquet"])


@pytest.mark.parametrize("name", ["", "x", "operations/", "operations/../secret", "operations/a/b", "operations/\n"])
def test_an_operation_is_named_as_it_was_told(admin: AdminClient, name: str) -> None:
    for call in (admin.get_operation, admin.cancel_operation, admin.forget_operation, admin.wait_operation):
        with pytest.raises(InvalidRequest):
            call(name)  # type: ignore[operator]
    with pytest.raises(NotFound) as missing:
        admin.cancel_operation("operations/20260101T000000-00000000")
    assert missing.value.reason == "OPERATION_NOT_FOUND"


@pytest.mark.parametrize(("page_size", "page_token"), [(-1, ""), (1_001, ""), (0, "???")])
def test_pages_are_of_some_size_and_begin_where_one_ended(admin: AdminClient, page_size: int, page_token: str) -> None:
    for call in (admin.list_index_versions, admin.list_model_versions, admin.list_operations):
        with pytest.raises(InvalidRequest):
            call(page_size=page_size, page_token=page_token)  # type: ignore[operator]


def test_operations_are_neither_filtered_nor_of_another_parent(running: RunningAdmin) -> None:
    with grpc.insecure_channel(running.address) as channel:
        stub = operations_pb2_grpc.OperationsStub(channel)
        assert list(stub.ListOperations(operations_pb2.ListOperationsRequest(name="operations")).operations) == []
        for wrong in ({"filter": "done=true"}, {"name": "others"}):
            with pytest.raises(grpc.RpcError) as failed:
                stub.ListOperations(operations_pb2.ListOperationsRequest(**wrong))
            assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("keep", [-1, 1_001])
def test_how_many_stay_is_a_number_of_versions(admin: AdminClient, keep: int) -> None:
    with pytest.raises(InvalidRequest) as refused:
        admin.remove_unneeded_index_versions("items", keep=keep)
    assert refused.value.violations[0] == Violation(
        field="keep", description=f"must be 0 to 1000, got {keep}; left out it is 2"
    )


@pytest.mark.parametrize(
    ("given", "told"),
    [({}, "one of model, files"), ({"model": "m@stable", "files": ["x"]}, "one of"), ({"files": "x"}, "list")],
    ids=["nothing", "both", "a text"],
)
def test_one_source_is_given_to_the_client(admin: AdminClient, given: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        admin.build_index("items", **given)  # type: ignore[arg-type]


def test_what_serves_is_not_on_the_admin_port(running: RunningAdmin) -> None:
    with RecollectClient(running.address) as client, pytest.raises(Exception, match=r"(?i)method") as unknown:
        client.score("somebody", [1])
    assert unknown.value.code is grpc.StatusCode.UNIMPLEMENTED  # type: ignore[attr-defined]
