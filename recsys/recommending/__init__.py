"""Recommend from a whole catalogue: candidates from what the user did, ranked, no category too often."""
