"""Requests that nobody would send: bytes at random, and messages with wrong fields, to every method of a real service.

Whatever is sent, the service lives, answers with a status of the contract, and tells nothing of its inside. The same
seed sends the same requests; a failure shows the method and the bytes.
"""

import asyncio
import json
import struct
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import grpc
import grpc.aio
import pytest
from google.longrunning import operations_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from recollect_api.v1 import (
    classifier_pb2,
    composed_retrieval_pb2,
    descriptor_sets_pb2,
    histories_pb2,
    indexes_pb2,
    models_pb2,
    recommender_pb2,
)

GATEWAY = (recommender_pb2, histories_pb2, classifier_pb2, descriptor_sets_pb2, composed_retrieval_pb2)
GATEWAY_TOO = (health_pb2, reflection_pb2)
"""Not ours, and on the same port."""
ADMIN = (indexes_pb2, models_pb2, operations_pb2)
ALLOWED = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.ABORTED,
    # What is slow or too much here is so by design: waits that were asked for, builds, sets that are embedded.
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNAVAILABLE,
}
TELLTALES = ("Traceback", 'File "', ".py", "Error:", "Exception", "<class", "site-packages", "/var/")
TEXTS = (
    "",
    "user-7",
    "items",
    "photos",
    "demo-shop",
    "dare@stable",
    "small.parquet",
    "../../etc/passwd",
    "/etc/passwd",
    "..",
    ".",
    "a/../b",
    "items@../../stable",
    "a\x00b",
    "a\nb",
    "é" * 60,
    "💥",
    "\u202e",
    "a" * 257,
    "b" * 5_000,
    "%s%n",
    "NaN",
    "operations/20200101T000000-00000000",
    "*",
    "../leads-elsewhere",
)
MARKER = "leads-elsewhere"
"""As in `fuzz_server.py`, which tells of every path with it."""
ELSEWHERE = (
    f"../{MARKER}",
    f"../../../../etc/{MARKER}",
    f"/{MARKER}",
    f"./{MARKER}",
    f"items/../../{MARKER}",
    f"items@../{MARKER}",
    f"items/{MARKER}/..",
    f"..\\{MARKER}",
    f"small.parquet/../../{MARKER}",
    f"{MARKER}\x00.json",
    f"{MARKER}\n",
    f"~/{MARKER}",
    f"file:///{MARKER}",
    f"operations/../{MARKER}",
)
"""Names that would lead out of where things of that name are."""
NAMES = {"name", "version", "label", "expected_version", "gallery", "descriptor_set", "model", "parquet"}
"""Fields of requests that name something, or where it is."""
IN_FLIGHT = 24
DEADLINE_S = 20.0


@dataclass(frozen=True)
class Method:
    path: str
    message: type
    streams: bool
    answers_stream: bool
    admin: bool
    seeds: tuple[bytes, ...]


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[dict]:
    """The service, over a Redis of its own: its deletions have the whole file written anew."""
    from recollect.embedded.redis import EmbeddedRedis

    work = tmp_path_factory.mktemp("fuzz")
    script = Path(__file__).with_name("fuzz_server.py")
    with EmbeddedRedis(work / "redis") as redis, (work / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, str(script), str(work), redis.url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        )
        try:
            line = next((line for line in process.stdout if line.startswith(b"PORTS ")), b"")
            assert line, (work / "log").read_text()[-2_000:]
            ports = json.loads(line.removeprefix(b"PORTS "))
            drain = threading.Thread(target=process.stdout.read, daemon=True)
            drain.start()
            yield {"process": process, "log": work / "log", **ports}
            process.stdin.close()
            process.wait(60)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def seeds_of(path: str) -> tuple:
    """Requests that are in order, so that what is changed in them gets far."""
    picture = png()
    v1 = recommender_pb2
    found = {
        "Recommender/Score": [v1.ScoreRequest(user_id="user-7", item_ids=[1, 2, 3], display=["price"], explain=True)],
        "Recommender/ScoreStream": [v1.ScoreStreamRequest(key="a", score={"user_id": "user-7", "item_ids": [1, 2]})],
        "Recommender/Explain": [v1.ExplainRequest(user_id="user-7", item_ids=[1, 2, 3], display=["name"])],
        "Recommender/Recommend": [v1.RecommendRequest(user_id="user-7", count=5, display=["name"], explain=True)],
        "Histories/List": [histories_pb2.ListRequest(user_id="user-7", page_size=3, types=[1])],
        "Histories/Stats": [histories_pb2.StatsRequest(user_id="user-7")],
        "Histories/Delete": [histories_pb2.DeleteRequest(user_id="user-8", request_id="x")],
        "Classifier/Classify": [
            classifier_pb2.ClassifyRequest(descriptor_set="demo-shop", images=[picture], explain=True)
        ],
        "DescriptorSets/Get": [descriptor_sets_pb2.DescriptorSetsGetRequest(name="demo-shop")],
        "ComposedRetrieval/Search": [
            composed_retrieval_pb2.ComposedRetrievalSearchRequest(
                gallery="photos", image=picture, text="at night", k=2
            ),
            composed_retrieval_pb2.ComposedRetrievalSearchRequest(gallery="photos", image_id="1.png", text="a mug"),
        ],
        "Indexes/Build": [indexes_pb2.IndexesBuildRequest(name="items", model={"model": "dare@stable"})],
        "Indexes/Verify": [indexes_pb2.IndexesVerifyRequest(name="items", version="20260101T000000-00000000")],
        "Indexes/List": [indexes_pb2.IndexesListRequest(name="items", page_size=1)],
        "Models/List": [models_pb2.ModelsListRequest(name="dare", page_size=1)],
    }
    return tuple(each.SerializeToString() for each in found.get(path.removeprefix("/recollect_api.v1."), ()))


