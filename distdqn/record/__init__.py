"""Where numbers go: a file of lines, TensorBoard, W&B and the screen, with one `Recorder` in front."""
