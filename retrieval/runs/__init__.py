"""What every training run of the visual half needs: a directory that survives kills, workers, a schedule."""
