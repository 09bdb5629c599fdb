"""What classification over gRPC takes, measured; dated figures are in `results/`."""
