"""What a run of composed retrieval claims its directory for: recipe, job, and what the job found to train on."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

_DIGEST = "digest"


def claim_of(recipe: str, job: Mapping[str, Any], found: object) -> dict[str, Any]:
    """The claim of a job, by fields, with a recipe in JSON. What it `found`, as JSON takes it, goes in as a digest."""
    digest = hashlib.sha256(json.dumps(found).encode()).hexdigest()
    return {"training": json.loads(recipe), "data": {**job, _DIGEST: digest}}


def job_of(claim: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the job in a claim."""
    return {name: value for name, value in claim["data"].items() if name != _DIGEST}


def recipe_of(claim: Mapping[str, Any]) -> str:
    """The recipe in a claim."""
    return json.dumps(claim["training"])