def png() -> bytes:
    import io

    from PIL import Image

    data = io.BytesIO()
    Image.new("RGB", (32, 24), (200, 30, 30)).save(data, "PNG")
    return data.getvalue()


def methods() -> list[Method]:
    found = []
    for files, admin in ((GATEWAY + GATEWAY_TOO, False), (ADMIN, True)):
        for file in files:
            for service in file.DESCRIPTOR.services_by_name.values():
                for each in service.methods:
                    path = f"/{service.full_name}/{each.name}"
                    found.append(
                        Method(
                            path=path,
                            message=GetMessageClass(each.input_type),
                            streams=each.client_streaming,
                            answers_stream=each.server_streaming,
                            admin=admin,
                            seeds=seeds_of(path),
                        )
                    )
    return found


class Mutator:
    """Makes requests of a message: the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)

    def request(self, method: Method) -> bytes:
        """Bytes that are no message, or one whose fields are wrong, or nearly right."""
        random = self.random
        kind = random.random()
        if kind < 0.1:
            return random.randbytes(random.randrange(200))
        message = method.message()
        if method.seeds and random.random() < 0.7:
            message.ParseFromString(random.choice(method.seeds))
        for _ in range(random.randrange(4)):
            self.change(message, 0)
        data = message.SerializeToString()
        return self.damaged(data) if kind < 0.4 else data

    def damaged(self, data: bytes) -> bytes:
        """A few bytes changed, taken out, put in, or sent twice."""
        random, changed = self.random, bytearray(data)
        for _ in range(random.randrange(1, 5)):
            at = random.randrange(len(changed) + 1)
            choice = random.randrange(5)
            if choice == 0 and at < len(changed):
                changed[at] ^= 1 << random.randrange(8)
            elif choice == 1:
                del changed[at:]
            elif choice == 2:
                changed[at:at] = random.randbytes(random.randrange(8))
            elif choice == 3:
                changed[at:at] = changed[at : at + random.randrange(64)]
            elif at < len(changed):
                changed[at] = random.choice((0, 0x7F, 0x80, 0xFF))
        return bytes(changed)

    def change(self, message, depth: int) -> None:
        """Change one field of a message, or of one in it."""
        fields = message.DESCRIPTOR.fields
        if not fields:
            return
        field = self.random.choice(fields)
        if self.random.random() < 0.15:
            message.ClearField(field.name)
        elif field.is_repeated:
            self.change_many(message, field, depth)
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            getattr(message, field.name).SetInParent()
            if depth < 4:
                for _ in range(self.random.randrange(1, 4)):
                    self.change(getattr(message, field.name), depth + 1)
        else:
            setattr(message, field.name, self.value(field))

    def change_many(self, message, field, depth: int) -> None:
        many, random = getattr(message, field.name), self.random
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            key, value = field.message_type.fields
            if value.type != FieldDescriptor.TYPE_MESSAGE:
                many[self.value(key)] = self.value(value)
            return
        count = random.choice((1, 1, 2, 3, 30, 1_200 if random.random() < 0.1 else 5))
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for _ in range(min(count, 30)):
                added = many.add()
                if depth < 4:
                    self.change(added, depth + 1)
        elif random.random() < 0.3 and len(many):
            many.extend([many[0]] * count)
        else:
            many.extend([self.value(field) for _ in range(count)])

    def value(self, field):
        random, kinds = self.random, FieldDescriptor
        if field.type == kinds.TYPE_BOOL:
            return random.random() < 0.5
        if field.type == kinds.TYPE_STRING:
            return random.choice(TEXTS)
        if field.type == kinds.TYPE_BYTES:
            return random.choice((b"", png()[: random.randrange(120)], random.randbytes(40), b"\x89PNG\r\n\x1a\n" * 9))
        if field.type == kinds.TYPE_ENUM:
            return random.choice((0, 1, 2, 3, 99, -1, 2**31 - 1))
        if field.cpp_type in (kinds.CPPTYPE_FLOAT, kinds.CPPTYPE_DOUBLE):
            extremes = (0.0, -0.0, 1.0, -1.0, float("nan"), float("inf"), float("-inf"), 1e-40, 3e38)
            return random.choice((*extremes, struct.unpack("f", random.randbytes(4))[0]))
        bits = 64 if field.cpp_type in (kinds.CPPTYPE_INT64, kinds.CPPTYPE_UINT64) else 32
        signed = field.cpp_type in (kinds.CPPTYPE_INT32, kinds.CPPTYPE_INT64)
        low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
        return random.choice((0, 1, 2, 7, 100, low, high, high - 1, max(low, -1), random.randint(low, high)))


class Fuzzer:
    """Sends requests and keeps what must not have been answered."""

    def __init__(self, ports: dict, seed: int) -> None:
        self.ports = ports
        self.mutator = Mutator(seed)
        self.codes: Counter = Counter()
        self.reached: dict[str, set] = {}
        self.wrong: list[tuple] = []

    async def run(self, count: int) -> None:
        """Send `count` requests, the methods in turn."""
        turn, random = methods(), self.mutator.random

        def made() -> Iterator[tuple[Method, list[bytes]]]:
            for number in range(count):
                method = turn[number % len(turn)]
                parts = random.randrange(1, 4) if method.streams else 1
                yield method, [self.mutator.request(method) for _ in range(parts)]

        await self.each(made())

    async def each(self, requests: Iterable[tuple[Method, list[bytes]]]) -> list[grpc.StatusCode]:
        """Send them, some at one time; what each ended with."""
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
        codes: dict[int, grpc.StatusCode] = {}
        slots = asyncio.Semaphore(IN_FLIGHT)
        addresses = {name: f"127.0.0.1:{self.ports[name]}" for name in ("gateway", "admin")}
        with grpc.insecure_channel(addresses["gateway"], options=options) as streams:
            async with (
                grpc.aio.insecure_channel(addresses["gateway"], options=options) as gateway,
                grpc.aio.insecure_channel(addresses["admin"], options=options) as admin,
                asyncio.TaskGroup() as group,
            ):

                async def send(number, method, parts):
                    channel = streams if method.streams else admin if method.admin else gateway
                    try:
                        codes[number] = await self.send(channel, method, parts)
                    finally:
                        slots.release()

                for number, (method, parts) in enumerate(requests):
                    await slots.acquire()
                    group.create_task(send(number, method, parts))
        return [codes[number] for number in sorted(codes)]

    async def send(self, channel, method: Method, requests: list[bytes]) -> grpc.StatusCode:
        # A watch has no end, and a wait one that the request names.
        patience_s = 0.2 if method.path.endswith(("/Watch", "/WaitOperation")) else DEADLINE_S
        code, told = grpc.StatusCode.OK, ""
        try:
            if method.streams:
                # grpc.aio's client takes a stream that the server has ended for an error of its own.
                await asyncio.to_thread(streamed, channel, method, requests, patience_s)
            elif method.answers_stream:
                async for _ in channel.unary_stream(method.path)(requests[0], timeout=patience_s):
                    pass
            else:
                await channel.unary_unary(method.path)(requests[0], timeout=patience_s)
        except grpc.RpcError as error:
            trailers = [str(value) for _, value in error.trailing_metadata() or ()]
            code, told = error.code(), " ".join([error.details() or "", *trailers])
        self.codes[code] += 1
        self.reached.setdefault(method.path, set()).add(code)
        if code not in ALLOWED or any(telltale in told for telltale in TELLTALES):
            self.wrong.append((method.path, code, told[:300], [request.hex() for request in requests]))
        return code


def streamed(channel, method: Method, requests: list[bytes], patience_s: float) -> None:
    kind = "stream_stream" if method.answers_stream else "stream_unary"
    answers = getattr(channel, kind)(method.path)(iter(requests), timeout=patience_s)
    if method.answers_stream:
        for _ in answers:
            pass


def touched(log: str) -> list[str]:
    """Lines of what was done with paths that requests had named, after those two that show that they are told."""
    lines = [line for line in log.splitlines() if line.startswith("TOUCHED ")]
    assert [line.split()[1] for line in lines[:2]] == ["os.stat", "open"], lines
    return lines[2:]


def placed(message, text: str, depth: int = 0) -> Iterator[tuple[str, object]]:
    """A message with `text` in one of its strings, or those of messages in it, for each; with the field's name."""
    for field in message.DESCRIPTOR.fields:
        changed = type(message)()
        changed.CopyFrom(message)
        if field.type == FieldDescriptor.TYPE_STRING:
            if field.is_repeated:
                getattr(changed, field.name).append(text)
            else:
                setattr(changed, field.name, text)
            yield field.name, changed
        elif field.type == FieldDescriptor.TYPE_MESSAGE and depth < 3:
            if field.message_type.GetOptions().map_entry:
                continue
            inner = GetMessageClass(field.message_type)()
            for _, part in placed(inner, text, depth + 1):
                changed = type(message)()
                changed.CopyFrom(message)
                if field.is_repeated:
                    getattr(changed, field.name).append(part)
                else:
                    getattr(changed, field.name).CopyFrom(part)
                yield field.name, changed


