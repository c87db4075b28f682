"""What several tests stand on: real servers, started and killed."""
