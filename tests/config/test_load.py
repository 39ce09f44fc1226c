"""Settings: what is read from where, and what a user is told when it does not fit."""

import os
from pathlib import Path

import pytest

from holdfast.config import open_bucket
from holdfast.config.kinds import parse_size
from holdfast.config.load import ENVIRONMENT_PREFIX, load
from holdfast.config.settings import RULES, Settings, is_loopback
from holdfast.config.stack import locate
from holdfast.core.errors import InvalidError

MASTER = "ab" * 32


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "holdfast.toml"


def read(
    file: Path | None = None, text: str = "", *, env: dict[str, str] | None = None, **flags: str
) -> Settings:
    if file is not None:
        file.write_text(text)
    return load(file, environment=env or {}, flags=flags).settings


def refusal(
    file: Path | None = None, text: str = "", *, env: dict[str, str] | None = None, **flags: str
) -> str:
    with pytest.raises(InvalidError) as caught:
        read(file, text, env=env, **flags)
    return str(caught.value)


def test_without_anything_the_defaults_hold() -> None:
    assert read() == Settings()
    assert Settings().port == 3000
    assert Settings().max_body_bytes == 30 * 1024 * 1024
    assert Settings().content_max_body_bytes == 10_000_000


def test_file_then_environment_then_flags_and_the_later_wins(file: Path) -> None:
    file.write_text('port = 1\nhost = "127.0.0.2"\nlog_level = "debug"\n')
    env = {"HOLDFAST_PORT": "2", "HOLDFAST_LOG_LEVEL": "warning"}
    loaded = load(file, environment=env, flags={"port": "3"})
    assert (loaded.settings.port, loaded.settings.host) == (3, "127.0.0.2")
    assert loaded.settings.log_level == "warning"
    assert loaded.origins["port"] == "--port"
    assert loaded.origins["host"] == f"{file}:2"
    assert loaded.origins["log_level"] == "HOLDFAST_LOG_LEVEL"
    assert loaded.origins["data"] == "default"


def test_every_kind_is_read_from_toml_and_from_text(file: Path) -> None:
    typed = read(
        file,
        'data = "d"\nport = 1\nhot_path = false\nidle_wait_s = 2\nmax_body_bytes = "30 MiB"\n'
        'cors_origins = ["https://example.org"]\nlog_format = "json"\n'
        'networks = ["10.0.0.0/8", "::1"]\naddress_requests_s = 25\nkey_requests_s = 0\n',
    )
    texts = {
        "data": "d",
        "port": "1",
        "hot_path": "off",
        "idle_wait_s": "2.0",
        "max_body_bytes": "31457280",
        "cors_origins": "https://example.org",
        "networks": "10.0.0.0/8, ::1",
        "address_requests_s": "25",
        "key_requests_s": "0",
    }
    env = {ENVIRONMENT_PREFIX + name.upper(): text for name, text in texts.items()}
    assert read(env=env | {"HOLDFAST_LOG_FORMAT": "JSON"}) == typed


def test_an_unknown_key_names_its_line_and_the_nearest_setting(file: Path) -> None:
    message = refusal(file, "# comment\n\nprot = 3000\n")
    assert message.startswith(f"prot ({file}:3): ")
    assert "did you mean port?" in message


