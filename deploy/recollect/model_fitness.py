"""Ask a version of a model what it answered when it was saved, before a label points at it."""

from recollect.artifacts import Artifact
from recollect.errors import ArtifactError
from recsys.errors import StoreError


def require_fit(artifact: Artifact) -> bool:
    """Return whether `artifact` was asked: a baseline answers nobody, and is not.

    Raises ArtifactError where it cannot be loaded or fails its self-test.
    """
    from recsys.models.dare import Dare
    from recsys.models.directory import CONFIG_FILE, read_json
    from recsys.ranking import Ranker

    try:
        asked = bool(read_json(artifact.directory / CONFIG_FILE).get("model") == Dare.kind)
        if asked:
            Ranker.load(artifact.directory)
    except StoreError as error:
        raise ArtifactError(str(error)) from error
    return asked
