"""The admin server around its services: one a directory, health and reflection, and a line of log for every change."""

import json
import logging
import socket
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from recollect.admin.server import SERVICES, AdminConfig, RunningAdmin
from recollect.errors import SetupError
from recollect.gateway.server import Gateway
from recollect_api import NotFound
from recollect_api.admin import AdminClient


def test_the_server_and_each_service_report_serving(running: RunningAdmin) -> None:
    with grpc.insecure_channel(running.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for name in ("", *SERVICES):
            status = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=30).status
            assert status == health_pb2.HealthCheckResponse.SERVING


def test_reflection_names_the_services_and_gives_their_contract(running: RunningAdmin) -> None:
    symbols = ["recollect_api.v1.Indexes", "recollect_api.v1.Models", "google.longrunning.Operations"]
    requests = [reflection_pb2.ServerReflectionRequest(list_services="")]
    requests += [reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol) for symbol in symbols]
    with grpc.insecure_channel(running.address) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        listing, *files = stub.ServerReflectionInfo(iter(requests), timeout=30)
    assert {each.name for each in listing.list_services_response.service} == {
        *symbols,
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    found = [FileDescriptorProto.FromString(file.file_descriptor_response.file_descriptor_proto[0]) for file in files]
    assert [[method.name for method in each.service[0].method] for each in found] == [
        ["Build", "List", "Verify", "Activate", "Rollback", "RemoveUnneeded"],
        ["List", "Verify", "Activate", "Rollback", "RemoveUnneeded"],
        ["ListOperations", "GetOperation", "DeleteOperation", "CancelOperation", "WaitOperation"],
    ]


def test_there_is_one_a_directory(running: RunningAdmin, admin_config: Callable[..., AdminConfig], var: Path) -> None:
    with pytest.raises(SetupError, match=f"another service with --admin-port administers {var}"):
        RunningAdmin(admin_config()).__enter__()
    with AdminClient(running.address) as admin:
        assert admin.list_index_versions().versions == ()


def test_its_port_is_shared_with_nobody(
    running: RunningAdmin, admin_config: Callable[..., AdminConfig], tmp_path: Path
) -> None:
    elsewhere = {"var": tmp_path / "elsewhere"}
    with pytest.raises(SetupError, match="cannot listen on"):
        RunningAdmin(admin_config(port=running.port, settings=elsewhere)).__enter__()
    # What failed to start holds nothing.
    with RunningAdmin(admin_config(settings=elsewhere)) as other, AdminClient(other.address) as admin:
        assert list(admin.operations()) == []


def test_it_listens_on_this_machine_alone(running: RunningAdmin) -> None:
    assert running.address == f"127.0.0.1:{running.port}"
    others = {each[4][0] for each in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)} - {"127.0.0.1"}
    for address in others:
        if not address.startswith("127."):
            with pytest.raises(OSError, match="refused"):
                socket.create_connection((address, running.port), timeout=5)


def test_the_gateway_knows_nothing_of_it(gateway: "Gateway") -> None:
    with AdminClient(gateway.address) as admin, pytest.raises(Exception, match=r"(?i)method") as unknown:  # type: ignore[attr-defined]
        admin.list_index_versions()
    assert unknown.value.code is grpc.StatusCode.UNIMPLEMENTED  # type: ignore[attr-defined]


def test_every_change_is_a_line_of_log_and_nothing_else_is(
    running: RunningAdmin, admin: AdminClient, versions: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="recollect.audit")
    admin.list_index_versions()
    admin.verify_index("items", versions[0])
    list(admin.operations())
    assert caplog.messages == []
    admin.activate_index("items", versions[0], request_id="night\nIndexes.Rollback -> OK {}")
    with pytest.raises(NotFound):
        admin.activate_index("items", "20200101T000000-00000000", label="canary")
    operation = admin.build_index("items", files=["small.parquet"], label="")
    version = admin.wait_operation(operation.name).result().version
    admin.forget_operation(operation.name)
    with pytest.raises(NotFound):
        admin.remove_unneeded_model_versions("dare")
    lines = caplog.messages
    assert [line.partition(" {")[0] for line in lines] == [
        "Indexes.Activate -> OK",
        "Indexes.Activate -> NOT_FOUND VERSION_NOT_FOUND",
        "Indexes.Build -> OK",
        f"{operation.name} of index items -> OK",
        "Operations.DeleteOperation -> OK",
        "Models.RemoveUnneeded -> NOT_FOUND VERSION_NOT_FOUND",
    ]
    assert not any("\n" in line for line in lines)
    told = [json.loads(line[line.index("{") :]) for line in lines]
    assert told[0]["peer"].startswith("ipv4:127.0.0.1:")
    assert told[0]["request"]["version"] == versions[0]
    assert told[0]["request"]["request_id"] == "night\nIndexes.Rollback -> OK {}"
    assert told[1]["response"] is None
    assert told[3]["version"] == version
