"""The command line. Verbs import what they need when they run, so that each starts quickly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ingest.reasons import Reason
from meterflow import __version__
from meterflow.benches import BENCHES
from meterflow.cli_archive import archive
from meterflow.cli_recordings import record, replay
from meterflow.cli_score import score
from meterflow.cli_shared import FILE, FOLDER, reported
from meterflow.cli_simulate import simulate
from meterflow.cli_verdicts import verdicts
from metering.query import Format

SETTINGS = click.option(
    "--settings",
    type=FILE,
    envvar="METERFLOW_SETTINGS",
    help="The settings file, or METERFLOW_SETTINGS.",
)

REASONS = [reason.value for reason in Reason]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="meterflow")
def main() -> None:
    """What plants use for what they make, live and provable: electricity, water, output, value added."""


main.add_command(archive)
main.add_command(verdicts)
main.add_command(simulate)
main.add_command(score)
main.add_command(record)
main.add_command(replay)


@main.command()
@click.argument("site", type=FILE, required=False)
@click.option("--data", type=FOLDER, default=Path("data"), show_default=True, help="The data folder.")
@click.option("--mqtt-host", default="127.0.0.1", show_default=True, help="Where meters connect to.")
@click.option("--mqtt-port", type=click.IntRange(0, 65535), default=1883, show_default=True)
@click.option(
    "--http-host", default="127.0.0.1", show_default=True, help="Where the page is; elsewhere needs a token."
)
@click.option("--http-port", type=click.IntRange(0, 65535), default=8080, show_default=True)
@click.option("--token-file", type=FILE, help="A file with the page's token.")
@click.option("--users", type=FILE, help="Who may publish; see passwd. Without it anybody who can connect.")
@click.option(
    "--decide/--no-decide",
    default=None,
    help="Whether people may decide on the page; default: if only this machine can see it.",
)
@click.option(
    "--apply/--no-apply",
    default=None,
    help="Whether apply may change the site file; default: if only this machine sees it.",
)
@click.option("--archive", help="Where readings are kept for ever; default: in the data folder.")
@click.option(
    "--archive-every",
    "archive_every_s",
    type=click.FloatRange(min=0),
    default=900.0,
    show_default=True,
    help="Seconds that a reading may wait on the log for others that are archived with it.",
)
@click.option(
    "--keep-log",
    "keep_log_days",
    type=click.FloatRange(min=0),
    help="Days that the log keeps readings which are archived; default: for ever.",
)
@click.option("--raw", is_flag=True, help="Keeps the raw payload of each message in the archive, too.")
@click.option(
    "--keep-raw",
    "keep_raw_days",
    type=click.IntRange(min=1),
    help="As --raw, but raw payloads are kept so many days only.",
)
@click.option("--simulate", is_flag=True, help="Adds a simulated park: its past 24 hours, then real time.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of the simulated park.")
@reported
def up(site: Path | None, **options: Any) -> None:
    """Runs the whole service on this machine: MQTT endpoint, log, processors, store and page."""
    from meterflow import running

    running.up(site, **options)


@main.command()
@SETTINGS
@reported
def ingest(settings: Path | None) -> None:
    """Takes readings from a broker, from meters or from a topic of JSON, onto Kafka."""
    from meterflow import roles

    roles.run("ingest", settings)


@main.command()
@SETTINGS
@reported
def process(settings: Path | None) -> None:
    """Makes results of the readings on Kafka; copies share the work."""
    from meterflow import roles

    roles.run("process", settings)


@main.command()
@SETTINGS
@reported
def sink(settings: Path | None) -> None:
    """Stores the results on Kafka in InfluxDB; copies share the work."""
    from meterflow import roles

    roles.run("sink", settings)


@main.command()
@SETTINGS
@reported
def web(settings: Path | None) -> None:
    """Serves the page and its API over the results in InfluxDB."""
    from meterflow import roles

    roles.run("web", settings)


@main.command()
@SETTINGS
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
@reported
def doctor(settings: Path | None, as_json: bool) -> None:
    """Looks at every connection, right and version that the settings need, and says what to do."""
    from meterflow import doctor as examining

    raise SystemExit(examining.doctor(settings, as_json))


@main.command()
@click.argument("site", type=FILE)
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
@reported
def check(site: Path, as_json: bool) -> None:
    """Finds every fault of a site file, with its line and a proposal."""
    from meterflow import files

    raise SystemExit(files.check(site, as_json))


@main.command()
@click.argument("site", type=FILE)
@click.option("--against", "data", type=FOLDER, required=True, help="The data folder of up.")
@click.option("--out", type=FOLDER, help="A folder: every differing row, a Parquet file for each table.")
@click.option("--archive", "url", help="The archive, where it is elsewhere: a folder, or s3://bucket/prefix.")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
@reported
def plan(site: Path, data: Path, **options: Any) -> None:
    """Says what a changed site file would change in the stored results, before it is applied."""
    from meterflow import plan as planning

    raise SystemExit(planning.plan(site, data, **options))


@main.command()
@click.argument("site", type=FILE, required=False)
@click.option("--data", type=FOLDER, default=Path("data"), show_default=True, help="What up runs on.")
@click.option(
    "--settings", type=FILE, help="Roles on Kafka: the settings of those that run the changed file."
)
@click.option("--plan/--no-plan", "planned", default=True, help="Whether to say before what would change.")
@click.option("--yes", is_flag=True, help="Does not ask.")
@click.option("--stop", is_flag=True, help="Gives up the change that is being worked out.")
@click.option("--json", "as_json", is_flag=True, help="For scripts; implies --yes.")
@reported
def apply(site: Path | None, settings: Path | None, **options: Any) -> None:
    """Puts a changed site file in force while the service runs."""
    if settings is not None:
        from meterflow import applying_roles

        asked = {name: options[name] for name in ("yes", "stop", "as_json")}
        raise SystemExit(applying_roles.apply(site, settings, **asked))
    from meterflow import applying

    raise SystemExit(applying.apply(site, **options))


@main.command()
@click.argument("file", type=FILE)
@click.option("--map", "map_path", type=FILE, required=True, help="The mapping file.")
@click.option("--out", type=click.Path(dir_okay=False, allow_dash=True, path_type=Path), required=True)
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
@reported
def convert(file: Path, map_path: Path, out: Path, as_json: bool) -> None:
    """Makes a recording of a meter export (CSV, Excel, Parquet)."""
    from meterflow import files

    raise SystemExit(files.convert(file, map_path, out, as_json))


@main.command()
@click.argument("recordings", type=FILE, nargs=-1, required=True)
@click.option("--site", type=FILE, required=True, help="The site file.")
@click.option("--out", type=FOLDER, required=True, help="A folder: one file for each table.")
@click.option(
    "--format", "form", type=click.Choice(["parquet", "csv", "json"]), default="parquet", show_default=True
)
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
@reported
def compute(recordings: tuple[Path, ...], site: Path, out: Path, form: Format, as_json: bool) -> None:
    """The whole calculation without a broker: the same operators, the same tables."""
    from meterflow import files

    raise SystemExit(files.compute(recordings, site, out, form, as_json))


@main.command()
@click.option("--data", type=FOLDER, default=Path("data"), show_default=True, help="What up runs on.")
@click.option("--settings", type=FILE, help="A settings file: its InfluxDB and broker instead of a folder.")
@click.option(
    "--site", type=FILE, help="The site file that up runs with; default: the settings', the park's."
)
@click.option(
    "--reason",
    "reasons",
    type=click.Choice(REASONS),
    multiple=True,
    metavar="REASON",
    help="Only rows of it.",
)
@click.option("--plant", "plants", multiple=True, help="Of this plant only; may be given several times.")
@click.option("--from", "from_time", help="RFC 3339: messages that came later.")
@click.option("--to", "to_time", help="RFC 3339: messages that did not come later.")
@click.option("--out", type=FILE, help="Write them to a recording instead of publishing them.")
@click.option("--mqtt", "url", help="Broker or endpoint; default: the service's, or the settings'.")
@click.option("--user", envvar="METERFLOW_MQTT_USER")
@click.option("--password-file", type=FILE, help="A file with the password.")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
@reported
def resubmit(
    reasons: tuple[str, ...],
    plants: tuple[str, ...],
    from_time: str | None,
    to_time: str | None,
    **options: Any,
) -> None:
    """Publishes rejected messages again that would be taken now: a point was added, a unit put right."""
    from meterflow import resubmit as again

    selection = again.Selection.of(reasons, plants, from_time, to_time)
    raise SystemExit(again.resubmit(selection=selection, **options))


@main.command()
@click.argument("table")
@click.option(
    "--data", type=FOLDER, default=Path("data"), show_default=True, help="What up or compute wrote."
)
@click.option("--settings", type=FILE, help="A settings file: from its InfluxDB instead of a folder.")
@click.option(
    "--format", "form", type=click.Choice(["csv", "parquet", "json"]), default="csv", show_default=True
)
@click.option("--from", "from_time", help="RFC 3339: rows whose time is later.")
@click.option("--to", "to_time", help="RFC 3339: rows whose time is not later.")
@click.option("--as-of", "as_of", help="RFC 3339: rows as they were reported at that instant.")
@click.option("--history", is_flag=True, help="Every reported row, superseded ones too.")
@reported
def export(table: str, data: Path, settings: Path | None, form: Format, **selection: Any) -> None:
    """Writes a result table to standard output, also while the service runs."""
    from meterflow import exporting

    exporting.export(table, data, settings, form, **selection)


@main.command()
@click.argument("table")
@click.argument("key", nargs=-1, required=True, metavar="NAME=VALUE...")
@click.option("--data", type=FOLDER, default=Path("data"), show_default=True, help="The data folder of up.")
@click.option("--settings", type=FILE, help="A settings file: its InfluxDB, archive and site file instead.")
@click.option("--archive", help="The archive, where it is elsewhere: a folder, or s3://bucket/prefix.")
@click.option("--site", type=FILE, help="The site file; default: the one in force.")
@click.option("--revision", type=click.IntRange(min=0), help="Only this one.")
@click.option(
    "--readings",
    type=click.IntRange(min=0),
    default=20,
    show_default=True,
    help="So many readings of each revision.",
)
@click.option("--payloads", is_flag=True, help="With the raw payload of each, where it is kept.")
@click.option("--json", "as_json", is_flag=True, help="For scripts: an object for each revision.")
@reported
def history(table: str, key: tuple[str, ...], **options: Any) -> None:
    """Every revision of one figure, with its cause and the readings behind it."""
    from meterflow import history as telling

    where = telling.Where(*(options[name] for name in ("data", "settings", "archive", "site")))
    shown = telling.Shown(*(options[name] for name in ("revision", "readings", "payloads", "as_json")))
    telling.history(table, key, where, shown)


@main.command()
@click.argument("name", type=click.Choice(BENCHES))
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
@click.option("--curve", is_flag=True, help="core: also with 1,000 to a million points.")
@reported
def bench(name: str, as_json: bool, curve: bool) -> None:
    """Measures, and compares with what is installed beside it."""
    from meterflow import benches

    benches.run(name, as_json, curve=curve)


@main.command()
@click.argument("file", type=FILE)
@click.argument("user")
@click.option("--plant", "plants", multiple=True, help="A plant the user may publish for; none: all.")
@click.option("--decide", is_flag=True, help="The user may send decisions on verdicts. No meter should.")
@reported
def passwd(file: Path, user: str, plants: tuple[str, ...], decide: bool) -> None:
    """Adds or changes a user of the MQTT endpoint; asks for the password."""
    from meterflow import files

    password = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    files.passwd(file, user, password, plants, decide)
