"""The recommender and its parts: GRU layers, item tables, shared and personal parameters, history prior."""
