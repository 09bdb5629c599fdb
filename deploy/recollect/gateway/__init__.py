"""The gRPC front: checks requests, reads histories, ranks off the event loop, answers with scores or with a status."""
