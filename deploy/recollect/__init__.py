"""The runtime: command line, settings, gateway, Serve application and artifact versions."""
