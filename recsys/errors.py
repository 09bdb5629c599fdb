"""What can go wrong in the recommender, as one exception tree.

RecsysError
├── DataError               an event log, event store or model directory that cannot be used as given
│   ├── SourceError         the file handed in is not the format it was said to be
│   └── StoreError          an event store or model directory is missing, incomplete or of another schema
├── ConfigError             a configuration value that cannot work
│   └── FilterError         a filter that a catalogue cannot be filtered by (`recsys.metadata.filters`)
└── HistoryError            the history store did not do what it was asked
    └── HistoryUnavailable  Redis cannot be reached, does not answer in time or takes no writes; safe to retry
        └── HistoryOverdue  Redis has not answered in time
"""


class RecsysError(Exception):
    """Base of everything that `recsys` raises on purpose."""


class DataError(RecsysError):
    """An event log, event store or model directory cannot be used as given."""


class SourceError(DataError):
    """The file handed in is not the format that it was said to be."""


class StoreError(DataError):
    """An event store or model directory is missing, incomplete or of another schema."""


class ConfigError(RecsysError, ValueError):
    """A configuration value cannot work."""


class HistoryError(RecsysError):
    """The history store did not do what it was asked."""


class HistoryUnavailable(HistoryError):  # noqa: N818 - the state, as gRPC spells it
    """Redis cannot be reached, does not answer in time or takes no writes; safe to retry."""


class HistoryOverdue(HistoryUnavailable):
    """Redis has not answered in time; safe to retry, and whoever asks next may wait as long."""
