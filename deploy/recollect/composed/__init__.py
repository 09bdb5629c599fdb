"""Composed retrieval as a service: galleries in versions, references remembered, pictures embedded in batches."""
