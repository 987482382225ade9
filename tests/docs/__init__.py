"""The written part of the product, held against the code."""
