"""The machine's clock behind the ``Clock`` port."""

from __future__ import annotations

import time


class SystemClock:
    """Real time. The monotonic side counts from the machine's start, alike in every process."""

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000
