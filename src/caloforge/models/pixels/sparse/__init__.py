"""A generator of hits: correlated numbers of clusters, their places, and the pixels of each."""
