"""The command line as a process of its own: `trainlint`, `python -m trainlint`."""

import atexit
import gc


def run() -> None:
    """Run the command line and end the process.

    Cyclic garbage is collected where a check leaves much of it behind; the collections that Python
    would make besides, the last of them at its very end, take a twentieth of the time.
    """
    gc.disable()
    atexit.register(gc.freeze)
    from trainlint.cli import main

    main()


if __name__ == "__main__":
    run()
