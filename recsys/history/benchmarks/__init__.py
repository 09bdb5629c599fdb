"""What an append and a read cost on a real Redis."""
