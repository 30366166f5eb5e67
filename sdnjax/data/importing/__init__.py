"""What labelling tools write, turned into a `folder` data set: `sdnjax.data.import_labels`.

shapes     polygons, circles and run lengths → masks
annotated  a picture with its regions, and everything that was found
labelme, coco, masks   one reader for each form
writing    the folder
command    the command
"""
