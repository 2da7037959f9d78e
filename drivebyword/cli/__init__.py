"""The command line: arguments in, one call of the package, one line per result out.

It adds nothing a Python caller cannot do. Commands import what they need when they run, so that `--help`
answers at once. Exit code 0 is success, 1 a failed gate, 2 wrong use (one line on stderr), 130 an interrupt.

    drivebyword drive "turn left at the next intersection" --then 12:"pull over"
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol

import tyro

from drivebyword.cli.driving import Drive
from drivebyword.cli.judging import Audit, Bench, Compare, Evaluate
from drivebyword.cli.learning import Collect, Iterate, Train, Weights
from drivebyword.cli.scenery import World


class Command(Protocol):
    """A parsed command line."""

    def run(self) -> int:
        """Do it; return the exit code."""
        ...


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """Say what this machine has and what is missing."""

    def run(self) -> int:
        """Check everything; 1 if something a drive needs is missing."""
        from drivebyword.cli.doctor import examine

        missing = 0
        for finding in examine():
            print(f"{finding.mark:7} {finding.name:10} {finding.text}")
            missing += finding.needed and finding.mark == "missing"
        return 1 if missing else 0


Commands = (
    Annotated[Drive, tyro.conf.subcommand("drive")]
    | Annotated[Collect, tyro.conf.subcommand("collect")]
    | Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Compare, tyro.conf.subcommand("compare")]
    | Annotated[Audit, tyro.conf.subcommand("audit")]
    | Annotated[Iterate, tyro.conf.subcommand("iterate")]
    | Annotated[Bench, tyro.conf.subcommand("bench")]
    | Annotated[World, tyro.conf.subcommand("world")]
    | Annotated[Weights, tyro.conf.subcommand("weights")]
    | Annotated[Doctor, tyro.conf.subcommand("doctor")]
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, run and turn what a person did wrong into one line and exit code 2."""
    command: Command = tyro.cli(
        Commands,  # type: ignore[arg-type]
        prog="drivebyword",
        description="Type a sentence, the car drives it.",
        args=arguments,
        config=(tyro.conf.OmitArgPrefixes,),
    )
    try:
        return command.run()
    except (ValueError, OSError) as error:
        print(f"drivebyword: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("drivebyword: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
