"""Selections as folders that trainers read."""
