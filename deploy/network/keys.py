"""CURVE keys: who this machine is, and whom it talks to.

A folder, mode 0700:

    own/NAME.key       secret and public key of this machine, mode 0600
    allowed/NAME.pub   public key of a peer it talks to

Revoking removes the peer's file; whoever listens notices at once.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
import zmq
from zmq.utils import z85

from robot_rl.errors import ConfigError

DEFAULT_FOLDER = Path("~/.config/robot-rl/keys")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class KeyPair(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A CURVE key pair, each key 40 characters of Z85."""

    public: str
    secret: str


class KeyFolder:
    """The keys of this machine and of its peers.

    Args:
        path: The folder; `new` and `allow` create it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser()

    def new(self, name: str) -> str:
        """Make a key pair called `name`.

        Returns:
            Its public key, to be allowed on the other machine.

        Raises:
            ConfigError: If there is one by that name, or the name cannot be a file's.
        """
        file = self._file("own", name, ".key")
        public, secret = (key.decode() for key in zmq.curve_keypair())
        content = msgspec.json.encode(KeyPair(public=public, secret=secret))
        try:
            fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError as error:
            raise ConfigError(f"{file} exists already. Choose another name, or remove it.") from error
        with os.fdopen(fd, "wb") as handle:
            handle.write(content + b"\n")
        return public

    def allow(self, name: str, public: str) -> None:
        """Talk to the peer with this public key, under the name `name`.

        Raises:
            ConfigError: If it is no key, or the name is another peer's, or the key has another name.
        """
        _require_key(public)
        file = self._file("allowed", name, ".pub")
        if file.exists() and file.read_text().strip() != public:
            raise ConfigError(f"'{name}' is allowed already, with another key. `robot-rl keys revoke {name}` first.")
        known = self.allowed().get(public, name)
        if known != name:  # revoking one of two names would leave the key allowed
            raise ConfigError(
                f"This key is allowed already, as '{known}'. Use that name, or `robot-rl keys revoke {known}` first."
            )
        work = file.with_name(f".{name}.tmp")
        work.write_text(public + "\n")
        work.chmod(0o600)
        work.rename(file)

    def revoke(self, name: str) -> None:
        """No longer talk to the peer `name`; what it sends from now on is ignored.

        Raises:
            ConfigError: If there is none.
        """
        file = self._file("allowed", name, ".pub")
        if not file.exists():
            known = ", ".join(sorted(self.allowed().values())) or "nobody"
            raise ConfigError(f"No '{name}' is allowed in {self.path}; allowed: {known}.")
        file.unlink()

    def allowed(self) -> dict[str, str]:
        """Names of the allowed peers by public key, as the folder stands now."""
        found: dict[str, str] = {}
        for file in sorted((self.path / "allowed").glob("*.pub")):
            if not file.name.startswith("."):
                with suppress(FileNotFoundError):  # revoked at this moment
                    found[file.read_text().strip()] = file.stem
        return found

    def own(self) -> dict[str, str]:
        """Public keys of this machine by name."""
        return {f.stem: self.pair(f.stem).public for f in sorted((self.path / "own").glob("*.key"))}

    def pair(self, name: str) -> KeyPair:
        """The key pair `name` of this machine.

        Raises:
            ConfigError: If there is none, it is damaged, or others may read it.
        """
        file = self.path / "own" / f"{name}.key"
        if not _NAME.fullmatch(name) or not file.is_file():
            raise ConfigError(f"{file} is missing. Make it: robot-rl keys new {name} --keys {self.path}")
        if file.stat().st_mode & 0o077:
            raise ConfigError(f"{file} may be read by others, so it is no secret. Run chmod 600, or make a new key.")
        try:
            pair = msgspec.json.decode(file.read_bytes(), type=KeyPair)
        except msgspec.MsgspecError as error:
            raise ConfigError(f"{file} is not a key file ({error}). Remove it and make a new one.") from error
        _require_key(pair.public)
        return pair

    def peer(self, name: str) -> str:
        """Public key of the allowed peer `name`.

        Raises:
            ConfigError: If there is none.
        """
        for public, known in self.allowed().items():
            if known == name:
                return public
        raise ConfigError(
            f"No '{name}' is allowed in {self.path}. On the other machine, `robot-rl keys list` shows its public key; "
            f"then here: robot-rl keys allow {name} KEY --keys {self.path}"
        )

    def _file(self, kind: str, name: str, suffix: str) -> Path:
        if not _NAME.fullmatch(name):
            raise ConfigError(f"'{name}' cannot name a key; use letters, digits, '.', '_' and '-'.")
        for folder in (self.path, self.path / kind):
            # One that was there keeps its permissions; keys are 0600 by themselves.
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self.path / kind / f"{name}{suffix}"


@dataclass(frozen=True, kw_only=True)
class Keys:
    """Which key this end uses, and which peer it expects.

    Args:
        folder: Where they are.
        own: Name of this end's key pair.
        peer: For a client, the name under which the server's key is allowed here; a server talks to everyone allowed.
    """

    folder: KeyFolder
    own: str
    peer: str = ""

    def trusts_peer(self) -> bool:
        """Whether the server is still allowed here."""
        return self.peer in self.folder.allowed().values()

    def secure_server(self, socket: zmq.Socket[bytes]) -> None:
        """Let only allow-listed clients in (with `deploy.network.access.Gate` around the socket).

        Raises:
            ConfigError: If this end's key is missing or unfit.
        """
        pair = self.folder.pair(self.own)
        socket.curve_secretkey, socket.curve_publickey = pair.secret.encode(), pair.public.encode()
        socket.curve_server = True
        socket.zap_domain = b"robot-rl"

    def secure_client(self, socket: zmq.Socket[bytes]) -> None:
        """Talk to nobody but the server `peer`.

        Raises:
            ConfigError: If a key is missing or unfit.
        """
        if not self.peer:
            raise ConfigError("A client's keys must name the server that it talks to, as its key was allowed here.")
        pair = self.folder.pair(self.own)
        socket.curve_secretkey, socket.curve_publickey = pair.secret.encode(), pair.public.encode()
        socket.curve_serverkey = self.folder.peer(self.peer).encode()


def _require_key(text: str) -> None:
    try:
        sound = len(text) == 40 and len(z85.decode(text)) == 32
    except (ValueError, KeyError):
        sound = False
    if not sound:
        raise ConfigError(f"'{text}' is no public key: those are 40 characters, as `robot-rl keys list` shows them.")
