"""Train a model: one pure torch step, the loop around it, and the same loop on Ray."""
