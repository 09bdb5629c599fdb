"""A world to measure composed retrieval in without a download: drawn scenes of objects known by their marks."""

from retrieval.composed.world.config import WorldConfig, standard, tiny
from retrieval.composed.world.sheet import contact_sheet
from retrieval.composed.world.writing import write_world

__all__ = ["WorldConfig", "contact_sheet", "standard", "tiny", "write_world"]
