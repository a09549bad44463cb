"""Serving: ONNX export, policy runtime, safety supervisor, control loop, arms."""
