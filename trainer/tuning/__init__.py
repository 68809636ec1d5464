"""The search for better settings: what may vary, what is measured, and the study on disk."""
