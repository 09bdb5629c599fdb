"""What an index is like: what is refused, FAISS's name of it, its size, and what is chosen."""

import json
from typing import Any

import pytest

from retrieval.errors import IndexingError
from retrieval.index.spec import IndexSpec, Kind, Storage, choose_spec


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        pytest.param({"kind": Kind.IVF}, "got 0 lists and 0 probes", id="ivf-without-lists"),
        pytest.param(
            {"kind": Kind.IVF, "lists": 4, "probes": 5}, "got 4 lists and 5 probes", id="more-probes-than-lists"
        ),
        pytest.param({"lists": 4}, "lists must be 0 for kind flat, got 4", id="flat-with-lists"),
        pytest.param({"kind": Kind.HNSW, "links": 1, "probes": 8}, "at least 2 links", id="hnsw-links"),
        pytest.param({"kind": Kind.HNSW}, "view of at least 1, got 32 and 0", id="hnsw-view"),
        pytest.param(
            {"kind": Kind.HNSW, "probes": 8, "storage": Storage.PQ}, "use kind ivf for codes", id="hnsw-codes"
        ),
        pytest.param({"codes": 0}, "codes must be at least 1, got 0", id="no-codes"),
        pytest.param({"bits": 6}, "bits must be 4 or 8, got 6", id="bits"),
        pytest.param({"storage": Storage.PQ, "bits": 4}, "use kind ivf, or 8 bits", id="flat-fast-scan"),
        pytest.param({"refine": Storage.PQ}, "refine must be fp32, fp16 or sq8", id="refine-by-codes"),
    ],
)
def test_a_spec_that_cannot_be_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(IndexingError, match=message):
        IndexSpec(**fields)


@pytest.mark.parametrize(
    ("spec", "name", "size"),
    [
        pytest.param(IndexSpec(), "Flat", 256, id="flat"),
        pytest.param(IndexSpec(storage=Storage.FP16), "SQfp16", 128, id="fp16"),
        pytest.param(IndexSpec(kind=Kind.IVF, lists=8, probes=2, storage=Storage.SQ8), "IVF8,SQ8", 72, id="ivf-sq8"),
        pytest.param(
            IndexSpec(kind=Kind.IVF, lists=8, probes=2, storage=Storage.PQ, codes=16), "IVF8,PQ16np", 24, id="ivf-pq"
        ),
        pytest.param(
            IndexSpec(kind=Kind.IVF, lists=8, probes=2, storage=Storage.PQ, codes=16, bits=4, refine=Storage.SQ8),
            "IVF8,PQ16x4fs,Refine(SQ8)",
            8 + 64 + 8,
            id="fast-scan-refined",
        ),
        pytest.param(IndexSpec(kind=Kind.HNSW, links=4, probes=8), "HNSW4,Flat", 256 + 32, id="hnsw"),
    ],
)
def test_faiss_name_and_bytes_a_vector_of_64_numbers(spec: IndexSpec, name: str, size: int) -> None:
    assert spec.factory(64) == name
    assert spec.bytes_a_vector(64) == size
    assert IndexSpec.from_json(json.loads(json.dumps(spec.as_json()))) == spec


def test_codes_must_divide_the_dimension() -> None:
    with pytest.raises(IndexingError, match="codes must divide the dimension 24, got 16; such as 8"):
        IndexSpec(storage=Storage.PQ, codes=16).factory(24)


@pytest.mark.parametrize(
    "altered", [{"kind": "tree"}, {"lists": None}, {"refine": "sq9"}], ids=["kind", "lists", "refine"]
)
def test_a_spec_that_was_not_written_by_us_is_refused(altered: dict[str, Any]) -> None:
    values = {**IndexSpec().as_json(), **altered}
    with pytest.raises(IndexingError, match=r"cannot be read.*build the index again"):
        IndexSpec.from_json(values)


@pytest.mark.parametrize(
    ("count", "memory", "kind", "storage"),
    [
        pytest.param(20_000, None, Kind.FLAT, Storage.FP32, id="few-are-compared-whole"),
        pytest.param(1_000_000, None, Kind.IVF, Storage.FP32, id="many-lie-in-lists"),
        # 4 · 128 + 8, 2 · 128 + 8, 128 + 8 and 32 + 8 bytes a vector.
        pytest.param(1_000_000, 519_999_999, Kind.IVF, Storage.FP16, id="a-byte-too-few-for-fp32"),
        pytest.param(1_000_000, 263_999_999, Kind.IVF, Storage.SQ8, id="a-byte-too-few-for-fp16"),
        pytest.param(1_000_000, 135_999_999, Kind.IVF, Storage.PQ, id="a-byte-too-few-for-sq8"),
        pytest.param(1_000_000, 40_000_000, Kind.IVF, Storage.PQ, id="just-enough-for-codes"),
    ],
)
def test_the_least_compressed_that_fits_is_chosen(count: int, memory: int | None, kind: Kind, storage: Storage) -> None:
    spec = choose_spec(count, 128, memory_bytes=memory)
    assert (spec.kind, spec.storage) == (kind, storage)
    assert spec.lists == (1024 if kind is Kind.IVF else 0)


def test_what_fits_in_no_form_is_refused_with_the_limit() -> None:
    with pytest.raises(IndexingError, match="1,000,000 vectors of 128 take more than the 38 MiB allowed, even as pq"):
        choose_spec(1_000_000, 128, memory_bytes=39_999_999)
