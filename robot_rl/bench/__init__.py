"""Measurements that anyone can rerun: `robot-rl bench NAME`."""
