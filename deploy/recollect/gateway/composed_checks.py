"""Check requests of composed retrieval: every field that is wrong is named at once, with what to send instead."""

import math

from recollect.classification.store import is_set_name
from recollect.composed.calls import Filter, SearchCall
from recollect.gateway.metadata_checks import require_filters
from recollect.gateway.validation import Violations, shown
from recollect_api.v1 import composed_retrieval_pb2
from retrieval.composed.geometry import Box

DEFAULT_K = 10
MAX_K = 100
MAX_TEXT = 2_000
"""Most characters of a text; no model reads as many."""
MAX_IMAGE_ID_BYTES = 1_024


def check_search(
    request: composed_retrieval_pb2.ComposedRetrievalSearchRequest, *, timeout_s: float | None
) -> SearchCall:
    """What `request` asks for; InvalidCall names every field that is wrong."""
    violations = Violations()
    violations.require_request_id(request.request_id)
    if not is_set_name(request.gallery):
        violations.add(
            "gallery",
            "must be 1 to 100 letters, digits, '.', '_' or '-', and start with a letter or digit; got "
            f"{shown(request.gallery)}; ListGalleries names the galleries",
        )
    kind = request.WhichOneof("reference")
    if kind is None:
        violations.add("image", "must be given where image_id is not; send the picture that shows the object")
    elif kind == "image_id":
        violations.require_text(
            "image_id",
            request.image_id,
            most_bytes=MAX_IMAGE_ID_BYTES,
            empty="send the id of a picture of the gallery, or the picture as image",
        )
    _require_text(violations, request.text)
    if request.k > MAX_K:
        violations.add("k", f"must be at most {MAX_K}, got {request.k}; 0 means {DEFAULT_K}")
    if request.HasField("beta") and not 0 <= request.beta < math.inf:
        violations.add(
            "beta", f"must be finite and 0 or more, got {request.beta:g}; leave it out and the model decides"
        )
    if request.HasField("box"):
        _require_box(violations, request.box)
    require_filters(violations, "filters", request.filters)
    violations.raise_any()
    box = request.box
    return SearchCall(
        gallery=request.gallery,
        reference=request.image_id if kind == "image_id" else request.image,
        box=Box(box.x1, box.y1, box.x2, box.y2) if request.HasField("box") else None,
        text=request.text,
        k=request.k or DEFAULT_K,
        filters=tuple(Filter(column=each.column, values=tuple(each.values)) for each in request.filters),
        explain=request.explain,
        beta=request.beta if request.HasField("beta") else None,
        timeout_s=timeout_s,
    )


def _require_text(violations: Violations, text: str) -> None:
    if not text.strip():
        violations.add("text", f"must not be blank, got {shown(text)}; say what should be different")
    elif len(text) > MAX_TEXT:
        violations.add("text", f"must be at most {MAX_TEXT} characters, got {len(text)}; send a shorter one")


def _require_box(violations: Violations, box: composed_retrieval_pb2.BoundingBox) -> None:
    """What is wrong with a box whatever the picture; whether it is inside shows when that is decoded."""
    sides = {"x1": box.x1, "y1": box.y1, "x2": box.x2, "y2": box.y2}
    odd = {name: side for name, side in sides.items() if not math.isfinite(side)}
    for name, side in odd.items():
        violations.add(f"box.{name}", f"must be a finite number, got {side:g}; send pixels of the reference")
    for low, high in (("x1", "x2"), ("y1", "y2")):
        if not odd and sides[low] >= sides[high]:
            violations.add(
                f"box.{high}",
                f"must be more than box.{low}, which is {sides[low]:g}, got {sides[high]:g}; send the left upper and "
                "the right lower corner, in pixels",
            )
