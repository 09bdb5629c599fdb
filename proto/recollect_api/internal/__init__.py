"""What the client needs for itself; no part of the contract."""
