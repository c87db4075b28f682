"""Ray Serve deployments: the warm model actors of the stream."""
