"""``orrange run``: the node itself, in the foreground."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import click
import structlog
import trio

from orrange_p2p.cli.options import ask_passphrase, passphrase_option
from orrange_p2p.daemon.config import default_data_dir, load_config
from orrange_p2p.daemon.keys import open_keys
from orrange_p2p.daemon.market import corrupt
from orrange_p2p.daemon.serve import serve


@click.command("run")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=default_data_dir,
    help="Made by `orrange init`; by default $ORRANGE_DATA_DIR or ~/.local/share/orrange.",
)
@passphrase_option
@click.option("--sabotage", is_flag=True, hidden=True, help="Break the book, for the demo.")
@click.option(
    "--lose",
    "lost_percent",
    type=click.IntRange(0, 99),
    default=0,
    hidden=True,
    help="Of the messages that gossip brings, lose so many: for measuring.",
)
@click.option(
    "--twins-from",
    "twin_era",
    type=click.IntRange(0),
    hidden=True,
    help="Sign two ticks in each round from this era on, for the demo: it costs the bond.",
)
def command(
    data_dir: Path,
    passphrase_file: Path | None,
    sabotage: bool,
    lost_percent: int,
    twin_era: int | None,
) -> None:
    """Run the node until Ctrl-C or SIGTERM.

    It listens, dials the peers of its configuration, follows the markets it carries and, as a
    witness, keeps their clock. It signs accepts for its own matches by itself. Log lines go to
    standard error; `orrange status` asks the running node.
    """
    config = load_config(data_dir)
    keys = open_keys(config, lambda: ask_passphrase(passphrase_file))
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[config.log_level.upper()]
        ),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    trio.run(serve, config, keys, corrupt if sabotage else None, lost_percent, twin_era)
