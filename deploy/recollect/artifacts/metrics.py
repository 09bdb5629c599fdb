"""Read what a model reached when it was measured."""

import json

from recollect.artifacts.kinds import Artifact


def measured(artifact: Artifact) -> dict[str, float]:
    """Figure → value on the test split, such as `auc`; empty where nothing was measured."""
    try:
        found = json.loads((artifact.directory / "metrics.json").read_text()).get("test", {})
        return {key: value for key, value in found.items() if isinstance(value, float)}
    except (OSError, ValueError, AttributeError):
        return {}
