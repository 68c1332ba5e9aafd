"""Many threads at once, taking turns as often as the interpreter can."""

import sys
import threading
from collections.abc import Callable


def crowd(work: Callable[[int], None], count: int = 8) -> None:
    """Run ``work(number)`` on so many threads; what one raises fails the test, as pytest sees it."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