def fuzz(server: dict, count: int, seed: int) -> Fuzzer:
    fuzzer = Fuzzer(server, seed)
    asyncio.run(fuzzer.run(count))
    kinds = Counter((path, code.name, told[:60]) for path, code, told, _ in fuzzer.wrong)
    assert not fuzzer.wrong, f"{len(fuzzer.wrong)} of {count}: {kinds.most_common(8)}; the first: {fuzzer.wrong[0]}"
    assert server["process"].poll() is None
    log = server["log"].read_text(errors="replace")
    assert "Traceback" not in log, log[log.index("Traceback") :][:3_000]
    assert "incident" not in log
    assert touched(log) == []
    for port in ("gateway", "admin"):
        with grpc.insecure_channel(f"127.0.0.1:{server[port]}") as channel:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=DEADLINE_S)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
    return fuzzer


def test_the_same_seed_makes_the_same_requests():
    method = next(each for each in methods() if each.path.endswith("/Recommend"))
    makers = [Mutator(seed) for seed in (1, 1, 2)]
    first, again, other = ([maker.request(method) for _ in range(50)] for maker in makers)
    assert first == again
    assert first != other


def test_thousands_of_wrong_requests_get_answers_of_the_contract(server):
    fuzzer = fuzz(server, 3_000, seed=1)
    # What is sent is neither all wrong nor all right: else nothing behind the checks, or nothing in them, was tried.
    for path in (
        "Recommender/Score",
        "Recommender/Explain",
        "Recommender/Recommend",
        "Histories/List",
        "ComposedRetrieval/Search",
    ):
        reached = fuzzer.reached[f"/recollect_api.v1.{path}"]
        assert {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT} <= reached, path


def test_names_that_lead_elsewhere_reach_no_file(server):
    fuzzer = Fuzzer(server, 0)
    requests = []
    for method in methods():
        for seed in method.seeds or (b"",):
            base = method.message.FromString(seed)
            requests += [(method, name, part) for text in ELSEWHERE for name, part in placed(base, text)]
    codes = asyncio.run(fuzzer.each([(method, [part.SerializeToString()]) for method, _, part in requests]))
    assert fuzzer.wrong == []
    refused = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}
    taken = [
        (method.path, name, str(part))
        for (method, name, part), code in zip(requests, codes, strict=True)
        # Operations are listed of all names: there is one collection.
        if name in NAMES and code not in refused and not method.path.endswith("/ListOperations")
    ]
    assert taken == []
    assert touched(server["log"].read_text(errors="replace")) == []
    assert len({method.path for method, name, _ in requests if name in NAMES}) > 15


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_a_hundred_thousand_wrong_requests(server):
    fuzzer = fuzz(server, 100_000, seed=2)
    assert sum(fuzzer.codes.values()) == 100_000
