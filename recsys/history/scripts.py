"""The Lua that keeps a history atomic: each script with the digest that Redis calls it by."""

from dataclasses import dataclass
from hashlib import sha1
from importlib.resources import files

from recsys.history.codec import DIGEST_BYTES, FORMAT, HEADER_BYTES, RECORD_BYTES, SPARE_RECORDS


@dataclass(frozen=True, kw_only=True, slots=True)
class Script:
    """One script on the keys of one user."""

    source: str
    """Lua 5.1, as Redis 6.2 and later run it."""
    digest: str
    """SHA-1 of the source in hexadecimal, the name that EVALSHA takes."""


def _script(*names: str) -> Script:
    numbers = {
        "FORMAT": FORMAT,
        "HEADER": HEADER_BYTES,
        "WIDTH": RECORD_BYTES,
        "DIGEST": DIGEST_BYTES,
        "SPARE": SPARE_RECORDS,
    }
    opening = "".join(f"local {number} = {value}\n" for number, value in numbers.items())
    parts = (files("recsys.history").joinpath(name).read_text(encoding="utf-8") for name in names)
    source = opening + "\n".join(parts)
    return Script(source=source, digest=sha1(source.encode(), usedforsecurity=False).hexdigest())


APPEND = _script("layout.lua", "append.lua")
READ = _script("layout.lua", "read.lua")
DELETE = _script("delete.lua")
