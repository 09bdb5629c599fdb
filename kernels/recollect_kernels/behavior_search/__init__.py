"""Find the k best behaviours of a history for a target."""
