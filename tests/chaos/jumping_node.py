"""`orrange`, whose wall clock jumps: ten seconds ahead on SIGUSR1, back on SIGUSR2."""

from __future__ import annotations

import signal
from typing import Final

from orrange_p2p.cli.main import main
from orrange_p2p.daemon import serve
from orrange_p2p.daemon.system import SystemClock

JUMP_MS: Final = 10_000
ahead_ms = 0


class JumpingClock(SystemClock):
    def wall_ms(self) -> int:
        return super().wall_ms() + ahead_ms


def jump(number: int, frame: object) -> None:
    global ahead_ms
    ahead_ms = JUMP_MS if number == signal.SIGUSR1 else 0


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, jump)
    signal.signal(signal.SIGUSR2, jump)
    serve.SystemClock = JumpingClock
    main()
