"""Studies of a model's weights before anything is deployed."""
