"""TFDS builders: data sets as ArrayRecord files with random access.

Files are stored as they are and labels keep the values of their files; both are checked
while a data set is prepared. Reading them is `sdnjax.data.open_source`'s part.
"""
