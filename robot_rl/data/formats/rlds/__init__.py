"""RLDS datasets without TensorFlow; `reader` opens them."""
