"""Administer a running service: build indexes, judge and activate versions, over gRPC on a port of its own."""
