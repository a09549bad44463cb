"""Recordings of named topics (ROS bags, MCAP files of others) as episodes: decode, align clocks, resample, cut."""
