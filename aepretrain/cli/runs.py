"""The command ``runs``: list, show and delete the runs of trainings, and remove what interrupted ones left."""

import click

from aepretrain.cli.options import store_option, switch
from aepretrain.cli.printing import echo, print_table


@click.group("runs", invoke_without_command=True)
@click.option(
    "--state", type=click.Choice(["done", "failed", "killed", "running"]), help="Only trainings in this state."
)
@store_option
@click.pass_context
def runs(context: click.Context, state: str | None, tracking_uri: str | None) -> None:
    """List all trainings, finished or not.

    The list says what failed and why, and how long each took.
    """
    if context.invoked_subcommand is not None:
        if state is not None:
            raise click.UsageError(f"--state is not for runs {context.invoked_subcommand}")
        context.obj = tracking_uri
        return
    from aepretrain import api

    listed = api.list_runs(state=state, tracking_uri=tracking_uri)
    if listed.runs:
        print_table(listed.table)
    echo(listed.summary)
    echo(api.where(tracking_uri))


@runs.command("show")
@click.argument("run_id", metavar="ID")
@store_option
@click.pass_obj
def show(before: str | None, run_id: str, tracking_uri: str | None) -> None:
    """Show the training whose run id begins with ID: its state, settings and figures."""
    from aepretrain import api

    shown = api.show_run(run_id, tracking_uri=tracking_uri or before)
    print_table(shown.table)


@runs.command("delete")
@click.argument("run_ids", metavar="ID...", nargs=-1, required=True)
@store_option
@click.pass_obj
def delete(before: str | None, run_ids: tuple[str, ...], tracking_uri: str | None) -> None:
    """Delete the trainings whose run ids begin with these IDs; a grid that needs one trains it again.

    MLflow keeps deleted runs until `mlflow gc`, and restores them with `mlflow runs restore --run-id`.
    """
    from aepretrain import api

    for one in api.delete_runs(run_ids, tracking_uri=tracking_uri or before):
        echo(f"deleted {one.name} (run {one.run_id})")


@runs.command("clean")
@switch("--remove", "Remove what is listed.")
@store_option
@click.pass_obj
def clean(before: str | None, remove: bool, tracking_uri: str | None) -> None:
    """List what interrupted trainings left on this machine's disk, with sizes; with --remove, remove it."""
    from aepretrain import api

    found = api.clean(remove=remove, tracking_uri=tracking_uri or before)
    if found.leftovers:
        print_table(found.table)
    echo(found.summary)
