"""Motion estimators: frames of a clip -> dense displacement per frame."""
