"""Train the compact dual encoder on pictures with captions: on one process, or on many through Ray Train."""
