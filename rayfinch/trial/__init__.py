"""A deployment on trial: its Kafkas, its driver, and the audit of what it has kept."""
