"""Pool the behaviours of a history by their attention to a target."""
