"""The loop closed: fine-tune a model on what was selected, and let it make clips that can be compared."""
