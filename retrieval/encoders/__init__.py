"""Image–text encoders behind one small protocol: CLIP, SigLIP, ONNX, and a compact one that Recollect trains itself."""
