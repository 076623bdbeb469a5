"""From a clip to a sketch: motion-weighted loss, gradient, projection, all in one streaming backward pass."""
