"""Throughput of Classify with and without dynamic batching: real gRPC, a real Ray Serve, concurrent clients.

    python -m recollect.classification.benchmarks.batching ENCODER [--clients 16] [--rounds 5] [--seconds 4] [--json]

The same application is started once a way of batching, each with its own encoder: images one by one (`off`), ours
(`on`), and Ray Serve's `@serve.batch` in its place, without and with its wait. The ways are measured in turns; a row
gives the median over rounds of images a second, of a round's p50 and p99, and of the ratio to `off` of the same round.
"""

import argparse
import asyncio
import io
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from recollect.classification.config import ClassificationConfig
from recollect.classification.deployment import ClassificationReplica
from recollect.embedded.ray import ray_cluster
from recollect.gateway.models import ServedModel
from recollect.gateway.replica import GatewayReplica
from recollect.gateway.server import GatewayConfig
from recollect.serve_app import DEPLOYMENT_OPTIONS, reserve_port
from recollect.settings import Settings
from recollect_api import AsyncRecollectClient, RecollectClient
from retrieval.encoders.protocol import Floats

if TYPE_CHECKING:
    from ray.serve import Application

SET = "measured"
CLASSES = {f"class {number}": [f"part {number}", f"colour {number}"] for number in range(20)}
WARM_UP_S = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """What is asked of each way of batching."""

    clients: int
    """Callers, each with one call at a time."""
    images: int
    """Images a call."""
    side: int
    """Pixels of a side of the JPEG that is sent."""
    seconds: float
    """How long a round takes."""


class NoModels:
    """A model source for a gateway that is asked for no scores."""

    def pin(self, reference: str) -> str:
        """As it is."""
        return reference

    def current(self, reference: str) -> str:
        """As it is."""
        return reference

    def load(self, reference: str) -> ServedModel:
        """A model that would fail."""
        return ServedModel(name="none", version=reference, ranker=None)  # type: ignore[arg-type]


class ServeBatching:
    """`@serve.batch` where `ImageBatcher` would be."""

    def __init__(self, replica: Any, *, largest: int, wait_s: float) -> None:
        from ray import serve

        service = replica._service

        @serve.batch(max_batch_size=largest, batch_wait_timeout_s=wait_s)
        async def embed(images: list[Floats]) -> list[Floats]:
            loop = asyncio.get_running_loop()
            return list(await loop.run_in_executor(service._embedding, service._encoder.embed_pixels, np.stack(images)))

        self._one = embed

    async def embed(self, images: Sequence[Floats]) -> list[Floats]:
        """The embeddings of `images`, each its own request to Serve's batching."""
        return list(await asyncio.gather(*(self._one(pixels) for pixels in images)))


class ServeBatchingReplica(ClassificationReplica):
    """Ours but for the batching."""

    async def __init__(self, config: ClassificationConfig, wait_s: float) -> None:  # type: ignore[misc]
        await super().__init__(config)
        self._service._batcher = ServeBatching(  # type: ignore[assignment]
            self, largest=config.largest_batch, wait_s=wait_s
        )


def applications(config: ClassificationConfig) -> dict[str, "Application"]:
    """The encoder's deployment for each way of batching."""
    from ray import serve

    deployment = serve.deployment(name="Classification", max_ongoing_requests=512, **DEPLOYMENT_OPTIONS)
    ours, theirs = deployment(ClassificationReplica), deployment(ServeBatchingReplica)
    return {
        "off": ours.bind(replace(config, largest_batch=1)),
        "on": ours.bind(config),
        "serve.batch, no wait": theirs.bind(config, 0.0),
        "serve.batch, 10 ms": theirs.bind(config, 0.01),
    }


def start(name: str, classification: "Application", stack: ExitStack) -> str:
    """Run a gateway before `classification`; returns its address."""
    from ray import serve

    application = name.replace(" ", "-").replace(",", "").replace(".", "-")
    reservation = stack.enter_context(reserve_port("127.0.0.1", 0))
    port = reservation.getsockname()[1]
    deployment = serve.deployment(name="Gateway", user_config={"model": "none"}, **DEPLOYMENT_OPTIONS)
    gateway = deployment(GatewayReplica).bind(
        config=GatewayConfig(port=port),
        redis_url="redis://127.0.0.1:1",
        redis_timeout_s=1.0,
        models=NoModels(),
        desired=None,
        classification=classification,
    )
    serve.run(gateway, name=application, route_prefix=None)
    return f"127.0.0.1:{port}"


