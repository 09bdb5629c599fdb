"""The recommender's models: one file each, and what they share."""
