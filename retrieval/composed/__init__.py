"""Composed retrieval: a reference picture, a box around one object, what should change; that very object elsewhere."""