def test_an_unknown_variable_is_refused_so_that_no_typo_switches_a_guard_off() -> None:
    assert "(HOLDFAST_AHUT)" in refusal(env={"HOLDFAST_AHUT": "none"})


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("port = 65536", "from 0 to 65,535; got 65536"),
        ("port = '80'", "a whole number"),
        ("port = true", "a whole number"),
        ("hot_path = 1", "true or false"),
        ("max_body_bytes = -1", "a size such as"),
        ("max_body_bytes = '30 pounds'", "a size such as"),
        ("idle_wait_s = 0", "a number of seconds from 0.1"),
        ("log_level = 'loud'", "debug or info"),
        ("workers = 0", "from 1 to 64, or auto"),
        ("workers = 65", "from 1 to 64, or auto"),
        ("workers = 'many'", "from 1 to 64, or auto"),
        ("auth = 'password'", "none or keys"),
        ("cors_origins = 'https://example.org'", "a list of origins"),
        ("cors_origins = ['ftp://x']", "a list of origins"),
        ("networks = '10.0.0.0/8'", "a list of networks"),
        ("networks = ['10.0.0.1/8']", "a list of networks"),
        ("trusted_proxies = ['*']", "a list of networks"),
        ("proxy_header = 'x-real-ip'", "x-forwarded-for or forwarded"),
        ("address_requests_s = -1", "a number from 0.001"),
        ("address_requests_s = false", "a number from 0.001"),
        ("key_bytes_s = 'fast'", "a size such as"),
        ("rate_burst_s = 0", "a number of seconds from 0.001"),
        ("data = ''", "a folder"),
        ("data = '~nobody-of-that-name/x'", "a folder"),
        ("spread = ['~nobody-of-that-name/x']", "a list of folders"),
        ("num_shards = 0", "at least 1"),
        ("tls_key = 'k.pem'", "come together"),
        ("verify = 'sha256'", "checksums or digest"),
        ("cache = 'all'", "a size such as"),
        ("spread = '/a,/b'", "a list of folders with weights"),
        ("spread = ['/a*2', '/a']", "each once"),
        ("spread = ['/a']\nlarge = 's3://b/c'", "without `large`"),
        ("workers = 2\nspread = ['/a']", "1 with large blobs on several disks"),
        ("cache_dir = '/ssd'", "only with `cache`"),
        ("cold = 'file:///c'\nlarge = 's3://b/c'", "without `large`"),
        ("large = 's3://b/c'\nengine = 'sqlite'", "for the engine log"),
        ("spread = ['/a']\nshards = 4", "for the engine log"),
        ("workers = 2\ncold = 'file:///c'", "1 with a cold store"),
        ("workers = 2\nlarge = 's3://b/c'", "1 with large blobs in an object store"),
        ("data = 'sqlite:/data'", "sqlite:///folder"),
        ("data = './data?encrypt=env:KEY'", "segments:///folder?compress=zstd&encrypt=env:NAME"),
        ("data = 'https://KEY@host/x'", "got 'https://host/x'"),
        ("workers = 2\ncache = '1 GiB'", "1 with a cache"),
        ("workers = 2\nasync_write = true", "1 with async_write"),
        ("workers = 2\nshards = 4", "1 with a store in SQLite"),
        ("[port]\nx = 1", "a whole number"),
    ],
)
def test_a_wrong_value_says_what_is_allowed_and_where_it_stood(
    file: Path, line: str, part: str
) -> None:
    message = refusal(file, "\n" + line)
    assert part in message
    assert f"{file}:2" in message


def test_a_broken_file_is_named_with_its_line(file: Path) -> None:
    assert refusal(file, "port = 1\nhost = = 2\n").startswith(f"{file}:2: a TOML file")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "absent.toml" in refusal_of_missing(tmp_path / "absent.toml")


def refusal_of_missing(file: Path) -> str:
    with pytest.raises(InvalidError) as caught:
        load(file, environment={})
    return str(caught.value)


def test_an_empty_variable_counts_as_unset() -> None:
    assert read(env={"HOLDFAST_PORT": ""}).port == 3000


def test_workers_are_a_number_or_one_for_each_core(file: Path) -> None:
    cores = min(64, len(os.sched_getaffinity(0)))
    assert read().workers == 1
    assert read(file, "workers = 3").workers == 3
    assert read(file, 'workers = "auto"').workers == cores
    assert read(env={"HOLDFAST_WORKERS": "Auto"}).workers == cores
    assert read(workers="64").workers == 64


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        ({"async_write": "true"}, "no other one sees"),
        ({"move_to": "new"}, "the process that moves the store serves it"),
        ({"engine": "sqlite"}, "is served by one process"),
        ({"shards": "2"}, "is served by one process"),
    ],
)
def test_what_one_process_does_alone_is_refused_to_several(flags: dict[str, str], why: str) -> None:
    with pytest.raises(InvalidError, match=why):
        load(environment={}, flags={**flags, "workers": "2"})
    assert load(environment={}, flags={**flags, "workers": "1"}).settings.workers == 1


def test_a_store_is_moved_to_a_folder_of_any_engine() -> None:
    assert read(move_to="sqlite:///new?shards=3").move_to == "sqlite:///new?shards=3"
    assert "a folder" in refusal(move_to="http://127.0.0.1:3000")
    assert "from 1 to 256" in refusal(move_to="sqlite:///new?shards=0")


def test_auth_none_is_understood() -> None:
    assert read(env={"HOLDFAST_AUTH": "none"}).auth == "none"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "blobs.example.org"])
def test_other_machines_are_refused_unless_forced(host: str) -> None:
    assert "--insecure" in refusal(host=host)
    assert read(host=host, insecure="true").host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "localhost"])
def test_loopback_needs_no_force(host: str) -> None:
    assert is_loopback(host)
    assert read(host=host).host == host


def test_a_file_in_the_place_of_the_data_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("x")
    loaded = load(environment={}, flags={"data": str(tmp_path / "taken" / "deep")})
    with pytest.raises(InvalidError, match=r"data \(--data\): a folder, but .*taken is a file"):
        loaded.check_folders()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    loaded = load(environment={"HOLDFAST_DATA": str(tmp_path / "new")})
    with pytest.raises(InvalidError, match=r"data \(HOLDFAST_DATA\): a writable folder"):
        loaded.check_folders()


