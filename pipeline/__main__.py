"""The command ``backhand``:

backhand verify TARGET    compares a manual gradient with autodiff; ``backhand verify --help`` says how
backhand flags            prints XLA_FLAGS for code that compiles with ``jax.jit`` of its own
"""

import sys


def main() -> None:
    """Runs the command line's subcommand; exits with 2 where there is none of that name."""
    command, arguments = (sys.argv[1] if len(sys.argv) > 1 else ""), sys.argv[2:]
    if command == "verify":
        from .verify.__main__ import main as verify

        verify(arguments, "backhand verify")
    elif command == "flags":
        from .compiler import recommended_flags

        print(recommended_flags())
    else:
        print(__doc__, file=sys.stderr if command not in ("-h", "--help") else sys.stdout)
        sys.exit(0 if command in ("-h", "--help") else 2)


if __name__ == "__main__":
    main()
