"""What the stages of a recipe do to a picture: pure functions of arrays, one file a family."""
