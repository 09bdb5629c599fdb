"""What a running service tells of itself: metrics for Prometheus, traces for OpenTelemetry, lines of log."""
