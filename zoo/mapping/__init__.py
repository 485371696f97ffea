"""Maps of scenes of any size from a trained model: memory flat, resumable, the same bytes wherever they are made."""
