"""Print the linker's words for the libzmq inside the installed pyzmq wheel."""

import sys
from pathlib import Path

import zmq

libraries = sorted(Path(zmq.__file__).parents[1].glob("pyzmq.libs/libzmq*.so*"))
if not libraries:
    sys.exit("pyzmq brings no libzmq here. Install libzmq with its header, such as libzmq3-dev.")
sys.stdout.write(f"{libraries[0]} -Wl,-rpath,{libraries[0].parent}\n")
