"""Train composed retrieval: a compact image encoder and Q-Former first, where none is given, then AdaFocal itself."""