def test_a_folder_yet_to_be_made_is_fine(tmp_path: Path) -> None:
    load(environment={}, flags={"data": str(tmp_path / "a" / "b")}).check_folders()
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("10 MB", 10_000_000), ("0.5KiB", 512), ("1tb", 10**12), ("7 B", 7)],
)
def test_sizes_have_units(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MiB", "1.5", "-1", "1 MiB more", "1e6", "٣"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        parse_size(text)


@pytest.mark.parametrize("url", ["ftp://x/y", "file://other/x", "holdfast://", "s3://b/k"])
def test_a_target_of_another_scheme_is_refused(url: str) -> None:
    with pytest.raises(InvalidError):
        locate(url)
    with pytest.raises(InvalidError):
        open_bucket(url)


def test_every_setting_says_what_it_is_for() -> None:
    assert all(rule.about.endswith(".") and rule.kind.allowed for rule in RULES.values())


def test_the_data_folder_may_be_a_url_that_says_how_it_is_kept(file: Path) -> None:
    url = "sqlite:///srv/my%20blobs?shards=8&batch_size=16&compress=zstd&level=9&encrypt=env:KEY"
    file.write_text(f'data = "{url}"\n')
    loaded = load(file, environment={"HOLDFAST_SHARDS": "4"})
    found = loaded.settings
    assert (found.data, found.engine, found.shards) == (Path("/srv/my blobs"), "sqlite", 4)
    assert (found.batch_size, found.compress, found.compress_level) == (16, "zstd", 9)
    assert found.encrypt == "env:KEY"
    assert loaded.origins["compress"] == f"{file}:1"
    assert loaded.origins["shards"] == "HOLDFAST_SHARDS"
    assert load(flags={"data": "file:///srv/x"}, environment={}).settings.engine == "auto"


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ({"DATA": "segments:///x?compress=gzip"}, "compress (HOLDFAST_DATA): none or zstd"),
        (
            {"DATA": "segments:///x?shards=2"},
            "options of data (HOLDFAST_DATA): these are for sqlite",
        ),
        ({"DATA": "http://127.0.0.1:3000"}, "data (HOLDFAST_DATA): a folder"),
        ({"MOVE_TO": "http://127.0.0.1:3000"}, "move_to (HOLDFAST_MOVE_TO): a folder"),
        ({"MOVE_TO": "sqlite:///x?shards=0"}, "shards of move_to (HOLDFAST_MOVE_TO): a whole"),
        ({"DATA": "segments:///x?depth=2"}, "options of data (HOLDFAST_DATA): each at most once"),
        (
            {"DATA": "segments:///x?compress=zstd", "COMPRESS": "none"},
            "said by HOLDFAST_COMPRESS, too",
        ),
    ],
)
def test_a_url_that_cannot_be_served_is_refused(said: dict[str, str], wrong: str) -> None:
    message = refusal(env={f"HOLDFAST_{name}": text for name, text in said.items()})
    assert wrong in message
    assert "http" not in message.partition("got")[0]
    assert message.count("; got") == 1


@pytest.mark.parametrize(
    "said",
    [
        {"ENCRYPT": MASTER},
        {"DATA": f"file:///x?encrypt={MASTER}&a=b"},
        {"DATA": "file:///x?encrypt=env:KEY", "ENCRYPT": MASTER},
        {"DATA": f"segments://x?encrypt={MASTER}"},
        {"MOVE_TO": f"segments://x?encrypt={MASTER}"},
        {"MOVE_TO": f"http://{MASTER}@127.0.0.1:3000"},
        {"ENCRYPT": f"env:{MASTER}"},
        {"COLD": f"s3://key:{MASTER}@bucket/old"},
        {"LARGE": f"s3://key:{MASTER}@bucket/large"},
        {"LARGE": f"s3://bucket/large?secret={MASTER}"},
    ],
)
def test_a_key_in_the_place_of_its_name_is_not_shown(said: dict[str, str]) -> None:
    assert MASTER not in refusal(env={f"HOLDFAST_{name}": text for name, text in said.items()})


@pytest.mark.parametrize("name", ["KEY_OF_OLD", "MASTER_KEY", "DATA_KEY"])
def test_what_an_unknown_variable_holds_is_not_shown(name: str) -> None:
    message = refusal(env={f"HOLDFAST_{name}": MASTER})
    assert f"(HOLDFAST_{name}): there is no such setting" in message
    assert MASTER not in message


def test_the_key_of_commands_is_no_setting_and_no_mistake() -> None:
    env = {"HOLDFAST_KEY": MASTER, "HOLDFAST_STORE": "x", "HOLDFAST_BUCKET": "y"}
    assert read(env=env) == Settings()
