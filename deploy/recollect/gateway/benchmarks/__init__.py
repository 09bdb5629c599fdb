"""What a call costs at the gateway, stage by stage."""
