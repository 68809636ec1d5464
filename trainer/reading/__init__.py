"""From files and the normal store to the rows that a model is trained on."""
