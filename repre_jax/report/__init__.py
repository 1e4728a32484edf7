"""What people look at: lines in the terminal, a run's page, figures, and other programs' logs."""
