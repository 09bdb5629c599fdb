"""The servers that `recollect` starts for itself where none is configured."""
