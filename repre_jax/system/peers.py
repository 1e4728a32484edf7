"""The processes of one run find each other, and notice when one of them ends.

Process 0 listens at the coordinator's address, every other process connects to it, and the connections stay open as
long as the processes live. JAX's own service could do with less, but when a process is missing, or ends, it aborts the
others from C++ without saying which; here it is named, and with the last words it had.
"""

import contextlib
import json
import os
import select
import selectors
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from repre_jax.core.errors import UserError

PAUSE = 0.25  # seconds between two tries to connect
GRACE = 1.0  # seconds that a process has to end by itself once another one has failed
# Seconds until the kernel asks a silent peer, between two questions, and questions without an answer until a host
# counts as lost. A suspended process still answers, a machine without power does not.
KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 20, "TCP_KEEPCNT": 6}


@dataclass
class _Line:
    """One connection; both sides write JSON objects, one a line."""

    socket: socket.socket
    process: int | None = None
    host: str = ""
    over: bool = False  # the peer said that it has finished
    rest: bytes = b""
    _sending: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.socket.settimeout(5)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEPALIVE.items():
            if hasattr(socket, name):  # Linux
                self.socket.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def send(self, **message: Any) -> None:
        """A peer that is gone is noticed by whoever reads."""
        with self._sending, contextlib.suppress(OSError):
            self.socket.sendall(json.dumps(message).encode() + b"\n")

    def read(self) -> list[dict[str, Any]] | None:
        """What came, whole messages only; None at the end of the connection."""
        try:
            data = self.socket.recv(65536)
        except TimeoutError:
            return []
        except OSError:
            data = b""
        if not data:
            return None
        *lines, self.rest = (self.rest + data).split(b"\n")
        messages = []
        for line in lines:
            with contextlib.suppress(ValueError):  # something else that talks to this port
                messages.append(json.loads(line))
        return [message for message in messages if isinstance(message, dict)]


