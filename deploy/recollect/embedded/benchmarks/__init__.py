"""What a kill of the private Redis costs."""
