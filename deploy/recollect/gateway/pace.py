"""Know how long a ranking will take, from the latest one of the same model."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from recollect.gateway.models import Ranker


@dataclass(frozen=True, slots=True)
class _Ranked:
    ranker: "Ranker"
    pairs: int
    seconds: float


class Pace:
    """How fast the model ranks that ranked last; threads may share it."""

    def __init__(self) -> None:
        self._latest: _Ranked | None = None

    def note(self, ranker: "Ranker", pairs: int, seconds: float) -> None:
        """A ranking of so many pairs of a behaviour and a candidate has taken so long."""
        self._latest = _Ranked(ranker, pairs, seconds)

    def expected_s(self, ranker: "Ranker", pairs: int) -> float | None:
        """How long one of so many pairs will take, if not less; None where nothing is known of this model."""
        latest = self._latest
        if latest is None or latest.ranker is not ranker:
            return None
        return latest.seconds * max(1.0, pairs / latest.pairs)
