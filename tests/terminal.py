"""What somebody at a terminal sees of a command, and when.

    python -m tests.terminal COMMAND [ARGUMENT …]

runs it in a pseudo-terminal, then says how long the terminal was silent at the most.
"""

import os
import pty
import re
import select
import signal
import sys
import time
from dataclasses import dataclass, field
from itertools import pairwise

# What moves the cursor, colours or clears; a terminal shows none of it.
_CONTROLS = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b\][^\x07]*\x07")


@dataclass
class Seen:
    """What a terminal was sent.

    Attributes:
      outputs: seconds since the start, and the text, of each piece.
      seconds: how long the command ran.
      code: how it ended.
    """

    outputs: list[tuple[float, str]] = field(default_factory=list)
    seconds: float = 0.0
    code: int = 0

    @property
    def text(self) -> str:
        """All of it, without control sequences, a spinner's frames on lines of their own."""
        whole = "".join(text for _, text in self.outputs)
        return _CONTROLS.sub("", whole).replace("\r\n", "\n").replace("\r", "\n")

    def gaps(self) -> list[tuple[float, float, str]]:
        """The silences, the longest first: seconds, when it began, what was sent last before it."""
        times = [0.0, *(at for at, _ in self.outputs), self.seconds]
        texts = ["", *(_CONTROLS.sub("", text).strip()[-60:] for _, text in self.outputs)]
        silences = zip(pairwise(times), texts, strict=True)
        return sorted(((end - at, at, text) for (at, end), text in silences), reverse=True)


def watch(command: list[str], until: str | None = None, columns: int = 100) -> Seen:
    """Runs a command in a pseudo-terminal until it ends, or has printed a text and is interrupted."""
    started = time.monotonic()
    process, terminal = pty.fork()
    if process == 0:
        if until:
            signal.alarm(60)  # a command that does not listen would wait for ever
        # as a login shell does: what runs the tests may ignore Ctrl-C, and children inherit that
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        os.environ |= {"COLUMNS": str(columns), "TERM": "xterm-256color"}
        os.execvp(command[0], command)
    seen = Seen()
    while True:
        select.select([terminal], [], [])
        try:
            data = os.read(terminal, 1 << 16)
        except OSError:  # how Linux says that the other side has ended
            break
        if not data:
            break
        seen.outputs.append((time.monotonic() - started, data.decode(errors="replace")))
        if until and until in seen.text:
            # A text is printed before the command waits for a key: Ctrl-C in between may go unseen.
            time.sleep(0.5)
            os.write(terminal, b"\x03")
            until = None
    _, status = os.waitpid(process, 0)
    os.close(terminal)
    seen.seconds, seen.code = time.monotonic() - started, os.waitstatus_to_exitcode(status)
    return seen


if __name__ == "__main__":
    before = os.times()
    session = watch(sys.argv[1:])
    after = os.times()
    print(session.text)
    used = sum(after[2:4]) - sum(before[2:4])
    print(f"exit {session.code} after {session.seconds:.1f} s, {used:.1f} s of CPU; silent for")
    for seconds, began, last in session.gaps()[:3]:
        print(f"  {seconds:.1f} s from {began:.1f} s, after {last!r}")
