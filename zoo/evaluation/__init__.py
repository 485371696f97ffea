"""From predictions to integer counts, and from counts to every metric that is reported."""
