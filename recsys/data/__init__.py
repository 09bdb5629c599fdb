"""Event logs → events → event store → samples."""
