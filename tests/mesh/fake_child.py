"""A small process for tests of the supervisor: a script that behaves as its arguments say."""

import os
import signal
import sys
import time


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> None:
    how = sys.argv[1]
    say(f"pid {os.getpid()} {how}")
    if how == "crash":
        sys.exit(3)
    if how == "usage":
        sys.exit(2)
    if how == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        say("deaf")
    if how == "environment":
        say(" ".join(f"{name}={os.environ.get(name)}" for name in sys.argv[2:]))
    while True:
        time.sleep(60)


main()
