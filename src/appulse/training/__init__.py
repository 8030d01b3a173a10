"""Training: the loop, schedules, run folders; knows no galaxy."""