class Peers:
    """The other processes of the run, as this one sees them: process 0 all of them, the others process 0."""

    def __init__(self, coordinator: str, processes: int, process: int, host: str, timeout: float):
        """Returns once all processes are there. Raises UserError when they are not after `timeout` seconds."""
        self.coordinator, self.processes, self.process, self.host = coordinator, processes, process, host
        self.timeout = timeout
        self._lines: list[_Line] = []
        self._over = False
        deadline = time.monotonic() + timeout
        self._gather(deadline) if process == 0 else self._report(deadline)

    def watch(self, ended: Callable[[str], None]) -> None:
        """Calls ended(text) from a thread when another process ends without having finished: its last words, if it had
        any; then after a second, in which this process may end for the same reason, with words of its own."""
        threading.Thread(target=self._watch, args=(ended,), daemon=True, name="peers").start()

    def finished(self) -> None:
        """Tells the others that this process will end, and that all is well."""
        self._tell(kind="finished")

    def failed(self, text: str) -> None:
        """Tells the others that this process ends, and why."""
        self._tell(kind="failed", text=text)

    def close(self) -> None:
        self._over = True
        for line in self._lines:
            line.socket.close()

    def _tell(self, **message: Any) -> None:
        for line in self._lines:
            line.send(**message)

    def _gather(self, deadline: float) -> None:
        """Process 0: waits until every other one has said hello, then tells them to go on."""
        with _listen(self.coordinator) as listener:
            while missing := sorted(set(range(1, self.processes)) - {line.process for line in self._lines}):
                listener.settimeout(max(0.01, deadline - time.monotonic()))
                try:
                    line = _Line(listener.accept()[0])
                except TimeoutError:
                    here = "".join(f"\n  here:     process {p.process} on {p.host}" for p in self._lines)
                    names = ", ".join(map(str, missing))
                    text = f"process {names} of {self.processes} did not come within {self.timeout:g} s.{here}"
                    self._refuse(self._lines, text)
                hello = (line.read() or [{}])[0]
                if hello.get("kind") != "hello":
                    line.socket.close()  # someone who tries ports
                    continue
                line.process, line.host = hello["process"], hello["host"]
                if hello["processes"] != self.processes:
                    text = (
                        f"process {line.process} on {line.host} was started as one of {hello['processes']}, "
                        f"process 0 as one of {self.processes}."
                    )
                    self._refuse([*self._lines, line], text)
                if line.process not in missing:
                    text = f"process {line.process} was started twice, the second time on {line.host}."
                    self._refuse([*self._lines, line], text)
                self._lines.append(line)
        self._tell(kind="go", host=self.host)

    def _refuse(self, lines: list[_Line], text: str) -> None:
        for line in lines:
            line.send(kind="refused", text=text)
        raise UserError(
            f"The processes of this run did not come together: {text}\n"
            f"  expected: {self.processes} processes, 0 to {self.processes - 1}, that can reach {self.coordinator}\n"
            "  change:   look at the output of the missing one; --config.distributed.processes and .process;\n"
            "            --config.distributed.timeout=SECONDS if it only needs longer"
        )

    def _report(self, deadline: float) -> None:
        """Any other process: finds process 0 and waits until it says that all are there."""
        line = self._connect(deadline)
        line.send(kind="hello", process=self.process, processes=self.processes, host=self.host)
        messages: list[dict[str, Any]] | None = []
        while messages == [] and time.monotonic() < deadline + 10:  # process 0 knows more, and has its own deadline
            messages = line.read()
        answer = messages[0] if messages else {}
        if answer.get("kind") != "go":
            why = answer.get("text", "what answers there does not answer as process 0 of a run would.")
            raise UserError(
                f"Process 0, at {self.coordinator}, has not started the run: {why}\n"
                "  change:   look at the output of process 0; or --config.distributed.coordinator, if it is elsewhere"
            )
        line.process, line.host = 0, answer["host"]
        self._lines.append(line)

    def _connect(self, deadline: float) -> _Line:
        address = _split(self.coordinator)
        while True:
            try:
                return _Line(socket.create_connection(address, timeout=max(0.1, deadline - time.monotonic())))
            except OSError as error:
                if time.monotonic() + PAUSE >= deadline:
                    raise UserError(
                        f"Process 0 cannot be reached: nothing answered at {self.coordinator} within "
                        f"{self.timeout:g} s ({error.strerror or error}).\n"
                        "  change:   look at the output of process 0: does it run, on that host, with that port;\n"
                        "            --config.distributed.coordinator=HOST:PORT, a name and a port that this host can "
                        "reach;\n"
                        "            --config.distributed.timeout=SECONDS if process 0 only needs longer"
                    ) from None
            time.sleep(PAUSE)

    def _watch(self, ended: Callable[[str], None]) -> None:
        with selectors.DefaultSelector() as selector:
            for line in self._lines:
                selector.register(line.socket, selectors.EVENT_READ, line)
            while selector.get_map() and not self._over:
                for key, _ in selector.select(timeout=1):
                    line = key.data
                    messages = line.read()
                    for message in messages or []:
                        line.over |= message.get("kind") == "finished"
                        if message.get("kind") == "failed":
                            select.select([line.socket], [], [], GRACE)  # less if that process is gone already
                            ended(message["text"])
                    if messages is None:
                        selector.unregister(line.socket)
                        if not line.over and not self._over:
                            ended(
                                f"Process {line.process} of {self.processes} on {line.host} ended without a word; "
                                "look at its output. Was it killed, is its host gone?"
                            )


def _split(coordinator: str) -> tuple[str, int]:
    """HOST:PORT -> (host, port); an IPv6 address may stand in brackets."""
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise UserError(
            f"distributed.coordinator is {coordinator!r}.\n  expected: HOST:PORT, as in node1:1234\n"
            "  change:   --config.distributed.coordinator=HOST:PORT"
        )
    return host.strip("[]"), int(port)


def _listen(coordinator: str) -> socket.socket:
    """A socket on every address of this host, as JAX's own service will have; JAX gets the port after this."""
    _, port = _split(coordinator)
    try:
        both = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if both else socket.AF_INET
        return socket.create_server(("", port), family=family, backlog=1024, dualstack_ipv6=both)
    except OSError as error:
        raise UserError(
            f"Process 0 cannot listen at port {port} of this host: {os.strerror(error.errno or 0)}.\n"
            "  given:    the coordinator " + coordinator + "\n"
            "  change:   --config.distributed.coordinator=HOST:PORT to a free port, in every process; or end the run "
            "that has it"
        ) from None
