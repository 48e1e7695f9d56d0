"""Whether a Ray cluster may be joined: asked of its head itself, within seconds, before Ray is started.

Ray tries for minutes where nobody listens, for twenty seconds with a wrong token, and joins a cluster without tokens
without a word, in which whoever reaches a port can run code.
"""

import os
import socket
from collections.abc import Sequence
from pathlib import Path

from distdqn.config import ConfigError
from distdqn.runtime.engine import Needs, Room

SECONDS = 5.0
_CLUSTER_ID = "/ray.rpc.NodeInfoGcsService/GetClusterId"
"""What Ray's own clients ask first; question and answer need not be understood here."""


def refuse_unsafe(address: str, unauthenticated: bool, resolved: str | None = None) -> bool:
    """Whether the cluster at `address` asks for a token, which is then the one that is here. With RAY_USE_TLS it is not
    asked: there certificates say who may join.

    Args:
        unauthenticated: a cluster that asks for none may be joined.
        resolved: HOST:PORT, where `address` is auto.
    Raises:
        ConfigError: nobody answers there, no token is asked for, or the one here is not the cluster's.
    """

    def refuse(why: str, key: str = f"engine.address={address}") -> ConfigError:
        return ConfigError(f"{key}: {why}")

    host, colon, port = (resolved or address).rpartition(":")
    if not colon:
        raise refuse("must be auto or HOST:PORT")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=2).close()
    except (OSError, ValueError, OverflowError) as error:
        raise refuse(f"nobody answers there ({error})") from None
    if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
        return token() is not None
    import grpc

    answer, why = _ask(f"{host}:{port}", None)
    if answer is grpc.StatusCode.OK:
        if not unauthenticated:
            why = f"the cluster at {address} asks for no token, so that whoever reaches it can run code in it"
            raise refuse(f"{why}: start it with RAY_AUTH_MODE=token, or say true", "engine.unauthenticated=false")
        return False
    if answer is not grpc.StatusCode.UNAUTHENTICATED:
        raise refuse(f"whoever listens there is not the head of a Ray cluster ({why})")
    if os.environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        raise refuse(f"that cluster asks for a token, but RAY_AUTH_MODE={os.environ['RAY_AUTH_MODE']} here")
    if (found := token()) is None:
        raise refuse("that cluster asks for a token, and there is none here: put it into ~/.ray/auth_token")
    where, value = found
    if _ask(f"{host}:{port}", value)[0] is not grpc.StatusCode.OK:
        raise refuse(f"the token in {where} is not that cluster's")
    return True


def no_room(rooms: Sequence[Room], cpus: int, gpus: int, needs: Sequence[Needs]) -> str | None:
    """Why machines with these rooms cannot hold a run; None where they can.

    Args:
        cpus, gpus: what all components take together. needs: what single ones take, each of one machine.
    """
    has = {"CPU": sum(room.cpus for room in rooms), "GPU": sum(room.gpus for room in rooms)}
    for kind, asked in (("CPU", cpus), ("GPU", gpus)):
        if (there := has[kind]) < asked:
            return f"the run asks for {asked} {kind}s, that cluster has {there:g}; lower actors.count or add machines"
    for need in needs:
        if not any(room.cpus >= need.cpus and room.gpus >= need.gpus for room in rooms):
            gpu = f" and {need.gpus:g} GPU" if need.gpus else ""
            return f"no single machine there has the {need.cpus:g} CPUs{gpu} of one component; lower its threads"
    return None


def token() -> tuple[str, str] | None:
    """Where Ray finds the token, and the token, looked for in Ray's order; None where there is none."""
    if value := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return "RAY_AUTH_TOKEN", value
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(named) if named else Path.home() / ".ray" / "auth_token"
    try:
        value = path.read_text().strip()
    except (OSError, UnicodeError):
        return None
    return (f"RAY_AUTH_TOKEN_PATH={named}" if named else str(path), value) if value else None


def _ask(address: str, value: str | None) -> tuple[object, str]:
    """The code with which the head answers somebody who has this token, and its words."""
    import grpc

    metadata = [("authorization", f"Bearer {value}")] if value else []
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            channel.unary_unary(_CLUSTER_ID)(b"", timeout=SECONDS, metadata=metadata)
        except grpc.RpcError as error:
            return error.code(), error.details()
        return grpc.StatusCode.OK, ""
