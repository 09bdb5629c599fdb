"""Indexes over whole catalogues: built, judged, activated and rolled back as versions."""
