"""Have names begin with the second in which they were given, and sort in the order in which they were."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

_FORMAT = "%Y%m%dT%H%M%S"
_SECOND = re.compile(r"\d{8}T\d{6}(?=-)")


def second_after(names: Iterable[str], now: datetime) -> str:
    """`now` as names begin with it, `20261128T094952` for instance, or the second after the latest of `names`.

    The latter where two are named within one second, or the clock was set back. What comes behind the second, after a
    hyphen, need not sort.
    """
    latest = max((match[0] for match in map(_SECOND.match, names) if match), default="")
    second = f"{now:{_FORMAT}}"
    if second > latest:
        return second
    return f"{datetime.strptime(latest, _FORMAT).replace(tzinfo=UTC) + timedelta(seconds=1):{_FORMAT}}"
