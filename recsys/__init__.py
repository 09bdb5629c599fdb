"""The recommender, from event log to score; it knows no server and no version label."""
