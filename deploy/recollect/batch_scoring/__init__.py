"""Score requests in Parquet on Ray Data: what a service would answer, for millions of calls at once."""
