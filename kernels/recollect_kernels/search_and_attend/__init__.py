"""Find the k best behaviours of a history and pool them, in one pass for serving."""
