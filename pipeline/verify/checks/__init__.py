"""What is looked at: one file for each kind of check, which adds rows to a trial. ``judge.py`` runs them in order."""
