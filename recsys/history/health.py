"""Say whether a Redis keeps the promises that histories rest on: its version, its persistence, its memory policy."""

from dataclasses import dataclass

from recsys.errors import HistoryError
from recsys.history.connection import Connection

OLDEST_VERSION = (6, 2)


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerReport:
    """One Redis as it says it is set up; what it does not say is "unknown"."""

    address: str
    """Where it is, without the password."""
    server: str
    """Name and version, as "redis 7.0.15"."""
    persistence: str
    """What survives a restart, as "append-only file, fsync everysec"."""
    eviction: str
    """What it does when it is full (maxmemory-policy)."""
    memory_bytes: int
    """Memory that its data take now."""
    memory_limit_bytes: int
    """maxmemory; 0 where there is none."""
    warnings: list[str]
    """What could lose an acknowledged append, each with its remedy."""


async def report_on(connection: Connection) -> ServerReport:
    """What the server at `connection` says of itself."""
    info = info_fields(await connection.command("INFO"))
    fsync = await _setting(connection, "appendfsync")
    snapshots = await _setting(connection, "save")
    name = "valkey" if "valkey_version" in info else "redis"
    version = info.get("valkey_version") or info.get("redis_version", "unknown")
    eviction = info.get("maxmemory_policy", "unknown")
    limit = int(info.get("maxmemory", 0))
    warnings: list[str] = []
    if _older(info.get("redis_version", "")):
        warnings.append(f"{name} {version} is older than 6.2, the oldest that is tested; upgrade it")
    if info.get("aof_enabled") == "1":
        persistence = f"append-only file, fsync {fsync}"
        if info.get("aof_last_write_status", "ok") != "ok":
            warnings.append("the append-only file cannot be written; free disk space, or look into the server's log")
        if fsync == "no":
            warnings.append("appendfsync is no: a crash loses what the kernel had not written; set it to everysec")
    else:
        persistence = "snapshots only" if snapshots not in ("", "unknown") else "none"
        warnings.append("appendonly is no: a restart can lose acknowledged appends; CONFIG SET appendonly yes")
    if limit and eviction != "noeviction":
        warnings.append(f"maxmemory-policy is {eviction}: whole histories vanish under pressure; set it to noeviction")
    if info.get("role", "master") != "master":
        warnings.append("this is a replica: appends are refused here; give the address of the primary")
    return ServerReport(
        address=connection.address,
        server=f"{name} {version}",
        persistence=persistence,
        eviction=eviction,
        memory_bytes=int(info.get("used_memory", 0)),
        memory_limit_bytes=limit,
        warnings=warnings,
    )


async def _setting(connection: Connection, name: str) -> str:
    """A value of the configuration, "unknown" where the server does not tell (managed ones forbid CONFIG)."""
    try:
        reply = await connection.command("CONFIG", "GET", name)
    except HistoryError as error:
        if type(error) is not HistoryError:
            raise
        return "unknown"
    return bytes(reply[1]).decode() if len(reply) > 1 else "unknown"


def info_fields(info: object) -> dict[str, str]:
    """Lines `name:value` of INFO."""
    if isinstance(info, dict):
        return {str(name): str(value) for name, value in info.items()}
    lines = bytes(info).decode().splitlines() if isinstance(info, bytes | bytearray) else str(info).splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def _older(version: str) -> bool:
    numbers = [int(part) for part in version.split(".")[:2] if part.isdigit()]
    return bool(numbers) and tuple(numbers) < OLDEST_VERSION
