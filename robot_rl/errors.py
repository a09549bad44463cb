"""Errors a user can act on.

    RobotRLError                exit status 2: the message names what disagrees, both values and the remedy
    ├── ConfigError             an option, a YAML key or a hardware config is wrong
    ├── DataError               a log, an episode or a dataset is malformed
    ├── SpecMismatch            two parts were built for different robots, rates or observations
    ├── CheckpointError         a run folder is missing, incomplete or made by something else
    ├── BundleError             an exported policy is missing, damaged or made by something else
    ├── DivergedError           training ran into NaN or infinity
    ├── ParityError             an exported policy does not compute what the trained one does
    ├── ArmError                an arm cannot be reached, is stopped, or refuses
    ├── PolicyServerError       a policy server does not answer, or refuses
    ├── RecorderError           a session cannot be recorded
    ├── LimitError              a command cannot be made safe
    ├── BridgeError             the link between learner and actors cannot work, or is refused
    └── EnvError                an environment is unknown or its simulator is not installed

Anything else that reaches the command line is a fault of ours (exit status 1).
"""


class RobotRLError(Exception):
    """Base of every error that the user can mend."""


class ConfigError(RobotRLError):
    """An option, a YAML key or a hardware config is wrong."""


class DataError(RobotRLError):
    """A log, an episode or a dataset is malformed."""


class SpecMismatch(RobotRLError):  # noqa: N818 - reads as the sentence it is
    """Two parts were built for different robots, rates or observations."""


class CheckpointError(RobotRLError):
    """A run folder is missing, incomplete or made by something else."""


class BundleError(RobotRLError):
    """An exported policy is missing, damaged or made by something else."""


class DivergedError(RobotRLError):
    """Training ran into NaN or infinity."""


class ParityError(RobotRLError):
    """An exported policy does not compute what the trained one does."""


class ArmError(RobotRLError):
    """An arm cannot be reached, is stopped, or refuses; it holds or has stopped itself."""


class ArmFaultError(ArmError):
    """An arm answers, but reports errors of its own, such as a reflex: the vendor's recovery may clear them."""


class ArmStoppedError(ArmError):
    """A stop was latched while the arm was brought home: it holds, and goes on once somebody arms it again."""


class PolicyServerError(RobotRLError):
    """A policy server does not answer, or refuses; the caller must hold."""


class RecorderError(RobotRLError):
    """A session cannot be recorded."""


class LimitError(RobotRLError):
    """A command cannot be made safe; the caller must hold position."""


class BridgeError(RobotRLError):
    """The link between learner and actors cannot work, or is refused; an arm must hold."""


class EnvError(RobotRLError):
    """An environment is unknown or its simulator is not installed."""
