"""The visual half: encoders, descriptors, composed retrieval, catalogue indexes; knows no server, no version label."""
