"""Measure the ops beside what people use instead, on this machine, and print a row only when its result is right."""
