"""Making the shipped model smaller."""
