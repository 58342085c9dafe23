"""The settings of the roles: file, environment above it, secrets from files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from meterflow.settings import SettingsFaults, find_faults, load_settings
from meterflow.settings_environment import variables
from meterflow.settings_models import SettingsFile
from meterflow.settings_secrets import Secret
from metering.errors import UsageError
from metering.faults import Fault
from tests.meterflow.helper import EXAMPLES, meterflow, mistake

ALL = ("site?", "mqtt?", "endpoint?", "json_topic?", "kafka?", "influxdb?", "http")
CANARY = "c4n4ry-5f0e77a1"

MINIMAL = """\
kafka:
  bootstrap: 127.0.0.1:9092
influxdb:
  url: http://127.0.0.1:8086
  org: works
  bucket: results
  token_file: token
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A settings file with a good secret beside it."""
    (tmp_path / "token").write_text(f"{CANARY}\n")
    (tmp_path / "token").chmod(0o600)
    path = tmp_path / "settings.yaml"
    path.write_text(MINIMAL)
    return path


def texts(faults: list[Fault], file: Path) -> list[str]:
    return [fault.text(file.name) for fault in faults]


def test_what_is_given_is_taken_and_the_rest_has_its_default(file: Path) -> None:
    """A small file is enough."""
    settings = load_settings(file, ("kafka", "influxdb"), {})
    kafka = settings.values.kafka
    assert kafka is not None
    assert (kafka.bootstrap, kafka.prefix, kafka.partitions) == ("127.0.0.1:9092", "meterflow", 4)
    assert settings.values.http.port == 8080
    assert settings.secret("influxdb", "token_file") == CANARY
    assert settings.warnings == ()


def test_every_fault_is_named_with_its_line_and_a_proposal(file: Path) -> None:
    """Not just the first; as of a site file."""
    file.write_text(
        "kafka:\n  bootstrp: a:1\n  partitions: '4'\n"
        "influxdb: {url: 'ftp://x', org: a, bucket: b, token: hush, token_file: nowhere}\n"
        "http: {port: 99999}\nmqtt: {url: 'mqtt://b', session_expiry: 3}\nkafkaa: {}\n"
    )
    found = "\n".join(texts(find_faults(file, ALL, {}), file))
    for words in (
        "settings.yaml:2:3: kafka: the key 'bootstrap' is missing",
        "settings.yaml:2:3: kafka.bootstrp: the key 'bootstrp' is not known here\n    Did you mean",
        "settings.yaml:3:15: kafka.partitions: a whole number belongs here",
        "settings.yaml:4:17: influxdb.url: 'ftp://x' is no URL of http or https",
        "influxdb.token: the key 'token' is not known here\n    Did you mean 'token_file'?",
        "influxdb.token_file: the token cannot be read",
        "settings.yaml:5:14: http.port: ",
        "mqtt.session_expiry: '3' is not of the form",
        "settings.yaml:7:1: kafkaa: the key 'kafkaa' is not known here\n    Did you mean 'kafka'?",
    ):
        assert words in found
    assert "hush" not in found


def test_the_environment_counts_more_than_the_file(file: Path) -> None:
    """Each value, in the form that its key wants; an empty variable counts as none."""
    environ = {
        "METERFLOW_KAFKA_BOOTSTRAP": "k1:9092,k2:9092",
        "METERFLOW_KAFKA_PARTITIONS": "12",
        "METERFLOW_KAFKA_TLS": "true",
        "METERFLOW_KAFKA_PREFIX": "",
        "METERFLOW_MQTT_URL": "mqtt://broker",
        "METERFLOW_MQTT_FILTERS": "meterflow/v1/a/#, meterflow/v1/b/#",
        "METERFLOW_MQTT_SESSION_EXPIRY": "1h",
        "METERFLOW_JSON_TOPIC_TOPIC": "json",
        "METERFLOW_INFLUXDB_BUCKET": "2026",
    }
    settings = load_settings(file, ("kafka", "influxdb", "mqtt"), environ)
    kafka, mqtt, influxdb = settings.values.kafka, settings.values.mqtt, settings.values.influxdb
    assert kafka is not None
    assert mqtt is not None
    assert influxdb is not None
    assert settings.values.json_topic is not None
    assert (kafka.bootstrap, kafka.partitions, kafka.tls) == ("k1:9092,k2:9092", 12, True)
    assert kafka.prefix == "meterflow"
    assert (mqtt.url, mqtt.session_expiry_ms) == ("mqtt://broker", 3_600_000)
    assert mqtt.filters == ["meterflow/v1/a/#", "meterflow/v1/b/#"]
    assert settings.values.json_topic.topic == "json"
    assert influxdb.bucket == "2026"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("METERFLOW_KAFKA_BOOTSTRP", "a:1", "Did you mean METERFLOW_KAFKA_BOOTSTRAP?"),
        ("METERFLOW_KAFKA_PASSWORD", CANARY, "Did you mean METERFLOW_KAFKA_PASSWORD_FILE?"),
        ("METERFLOW_HTTP_PORT", "99999", "less than or equal to 65535"),
        ("METERFLOW_KAFKA_TLS", "perhaps", "true or false belongs here"),
        ("METERFLOW_KAFKA_BOOTSTRAP", "no address", "'no address' is no server"),
        ("METERFLOW_INFLUXDB_TOKEN_FILE", "nowhere", "the token cannot be read"),
        ("METERFLOW_INFLUXDB_URL", f"http://me:{CANARY}@host", "do not belong into a URL"),
    ],
)
def test_a_fault_of_the_environment_names_the_variable(file: Path, name: str, text: str, words: str) -> None:
    """And never says what may be a secret."""
    (fault,) = texts(find_faults(file, ("influxdb",), {name: text}), file)
    assert fault.startswith(f"{name} (environment): ")
    assert words in fault
    assert CANARY not in fault


def test_a_name_nearly_that_of_a_setting_is_warned_about(file: Path) -> None:
    """What may be meant for somebody else keeps nothing from working."""
    environ = {"METERFLOW_KAKFA_BOOTSTRAP": "a:1", "METERFLOW_LONG": "1", "METERFLOW_TEST_KAFKA": "a:1"}
    settings = load_settings(file, ("kafka",), environ)
    (warning,) = texts(list(settings.warnings), file)
    assert warning.startswith("warning: METERFLOW_KAKFA_BOOTSTRAP")


@pytest.mark.parametrize(
    "text",
    ["", "\n", "changeme", "CHANGE-ME", "<your token>", "${TOKEN}", "xxxxxxxx", "password", "my-token"],
)
def test_a_placeholder_is_no_secret(file: Path, text: str) -> None:
    """Nobody's service starts with the secret of an example."""
    (file.parent / "token").write_text(text)
    with pytest.raises(SettingsFaults, match=r"settings\.yaml:7:15: influxdb\.token_file: the (token|file)"):
        load_settings(file, ("influxdb",), {})


