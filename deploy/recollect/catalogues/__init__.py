"""Catalogues of what a shop tells of its items: imported, guarded, activated and rolled back as versions."""
