"""The command that uploads what could not be uploaded when it was trained: ``sync``."""

from typing import Any

import click

from aepretrain.cli.options import store_option
from aepretrain.cli.shared import open_store, say_where


@click.command()
@store_option
def sync(**options: Any) -> None:
    """Upload results that were kept on this machine because the tracking server was away.

    Runs that no process is at any more are ended as KILLED. Trainings do both by themselves when they start.
    """
    from aepretrain import tracking

    store = open_store(options, None)
    num_uploaded = tracking.recover(store)
    click.echo(f"{num_uploaded} training(s) uploaded" if num_uploaded else "nothing to upload")
    say_where(store)
