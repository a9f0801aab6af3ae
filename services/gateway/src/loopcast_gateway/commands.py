"""
Reading what a client says: from the bytes of a message to a command that is checked, or the sentence that refuses it.

What commands there are, and what each may have, is :mod:`loopcast_gateway.protocol`'s matter.
"""

from __future__ import annotations

import msgspec

from loopcast.errors import InvalidExperiment, InvalidPosition
from loopcast.history_query import MAX_TS
from loopcast.position import Position
from loopcast.routing import ANYWHERE, NOWHERE, check_experiment
from loopcast_gateway.protocol import (
    COMMANDS,
    MAX_ID_LENGTH,
    MAX_REPLAY,
    Auth,
    Command,
    ErrorName,
    Id,
    Ping,
    Pong,
    Refused,
    Replay,
    Stats,
    Subscribe,
    Unsubscribe,
)

__all__ = ["check_command", "positions", "read_command"]


class _Head(msgspec.Struct):
    id: Id | None = None
    action: object = None


_ACTIONS = {str(c.__struct_config__.tag) for c in COMMANDS}
_decoder = msgspec.json.Decoder(Auth | Subscribe | Unsubscribe | Replay | Stats | Ping | Pong)
_head = msgspec.json.Decoder(_Head)


def read_command(text: bytes) -> Command:
    """
    Read and check one command.

    Raises:
        Refused: it is none; the sentence says what is wrong, and carries the command's id where it could be read.
    """
    try:
        command: Command = _decoder.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _refusal(text, error) from None
    return check_command(command)


def check_command(command: Command) -> Command:
    """
    Check what the types of its fields don't.

    Raises:
        Refused: its id is too long, its experiment none, or what it asks of the past is no time or number.
    """
    if isinstance(command.id, str) and len(command.id) > MAX_ID_LENGTH:
        raise Refused(ErrorName.BAD_REQUEST, f'"id" has more than {MAX_ID_LENGTH} characters.')
    if isinstance(command, Subscribe | Unsubscribe | Replay):
        _check_experiment(command)
    if isinstance(command, Subscribe):
        _check_history(command)
    return command


def positions(command: Subscribe, partitions: range) -> dict[int, Position]:
    """
    The positions that `command` resumes by, by partition; with `from: earliest` some may be missing.

    Raises:
        Refused: one is no position, is given twice, or is of a partition that the experiment is not in.
    """
    tokens = [command.resume] if isinstance(command.resume, str) else command.resume or []
    found: dict[int, Position] = {}
    for token in tokens:
        try:
            position = Position.parse(token)
        except InvalidPosition as error:
            raise Refused(ErrorName.BAD_REQUEST, str(error), command.id) from None
        if position.partition not in partitions or position.partition in found:
            raise Refused(
                ErrorName.BAD_REQUEST, f"The position {token!r} is not one of this subscription's.", command.id
            )
        found[position.partition] = position
    whole = len(found) == len(partitions) or (found and command.start == "earliest")
    if command.resume is not None and not whole:
        raise Refused(
            ErrorName.BAD_REQUEST,
            f"{len(partitions)} positions are needed to resume, one a partition; {len(found)} were given.",
            command.id,
        )
    return found


def _check_experiment(command: Subscribe | Unsubscribe | Replay) -> None:
    if command.experiment_id == ANYWHERE:
        return
    if command.experiment_id == NOWHERE:
        raise Refused(
            ErrorName.BAD_REQUEST, "Events that name no experiment are seen by subscribers of * only.", command.id
        )
    try:
        check_experiment(command.experiment_id)
    except InvalidExperiment as error:
        raise Refused(ErrorName.BAD_REQUEST, str(error), command.id) from None


def _check_history(command: Subscribe) -> None:
    since, limit = command.since_ts, command.limit
    if since is not None and not 0 <= since < MAX_TS:
        raise Refused(ErrorName.BAD_REQUEST, '"since_ts" must be Unix seconds, such as 1760000000.25.', command.id)
    if limit is not None and not 0 <= limit <= MAX_REPLAY:
        raise Refused(ErrorName.BAD_REQUEST, f'"limit" must be a number from 0 to {MAX_REPLAY}.', command.id)
    if limit is not None and command.live_only:
        raise Refused(ErrorName.BAD_REQUEST, '"limit" needs a history: "from": "last", for one.', command.id)


def _refusal(text: bytes, error: Exception) -> Refused:
    try:
        head = _head.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Refused(ErrorName.BAD_REQUEST, f"This is no command: {error}.")
    id_ = head.id if not isinstance(head.id, str) or len(head.id) <= MAX_ID_LENGTH else None
    if isinstance(head.action, str) and head.action not in _ACTIONS:
        known = ", ".join(sorted(_ACTIONS))
        return Refused(ErrorName.METHOD_NOT_FOUND, f"There is no action {head.action[:40]!r}; there are {known}.", id_)
    return Refused(ErrorName.BAD_REQUEST, f"This is no command: {error}.", id_)
