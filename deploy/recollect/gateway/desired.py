"""Remember in the cluster which model should answer, so that a replica that starts later loads the right one."""

from dataclasses import dataclass
from typing import cast

_NAMESPACE = b"recollect"


@dataclass(frozen=True, kw_only=True, slots=True)
class DesiredModel:
    """One reference, kept by Ray's control service: it lives as long as the cluster and is the same on every node.

    A broadcast reaches the replicas that run. One that starts during it, or heals after it, would come up with the
    model it was first configured with; it asks here instead.
    """

    application: str
    """Name of the Serve application whose model this is."""

    def get(self) -> str | None:
        """The reference, or None where none was set."""
        from ray.experimental.internal_kv import _internal_kv_get

        value = cast("bytes | None", _internal_kv_get(self._key, namespace=_NAMESPACE))
        return None if value is None else value.decode()

    def set(self, reference: str) -> None:
        """Let `reference` be what should answer."""
        from ray.experimental.internal_kv import _internal_kv_put

        _internal_kv_put(self._key, reference.encode(), overwrite=True, namespace=_NAMESPACE)

    def forget(self) -> None:
        """Remove it; the application is gone."""
        from ray.experimental.internal_kv import _internal_kv_del

        _internal_kv_del(self._key, namespace=_NAMESPACE)

    @property
    def _key(self) -> bytes:
        return f"model:{self.application}".encode()
