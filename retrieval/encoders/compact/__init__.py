"""The compact dual encoder: ours, trained by `recollect encoder train`, a few megabytes."""

from retrieval.encoders.compact.directory import CompactEncoder, load_compact

__all__ = ["CompactEncoder", "load_compact"]
