"""Sessions as MCAP files: crash-safe, readable in Foxglove and by `robot-rl data import`."""

from deploy.recorder.recorder import Recorder, session_file

__all__ = ["Recorder", "session_file"]
