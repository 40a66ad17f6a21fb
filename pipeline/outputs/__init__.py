"""Where results go for people and programs: JSON Lines, video, terminal, report."""