def test_a_secret_that_all_may_read_is_warned_about(file: Path) -> None:
    """It is used all the same: in a container nobody else may be there."""
    (file.parent / "token").chmod(0o644)
    settings = load_settings(file, ("influxdb",), {})
    (warning,) = settings.warnings
    assert warning.severity == "warning"
    assert "every user of this machine can read" in warning.what
    assert warning.proposal.startswith("chmod o-r ")


def test_secrets_are_not_shown(file: Path) -> None:
    """Neither by settings, nor by what is made of them."""
    from meterflow.settings_made import influx

    settings = load_settings(file, ("influxdb",), {})
    shown = f"{settings!r} {settings} {Secret(CANARY)!r} {Secret(CANARY)} {influx(settings)!r}"
    assert CANARY not in shown
    assert influx(settings).token == CANARY


def test_only_the_secrets_that_a_role_needs_are_looked_at(file: Path) -> None:
    """Copies of different roles share a file, and each holds its own secrets only."""
    (file.parent / "token").unlink()
    assert load_settings(file, ("kafka",), {}).secret("influxdb", "token_file") == ""
    with pytest.raises(SettingsFaults, match="the token cannot be read"):
        load_settings(file, ("influxdb?",), {})


def test_a_section_that_a_role_needs_has_to_be_there(file: Path) -> None:
    """With a proposal."""
    with pytest.raises(SettingsFaults, match="the key 'mqtt' is missing"):
        load_settings(file, ("mqtt",), {})
    assert load_settings(file, ("mqtt?",), {}).values.mqtt is None


def test_paths_are_relative_to_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the command is run."""
    (file.parent / "site.yaml").write_text("meterflow: 1\n")
    monkeypatch.chdir("/")
    settings = load_settings(file, ("site",), {"METERFLOW_SITE": "site.yaml"})
    assert settings.site == file.parent / "site.yaml"
    with pytest.raises(SettingsFaults, match="is no file"):
        load_settings(file, ("site",), {"METERFLOW_SITE": "other.yaml"})


def test_without_a_file_the_roles_say_what_they_want() -> None:
    """By option or by variable."""
    with pytest.raises(UsageError, match="a settings file is needed"):
        load_settings(None, ("kafka",), {})
    mistake(meterflow("process"), 2, "--settings", "METERFLOW_SETTINGS")


def test_the_example_has_every_key_and_works(tmp_path: Path) -> None:
    """examples/settings.yaml: every key of every section, commented; its defaults are the defaults."""
    text = (EXAMPLES / "settings.yaml").read_text()
    uncommented = re.sub(r"^( *)# (\w+: )", r"\1\2", text, flags=re.MULTILINE)
    path = tmp_path / "settings.yaml"
    path.write_text(uncommented)
    (tmp_path / "secrets").mkdir()
    for name in set(re.findall(r"secrets/([\w.]+)", uncommented)):
        (tmp_path / "secrets" / name).write_text("0c7f1d2e9a\n")
        (tmp_path / "secrets" / name).chmod(0o600)
    (tmp_path / "park").mkdir()
    (tmp_path / "park" / "site.yaml").touch()
    settings = load_settings(path, ALL, {})
    assert settings.warnings == ()
    for name in SettingsFile.model_fields:
        section = getattr(settings.values, name)
        assert section is not None, name
        keys = {info.alias or key for key, info in getattr(type(section), "model_fields", {}).items()}
        block = re.search(rf"^{name}:.*\n((?:  .*\n)*)", text, re.MULTILINE)
        assert block is not None
        assert set(re.findall(r"^  (?:# )?(\w+): .+", block[1], re.MULTILINE)) == keys, name
    plain = load_settings_of(text, tmp_path)
    assert plain.http == type(plain.http)()


def load_settings_of(text: str, folder: Path) -> SettingsFile:
    path = folder / "plain.yaml"
    path.write_text(text)
    return load_settings(path, (), {}).values


def test_every_key_has_a_variable() -> None:
    """METERFLOW_SECTION_KEY, and METERFLOW_KEY for those of no section; each is one key's."""
    known = variables()
    assert known["METERFLOW_SITE"] == ("site",)
    assert known["METERFLOW_KAFKA_PASSWORD_FILE"] == ("kafka", "password_file")
    assert known["METERFLOW_MQTT_SESSION_EXPIRY"] == ("mqtt", "session_expiry")
    assert len(set(known.values())) == len(known)
