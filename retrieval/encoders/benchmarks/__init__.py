"""How fast encoders embed on torch and ONNX Runtime, and what a classification costs beyond them."""
