"""The commands of ``passerby-train`` beside the detector's own."""
