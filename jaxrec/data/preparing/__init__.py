"""Preparing: rows become sessions in three periods, arranged as the dataset holds them."""
