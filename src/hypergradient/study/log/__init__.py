"""Runs handed to a service that people watch trainings with: TensorBoard, W&B or Trackio."""
