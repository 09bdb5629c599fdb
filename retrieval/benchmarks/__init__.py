"""What refusing hostile images costs, measured file by file."""
