"""Message bytes of MCAP channels: CDR and ROS 1 by `rosbags`, JSON, MessagePack and protobuf by what is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import msgspec
from mcap.records import Channel, Schema

from robot_rl.errors import DataError

Decode = Callable[[bytes], Any]
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class CannotDecode(DataError):  # noqa: N818 - reads as the sentence it is
    """No decoder for a channel, or its bytes are no such message."""


def decoder(channel: Channel, schema: Schema | None) -> Decode:
    """What turns a channel's bytes into a message.

    Raises:
        CannotDecode: If its encoding is none of those known, or its schema is missing or broken.
    """
    if channel.message_encoding == "json":
        return _checked(msgspec.json.decode, UNREADABLE, "JSON")
    if channel.message_encoding == "msgpack":
        return _checked(msgspec.msgpack.decode, UNREADABLE, "MessagePack")
    kind = (channel.message_encoding, schema.encoding if schema else "")
    if schema is not None and kind == ("protobuf", "protobuf"):
        return _protobuf(schema)
    if schema is not None and kind in (("cdr", "ros2msg"), ("cdr", "ros2idl"), ("cdr", "omgidl"), ("ros1", "ros1msg")):
        return _ros(channel.message_encoding, schema)
    raise CannotDecode(
        f"messages are encoded as '{kind[0]}' with schema '{kind[1] or 'none'}'; known are cdr with ros2msg or "
        f"ros2idl, ros1, json, msgpack and protobuf"
    )


def require_library(name: str) -> None:
    """Refuse in words where an optional library is missing.

    Raises:
        DataError: Naming the extra to install.
    """
    if importlib.util.find_spec(name) is None:
        raise DataError(
            f"This recording needs the library '{name}', which is not installed. Install the extra: "
            f"pip install -e '.[formats]'"
        )


def _protobuf(schema: Schema) -> Decode:
    require_library("google.protobuf")
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # noqa: PLC0415 - an extra
    from google.protobuf.message import DecodeError  # noqa: PLC0415

    try:
        files = descriptor_pb2.FileDescriptorSet.FromString(schema.data)
        pool = descriptor_pool.DescriptorPool()
        for file in files.file:
            pool.Add(file)
        kind = message_factory.GetMessageClass(pool.FindMessageTypeByName(schema.name))
    except (DecodeError, KeyError, TypeError) as error:
        raise CannotDecode(f"schema '{schema.name}' is no protobuf descriptor of it ({error})") from error
    return _checked(kind.FromString, DecodeError, f"protobuf {schema.name}")


def _ros(encoding: str, schema: Schema) -> Decode:
    require_library("rosbags")
    from rosbags.typesys import (  # noqa: PLC0415 - an extra
        Stores,
        TypesysError,
        get_types_from_idl,
        get_types_from_msg,
        get_typestore,
    )

    name = schema.name if "/msg/" in schema.name else schema.name.replace("/", "/msg/", 1)
    text = schema.data.decode(errors="replace")
    try:
        store = get_typestore(Stores.EMPTY)
        idl = schema.encoding.endswith("idl")
        store.register(get_types_from_idl(text) if idl else get_types_from_msg(text, name))
    except (TypesysError, ValueError) as error:
        raise CannotDecode(f"schema '{schema.name}' is no message definition ({error})") from error
    return ros_decoder(store, name, ros1=encoding == "ros1")


def ros_decoder(store: Any, name: str, *, ros1: bool = False) -> Decode:
    """Decoder of message type `name` by a rosbags type store."""
    from rosbags.serde import SerdeError  # noqa: PLC0415 - an extra

    read = store.deserialize_ros1 if ros1 else store.deserialize_cdr
    odd = (SerdeError, KeyError, IndexError, AssertionError)
    return _checked(lambda data: read(data, name), odd, name)


def _checked(decode: Decode, errors: type[Exception] | tuple[type[Exception], ...], what: str) -> Decode:
    def checked(data: bytes) -> Any:
        try:
            return decode(data)
        except errors as error:
            raise CannotDecode(f"{len(data)} bytes are no {what} ({error})") from error

    return checked