async def measured(address: str, load: Load, images: Sequence[bytes], seconds: float) -> tuple[float, float, float]:
    """Images a second, p50 and p99 in ms."""
    taken: list[float] = []
    began = time.perf_counter()

    async def call(first: int) -> None:
        async with AsyncRecollectClient(address, classify_timeout_s=120, connections=1) as client:
            at = first
            while time.perf_counter() < began + seconds:
                batch = [images[(at + offset) % len(images)] for offset in range(load.images)]
                sent = time.perf_counter()
                await client.classify(batch, descriptor_set=SET)
                taken.append(time.perf_counter() - sent)
                at += load.images

    await asyncio.gather(*(call(number) for number in range(load.clients)))
    median, tail = np.percentile(taken, [50, 99])
    elapsed = time.perf_counter() - began
    return load.images * len(taken) / elapsed, 1_000 * float(median), 1_000 * float(tail)


def measure(config: ClassificationConfig, load: Load, rounds: int) -> list[dict[str, object]]:
    """One row a way of batching."""
    generator = np.random.default_rng(0)
    images = [_photograph(generator, load.side) for _ in range(32)]
    with ray_cluster(Settings(), serving=True), ExitStack() as stack:
        addresses = {name: start(name, each, stack) for name, each in applications(config).items()}
        for address in addresses.values():
            with RecollectClient(address, timeout_s=120, classify_timeout_s=120) as client:
                client.create_descriptor_set(SET, CLASSES)
                while not all(each.ready for each in client.descriptor_sets()):
                    time.sleep(0.1)
            asyncio.run(measured(address, load, images, WARM_UP_S))
        taken: dict[str, list[tuple[float, float, float]]] = {name: [] for name in addresses}
        for _ in range(rounds):
            for name, address in addresses.items():
                taken[name].append(asyncio.run(measured(address, load, images, load.seconds)))
    return [
        {
            "batching": name,
            "ratio": round(statistics.median(row[0] / off[0] for row, off in zip(rows, taken["off"], strict=True)), 2),
            "images_a_second": round(statistics.median(row[0] for row in rows), 1),
            "p50_ms": round(statistics.median(row[1] for row in rows), 1),
            "p99_ms": round(statistics.median(row[2] for row in rows), 1),
        }
        for name, rows in taken.items()
    ]


def _photograph(generator: np.random.Generator, side: int) -> bytes:
    """A JPEG of blurred noise, which takes about as many bytes as a photograph."""
    small = Image.fromarray(generator.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8))
    data = io.BytesIO()
    small.resize((side, side), Image.Resampling.BICUBIC).save(data, "JPEG", quality=85)
    return data.getvalue()


def main() -> None:
    """Measure and print a Markdown table, or JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoder", help="directory or name of an encoder")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--images", type=int, default=1, help="images a call")
    parser.add_argument("--side", type=int, default=256, help="pixels of a side of the JPEG that is sent")
    parser.add_argument("--batch", type=int, default=16, help="largest batch")
    parser.add_argument(
        "--threads", type=int, default=max(1, (os.cpu_count() or 1) // 2), help="threads that a batch is computed with"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a round")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    load = Load(clients=options.clients, images=options.images, side=options.side, seconds=options.seconds)
    directory = Path(options.encoder)
    with tempfile.TemporaryDirectory() as var:
        config = ClassificationConfig(
            encoder=str(directory.resolve()) if directory.is_dir() else options.encoder,
            sets=Path(var) / "sets",
            text_cache=Path(var) / "texts",
            decode_threads=os.cpu_count() or 1,
            embedding_threads=options.threads,
            largest_batch=options.batch,
        )
        rows = measure(config, load, options.rounds)
    if options.json:
        for row in rows:
            print(json.dumps(row))
        return
    print(
        f"{datetime.now(UTC):%Y-%m-%d}, {options.encoder}, {load.clients} clients, {load.images} images of {load.side} "
        f"pixels a call, {options.threads} threads, {options.rounds} rounds of {load.seconds:g} s, load average "
        f"{os.getloadavg()[0]:.1f}\n"
    )
    print("| " + " | ".join(rows[0]) + " |\n|" + "---|" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(str(value) for value in row.values()) + " |")


if __name__ == "__main__":
    main()
