"""Whether channels tell different things: correlation, variance inflation, principal components, landslide sizes."""
