"""Nearest neighbours with FAISS: how an index is built, searched and kept; and galleries of pictures."""
