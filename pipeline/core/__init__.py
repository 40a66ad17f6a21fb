"""What every stage speaks of: frames, windows, detections, rules, events. NumPy and the standard library only."""
