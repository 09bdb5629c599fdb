"""Join the configured Ray cluster, or run a private one of a single node for the time of a block."""

import logging
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recollect.errors import SetupError
from recollect.settings import Settings

OBJECT_STORE_BYTES = 150 << 20
"""Nothing large travels through the object store of a gateway; Ray's default would take a third of the memory."""
LONGEST_DIRECTORY = 40
"""Bytes; Ray adds some 60 to it for its sockets, and the kernel allows 107 in all."""


@contextmanager
def ray_cluster(settings: Settings, *, show_logs: bool = False, serving: bool = False) -> Iterator[None]:
    """This process connected to `settings.ray_address`, or to a private node that ends with the block.

    `show_logs` repeats what the workers write on this process's stderr. A connection that is there already is used as
    it is. Workers of a private node stand back behind whatever else the machine does, as Ray has it, unless they are
    there for `serving`, where callers wait. SetupError where Ray cannot be reached or started.
    """
    # Ray reads its variables when it is imported.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if settings.ray_address is None:
        _guard_with_a_token()
        if serving:
            os.environ.setdefault("RAY_worker_niceness", "0")
    import ray

    if ray.is_initialized():
        yield
    elif settings.ray_address is not None:
        with _joined(settings.ray_address, show_logs=show_logs):
            yield
    else:
        with _private_node(show_logs=show_logs):
            yield


@contextmanager
def _joined(address: str, *, show_logs: bool) -> Iterator[None]:
    import ray

    try:
        ray.init(address=address, log_to_driver=show_logs, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise SetupError(
            f"cannot join the Ray cluster at {address} ({error}); correct --ray-address, or leave it out for a private "
            "node"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _private_node(*, show_logs: bool) -> Iterator[None]:
    import ray

    directory = _short_directory()
    try:
        ray.init(
            address="local",
            _temp_dir=str(directory),
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            log_to_driver=show_logs,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        shutil.rmtree(directory, ignore_errors=True)
        raise SetupError(
            f"cannot start a private Ray node in {directory} ({error}); set TMPDIR to a directory with room, or "
            "give --ray-address"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(directory, ignore_errors=True)


def _guard_with_a_token() -> None:
    """Let only this process and its workers use the node.

    Ray's ports listen on every interface, and who may speak to them may run code; in this mode Ray asks everyone for
    the token. Ray reads both variables once, when it is imported: where that has happened already, or where somebody
    has chosen a mode, everything stays as it is.
    """
    if "ray" not in sys.modules and "RAY_AUTH_MODE" not in os.environ:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def _short_directory() -> Path:
    """A new directory that only this user can read and whose path leaves room for the names of Ray's sockets."""
    parent = tempfile.gettempdir()
    if len(os.fsencode(parent)) > LONGEST_DIRECTORY:
        parent = "/tmp"
    return Path(tempfile.mkdtemp(prefix="recollect-", dir=parent))
