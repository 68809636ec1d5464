"""What is chosen by looking at the training data: scales, and experts that suit it."""
