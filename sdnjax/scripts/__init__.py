"""The commands' options, one file each; what they do is in `sdnjax.commands`."""
