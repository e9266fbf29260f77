"""The floor: what every room of the package stands on. It imports nothing of ours from above, and nothing heavy."""
