"""Every alert with its cutouts, in Lance."""
