"""Images of several calls embedded together: which go together, and who learns of what goes wrong."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from recollect.classification.batching import ImageBatcher


class Embedding:
    """An image's embedding is its value; keeps the batches, waits for `go`, fails on negative values."""

    def __init__(self):
        self.batches, self.go, self.begun = [], threading.Event(), threading.Event()
        self.go.set()

    def __call__(self, pixels):
        values = pixels[:, 0, 0, 0].tolist()
        self.batches.append(values)
        self.begun.set()
        assert self.go.wait(30)
        if min(values) < 0:
            raise RuntimeError("a negative image")
        return pixels[:, :1, 0, 0]


@pytest.fixture
def embedding():
    return Embedding()


@pytest.fixture
def run(embedding):
    """Run `scenario(batcher)` with a batcher of at most 4 images."""

    def use(scenario):
        async def inside():
            with ThreadPoolExecutor(1) as executor:
                return await asyncio.wait_for(scenario(ImageBatcher(embedding, executor, largest=4)), 30)

        return asyncio.run(inside())

    return use


def images(*values):
    return [np.full((3, 2, 2), value, dtype=np.float32) for value in values]


async def started(batcher, *calls):
    """The calls as tasks, each of which has handed its images over."""
    tasks = []
    for call in calls:
        tasks.append(asyncio.create_task(batcher.embed(call)))
        await asyncio.sleep(0)
    return tasks


def values(embeddings):
    return [float(embedding[0]) for embedding in embeddings]


def test_each_call_gets_its_own_embeddings_in_its_order(run, embedding):
    async def scenario(batcher):
        return await asyncio.gather(*(batcher.embed(images(*call)) for call in ((3, 1), (2,), (), (9, 8, 7, 6, 5))))

    assert [values(each) for each in run(scenario)] == [[3, 1], [2], [], [9, 8, 7, 6, 5]]
    assert sorted(value for batch in embedding.batches for value in batch) == [1, 2, 3, 5, 6, 7, 8, 9]
    assert max(map(len, embedding.batches)) <= 4


def test_what_comes_while_a_batch_is_computed_goes_together(run, embedding):
    embedding.go.clear()

    async def scenario(batcher):
        first = await started(batcher, images(1))
        await asyncio.to_thread(embedding.begun.wait, 30)
        rest = await started(batcher, images(2), images(3, 4), images(5, 6))
        embedding.go.set()
        await asyncio.gather(*first, *rest)

    run(scenario)
    assert embedding.batches == [[1], [2, 3, 4, 5], [6]]


def test_a_call_that_was_given_up_is_left_out(run, embedding):
    embedding.go.clear()

    async def scenario(batcher):
        (first,) = await started(batcher, images(1))
        await asyncio.to_thread(embedding.begun.wait, 30)
        gone, stays = await started(batcher, images(2, 3), images(4))
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        embedding.go.set()
        return values(await first), values(await stays)

    assert run(scenario) == ([1], [4])
    assert embedding.batches == [[1], [4]]


def test_a_failing_batch_ends_its_calls_and_no_others(run, embedding):
    async def scenario(batcher):
        with pytest.raises(RuntimeError, match="a negative image"):
            await batcher.embed(images(1, 2, 3, 4, -5))
        return values(await batcher.embed(images(6)))

    assert run(scenario) == [6]


def test_an_encoder_that_loses_an_image_is_an_error_and_nobody_waits_for_ever(run, embedding, monkeypatch):
    monkeypatch.setattr(Embedding, "__call__", lambda _, pixels: pixels[1:, :1, 0, 0])

    async def scenario(batcher):
        with pytest.raises(ValueError, match="zip"):
            await batcher.embed(images(1, 2))

    run(scenario)
