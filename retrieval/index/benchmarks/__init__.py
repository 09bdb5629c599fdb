"""What the search of indexes and galleries costs, and what it finds."""
