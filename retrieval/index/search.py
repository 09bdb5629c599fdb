"""Search a FAISS index with parameters of the call's own, among all vectors or some."""

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_REFINED = 4.0
"""Candidates that an index with refine compares again, by those asked for."""


def use_threads(count: int) -> None:
    """Have FAISS compute with `count` threads where it is called from this thread; a server takes one.

    OpenMP keeps the number for each calling thread by itself: a thread that was not told takes all cores. A search with
    a single query takes one thread whatever the number.
    """
    faiss = _faiss()
    faiss.omp_set_num_threads(count)


def search(
    index: Any, queries: Floats, k: int, *, probes: int | None = None, allowed: npt.NDArray[np.uint8] | None = None
) -> tuple[Floats, Ids]:
    """The k vectors [n, k] of the highest inner product with each query [n, d], best first: similarities and ids.

    `probes` overrules the index's own lists to look through (HNSW: candidates in view). `allowed` has a bit for each
    id, the lowest of a byte first, that says whether it may be found: see `allowed_bits`. Where fewer than k are found
    the rest has id −1.
    """
    if probes is None and allowed is None:
        # As it is: making parameters takes longer than a search in a small index.
        similarities, ids = index.search(queries, k)
    else:
        similarities, ids = index.search(queries, k, params=_parameters(index, probes, allowed))
    return similarities, ids


def allowed_bits(allowed: Mask, *, each: int = 1) -> npt.NDArray[np.uint8]:
    """The bits of `each` ids in a row for each of `allowed` [N]."""
    if each % 8 == 0:
        return np.repeat(np.where(allowed, np.uint8(255), np.uint8(0)), each // 8)
    return np.packbits(np.repeat(allowed, each), bitorder="little")


def own_probes(index: Any) -> tuple[int, int]:
    """What an index looks through unless told, and the most that it could: lists, candidates in view, or (0, 0)."""
    faiss = _faiss()
    plain = plain_index(index)
    if isinstance(plain, faiss.IndexIVF):
        return int(plain.nprobe), int(plain.nlist)
    if isinstance(plain, faiss.IndexHNSW):
        return int(plain.hnsw.efSearch), int(plain.ntotal)
    return 0, 0


def set_own_probes(index: Any, probes: int) -> None:
    """Have an index look through that many lists (HNSW: candidates in view) unless told.

    One that refines compares four times as many candidates again as are asked for.
    """
    faiss = _faiss()
    whole, plain = faiss.downcast_index(index), plain_index(index)
    if isinstance(whole, faiss.IndexRefine):
        whole.k_factor = _REFINED
    if isinstance(plain, faiss.IndexIVF):
        plain.nprobe = probes
    elif isinstance(plain, faiss.IndexHNSW):
        plain.hnsw.efSearch = probes


def plain_index(index: Any) -> Any:
    """The index itself, without what compares its candidates again."""
    faiss = _faiss()
    plain = faiss.downcast_index(index)
    return faiss.downcast_index(plain.base_index) if isinstance(plain, faiss.IndexRefine) else plain


def refining_index(index: Any) -> Any | None:
    """What compares the candidates of an index again; None where nothing does."""
    faiss = _faiss()
    whole = faiss.downcast_index(index)
    return faiss.downcast_index(whole.refine_index) if isinstance(whole, faiss.IndexRefine) else None


def _faiss() -> Any:
    """FAISS, whose type stubs know no parameters of searches."""
    import faiss

    return faiss


def _parameters(index: Any, probes: int | None, allowed: npt.NDArray[np.uint8] | None) -> Any:
    faiss = _faiss()
    # The selector keeps the array alive, whose bytes FAISS reads where they are.
    selector = None if allowed is None else faiss.IDSelectorBitmap(allowed)
    plain = plain_index(index)
    if isinstance(plain, faiss.IndexIVF):
        parameters = faiss.SearchParametersIVF(nprobe=probes or plain.nprobe, sel=selector)
    elif isinstance(plain, faiss.IndexHNSW):
        parameters = faiss.SearchParametersHNSW(efSearch=probes or plain.hnsw.efSearch, sel=selector)
    else:
        parameters = faiss.SearchParameters(sel=selector)
    if isinstance(faiss.downcast_index(index), faiss.IndexRefine):
        return faiss.IndexRefineSearchParameters(k_factor=_REFINED, base_index_params=parameters)
    return parameters
