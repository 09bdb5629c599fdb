"""Look into trained models: whether the search finds what matters, what disturbs it, and whether place counts."""
