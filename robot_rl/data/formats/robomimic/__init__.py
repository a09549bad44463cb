"""robomimic HDF5 and its Isaac Lab variant; `reader` opens them."""
