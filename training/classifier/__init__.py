"""The image classifier: what a whole picture shows (day, night, rain, ...)."""
