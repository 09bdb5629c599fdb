"""The Lua that keeps a history atomic: each script with the digest that Redis calls it by."""

from dataclasses import dataclass
from hashlib import sha1
from importlib.resources import files

from recsys.history.codec import FORMAT, HEADER_BYTES, RECORD_BYTES


@dataclass(frozen=True, kw_only=True, slots=True)
class Script:
    """One script on one key."""

    source: str
    """Lua 5.1, as Redis 6.2 and later run it."""
    digest: str
    """SHA-1 of the source in hexadecimal, the name that EVALSHA takes."""


def _script(name: str) -> Script:
    layout = f"local FORMAT, HEADER, WIDTH = {FORMAT}, {HEADER_BYTES}, {RECORD_BYTES}\n"
    parts = (files("recsys.history").joinpath(part).read_text(encoding="utf-8") for part in ("layout.lua", name))
    source = layout + "\n".join(parts)
    return Script(source=source, digest=sha1(source.encode(), usedforsecurity=False).hexdigest())


APPEND = _script("append.lua")
READ = _script("read.lua")
