"""Measurements of the budgets, one file each, with their peers beside them."""
