"""Did training help? Motion of generated clips measured, compared with intervals, and judged blind by people."""
