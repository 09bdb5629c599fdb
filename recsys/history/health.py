"""Say whether a Redis keeps the promises that histories rest on: what it is, what it keeps, who may reach it."""

from dataclasses import dataclass

from recsys.errors import HistoryError
from recsys.history.connection import RIGHTS, Connection

OLDEST_VERSION = (6, 2)
FULL = 0.9
"""Share of the memory limit from which on it is called nearly full."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerReport:
    """One Redis as it says it is set up; what it does not say is "unknown"."""

    address: str
    """Where it is, without the password."""
    server: str
    """Name and version, as "redis 7.0.15"."""
    mode: str
    """"standalone", or "cluster" with its number of shards."""
    persistence: str
    """What survives a restart, as "append-only file, fsync everysec"."""
    eviction: str
    """What it does when it is full (maxmemory-policy)."""
    memory_bytes: int
    """Memory that its data take now."""
    memory_limit_bytes: int
    """maxmemory; 0 where there is none."""
    transport: str
    """How it is reached: "unix socket", "TLS", or "unencrypted"."""
    user: str
    """Who Recollect is logged in as."""
    warnings: list[str]
    """What could lose an acknowledged append or show it to others, each with its remedy."""


async def report_on(connection: Connection, *, prefix: str) -> ServerReport:
    """What the server at `connection` says of itself; `prefix` is what the keys of histories begin with."""
    info = info_fields(await connection.command("INFO"))
    name = "valkey" if "valkey_version" in info else "redis"
    version = info.get("valkey_version") or info.get("redis_version", "unknown")
    warnings: list[str] = []
    if _older(info.get("redis_version", "")):
        warnings.append(f"{name} {version} is older than 6.2, the oldest that is tested; upgrade it")
    mode = await _mode(connection, info, warnings)
    persistence = await _persistence(connection, info, warnings)
    _check_memory(info, warnings)
    if info.get("role", "master") != "master":
        warnings.append("this is a replica: appends are refused here; give the address of the primary")
    user = await _user(connection, prefix, warnings)
    if connection.transport == "unencrypted" and not connection.local:
        warnings.append(
            "histories and the password travel unencrypted; use rediss://HOST:PORT/DB?ssl_ca_certs=FILE, which needs "
            "tls-port in the server's configuration"
        )
    return ServerReport(
        address=connection.address,
        server=f"{name} {version}",
        mode=mode,
        persistence=persistence,
        eviction=info.get("maxmemory_policy", "unknown"),
        memory_bytes=int(info.get("used_memory", 0)),
        memory_limit_bytes=int(info.get("maxmemory", 0)),
        transport=connection.transport,
        user=user,
        warnings=warnings,
    )


def info_fields(info: object) -> dict[str, str]:
    """Lines `name:value` of INFO."""
    if isinstance(info, dict):
        return {str(name): str(value) for name, value in info.items()}
    lines = bytes(info).decode().splitlines() if isinstance(info, bytes | bytearray) else str(info).splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


async def _persistence(connection: Connection, info: dict[str, str], warnings: list[str]) -> str:
    fsync = await _setting(connection, "appendfsync")
    snapshots = await _setting(connection, "save")
    if info.get("aof_enabled") != "1":
        warnings.append("appendonly is no: a restart can lose acknowledged appends; CONFIG SET appendonly yes")
        return "snapshots only" if snapshots not in ("", "unknown") else "none"
    if info.get("aof_last_write_status", "ok") != "ok":
        warnings.append("the append-only file cannot be written; free disk space, or look into the server's log")
    if info.get("aof_last_bgrewrite_status", "ok") != "ok":
        warnings.append("the append-only file could not be rewritten and grows; look into the server's log")
    if fsync == "no":
        warnings.append("appendfsync is no: a crash loses what the kernel had not written; set it to everysec")
    elif await _setting(connection, "no-appendfsync-on-rewrite") == "yes":
        warnings.append("no-appendfsync-on-rewrite is yes: during a rewrite nothing is synced; set it to no")
    return f"append-only file, fsync {fsync}"


def _check_memory(info: dict[str, str], warnings: list[str]) -> None:
    used, limit = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    policy = info.get("maxmemory_policy", "unknown")
    if limit and policy != "noeviction":
        warnings.append(f"maxmemory-policy is {policy}: whole histories vanish under pressure; set it to noeviction")
    if limit and used > FULL * limit:
        warnings.append(f"{used / limit:.0%} of maxmemory are in use: appends are refused when it is full; raise it")


async def _mode(connection: Connection, info: dict[str, str], warnings: list[str]) -> str:
    if info.get("cluster_enabled", "0") != "1":
        return "standalone"
    try:
        cluster = info_fields(await connection.command("CLUSTER", "INFO"))
    except HistoryError as error:
        if type(error) is not HistoryError:
            raise
        return "cluster"
    if cluster.get("cluster_state") != "ok":
        warnings.append("the cluster is not ok: some histories cannot be reached; look at CLUSTER INFO")
    shards = int(cluster.get("cluster_size", 1))
    if shards > 1:
        warnings.append(
            f"the cluster has {shards} shards: Recollect speaks to one node, which refuses the users of the others; "
            "put a cluster proxy in front, or use one shard"
        )
    return f"cluster, {shards} {'shard' if shards == 1 else 'shards'}"


async def _user(connection: Connection, prefix: str, warnings: list[str]) -> str:
    try:
        user = bytes(await connection.command("ACL", "WHOAMI")).decode()
    except HistoryError as error:
        if type(error) is not HistoryError:
            raise
        return "unknown"
    if user == "default" and not connection.local:
        rights = RIGHTS.replace("PREFIX", prefix)
        warnings.append(
            "Recollect is logged in as Redis's default user, who may do everything; give it one of its own: "
            f"ACL SETUSER recollect on >PASSWORD {rights}"
        )
    return user


async def _setting(connection: Connection, name: str) -> str:
    """A value of the configuration, "unknown" where the server does not tell (managed ones forbid CONFIG)."""
    try:
        reply = await connection.command("CONFIG", "GET", name)
    except HistoryError as error:
        if type(error) is not HistoryError:
            raise
        return "unknown"
    return bytes(reply[1]).decode() if len(reply) > 1 else "unknown"


def _older(version: str) -> bool:
    numbers = [int(part) for part in version.split(".")[:2] if part.isdigit()]
    return bool(numbers) and tuple(numbers) < OLDEST_VERSION
