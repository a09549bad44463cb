"""stub"""


def register_envs() -> None: ...
