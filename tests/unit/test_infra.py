"""The infrastructure: what Terraform accepts, what our own policy allows, and that it fits the code.

Terraform is asked offline, by a tool that stands in for Google's provider and knows its schema. It lies beside the
repository on some machines; elsewhere those tests say so and are skipped, and the others run all the same.
"""

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from twinleg import wire
from twinleg.bootstrap import PROJECT_VARIABLE, RUNTIME_VARIABLE
from twinleg.cli import parser
from twinleg.domain.messages import Event, EventKind, Topic
from twinleg.embedded.runtime import SUBSCRIPTIONS
from twinleg.engine.pages import EXPIRING, UNINDEXED
from twinleg.settings import example_text, parse
from twinleg.settings_read import CONFIG_VARIABLE

ROOT = Path(__file__).resolve().parents[2]
INFRA = ROOT / "infra" / "terraform"
RUNBOOK = ROOT / "docs" / "runbook"
OFFLINE = ROOT.parent / "shared" / "tools" / "terraform-offline" / "terraform-offline"
MAIN = (INFRA / "main.tf").read_text()


def copied(to: Path) -> Path:
    """The infrastructure in a folder of its own, where a test may change it."""
    folder = to / "infra" / "terraform"
    shutil.copytree(INFRA, folder, ignore=shutil.ignore_patterns(".terraform*", "live.tfvars"))
    shutil.copytree(RUNBOOK, to / "docs" / "runbook")
    shutil.copy(ROOT / "twinleg.toml", to)
    return folder


# -- what terraform says ---------------------------------------------------------------------------

Terraform = Callable[..., subprocess.CompletedProcess[str]]


def run(program: str | Path, *arguments: str, folder: Path = INFRA) -> subprocess.CompletedProcess[str]:
    command = [str(program), f"-chdir={folder}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def missing(what: str) -> None:
    """Skip, in one line. Where CI has the tool it has to work."""
    if os.environ.get("CI") == "true" and OFFLINE.exists():
        pytest.fail(what)
    pytest.skip(what)


@pytest.fixture(scope="module")
def terraform() -> Terraform:
    if shutil.which("terraform") is None:
        missing("terraform is not installed: the infrastructure was not checked with it")
    if not OFFLINE.exists():
        missing("the offline provider is not beside the repository: terraform validate and test were not run")
    ready = subprocess.run([str(OFFLINE), "version"], capture_output=True, text=True, timeout=300, check=False)
    if ready.returncode:
        missing(f"the offline provider could not be set up: {ready.stderr.strip()[-200:]}")
    return lambda *arguments, folder: run(OFFLINE, *arguments, folder=folder)


def test_it_is_formatted() -> None:
    if shutil.which("terraform") is None:
        missing("terraform is not installed: the format was not checked")
    done = run("terraform", "fmt", "-check", "-recursive", "-diff")
    assert done.returncode == 0, done.stdout + done.stderr


def test_terraform_finds_it_valid_and_its_own_tests_pass(terraform: Terraform, tmp_path: Path) -> None:
    folder = copied(tmp_path)
    for arguments in (("get",), ("validate", "-no-color"), ("test", "-no-color")):
        done = terraform(*arguments, folder=folder)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert "0 failed" in done.stdout


def test_terraform_catches_a_wrong_name(terraform: Terraform, tmp_path: Path) -> None:
    folder = copied(tmp_path)
    change(folder / "pubsub.tf", "ack_deadline_seconds       = local.", "ack_deadline_secs = local.")
    terraform("get", folder=folder)
    done = terraform("validate", "-no-color", folder=folder)
    assert done.returncode == 1
    assert "ack_deadline_secs" in done.stdout + done.stderr


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1, f"{path.name} holds {old!r} {text.count(old)} times"
    path.write_text(text.replace(old, new))


# -- our own policy: needs no terraform ------------------------------------------------------------

ON_THE_PROJECT = {"roles/datastore.user", "roles/datastore.importExportAdmin"}
"""Firestore has no finer roles for its default database."""
PRIMITIVE = re.compile(r"roles/(?:owner|editor|viewer|[a-z]+\.admin)\b")


def resources(folder: Path) -> Iterator[tuple[str, str, str]]:
    """(type, name, body) of every resource."""
    for path in sorted(folder.rglob("*.tf")):
        if ".terraform" not in path.parts:
            yield from re.findall(r'^resource "(\w+)" "(\w+)" \{\n(.*?)^\}', path.read_text(), re.DOTALL | re.MULTILINE)


def rows(text: str) -> dict[str, str]:
    """The rows of the table of functions."""
    table = re.search(r"^  functions = \{\n(.*?)^  \}", text, re.DOTALL | re.MULTILINE)
    assert table is not None
    return dict(re.findall(r"^    (\w+) = \{\n(.*?)^    \}", table[1], re.DOTALL | re.MULTILINE))


def broken_rules(folder: Path) -> list[str]:
    """What the infrastructure does that it must not, a line each."""
    found: list[str] = []
    for kind, name, body in resources(folder):
        where, roles = f"{kind}.{name}", set(re.findall(r"roles/[\w.]+", body))
        if re.match(r"google_(project|folder|organization)_iam_", kind) and not (
            kind == "google_project_iam_member" and roles and roles <= ON_THE_PROJECT
        ):
            found.append(f"{where}: grants {', '.join(sorted(roles)) or 'a role'} on more than one thing")
        if PRIMITIVE.search(body):
            found.append(f"{where}: grants an administrator's role")
        if "secretAccessor" in body and kind != "google_secret_manager_secret_iam_member":
            found.append(f"{where}: opens more than one secret")
        if "run.invoker" in body and (kind, name) != ("google_cloud_run_v2_service_iam_member", "invoker"):
            found.append(f"{where}: lets somebody call a function beside its row")
        if re.search(r"invoker_iam_disabled\s*=(?!\s*var\.public\b)", body):
            found.append(f"{where}: is public whatever its row says")
        if re.search(r"\bsecret_data\s*=", body) or kind == "google_service_account_key":
            found.append(f"{where}: writes a secret into the state")
    found += [
        f"{path.name}: opens something to anybody"
        for path in sorted([*folder.rglob("*.tf"), *folder.rglob("*.tfvars*")])
        if re.search(r"^[^#\n]*\ball(?:Authenticated)?Users\b", path.read_text(), re.MULTILINE)
    ]
    public = sorted(
        n for n, row in rows((folder / "main.tf").read_text()).items() if 'trigger = "public"' in plain(row)
    )
    if public != ["webhook"]:
        found.append(f"public functions: {', '.join(public)}; only the webhook may be")
    return found


def plain(text: str) -> str:
    return re.sub(r" +", " ", text)


def test_it_keeps_to_our_policy() -> None:
    assert broken_rules(INFRA) == []


PLANTED = {
    "a secret for all functions": (
        'resource "google_project_iam_member" "handy" {\n  project = var.project\n'
        '  role = "roles/secretmanager.secretAccessor"\n  member = google_service_account.push.member\n}\n'
    ),
    "anybody may call execute": (
        'resource "google_cloud_run_v2_service_iam_member" "open" {\n  name = "execute"\n  location = var.region\n'
        '  role = "roles/run.invoker"\n  member = "allUsers"\n}\n'
    ),
    "an editor": (
        'resource "google_project_iam_member" "editor" {\n  project = var.project\n  role = "roles/editor"\n'
        "  member = google_service_account.push.member\n}\n"
    ),
    "a key in the state": (
        'resource "google_secret_manager_secret_version" "key" {\n  secret = "x"\n  secret_data = var.key\n}\n'
    ),
}


@pytest.mark.parametrize("planted", PLANTED.values(), ids=PLANTED)
def test_our_policy_catches_what_is_planted(planted: str, tmp_path: Path) -> None:
    folder = copied(tmp_path)
    with (folder / "identities.tf").open("a") as file:
        file.write(planted)
    assert broken_rules(folder)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("main.tf", "{ push = google_service_account.push.member }", '{ push = "allUsers" }'),
        ("modules/function/main.tf", "invoker_iam_disabled = var.public", "invoker_iam_disabled = true"),
        ("secrets.tf", 'role      = "roles/secretmanager.secretAccessor"', 'role = "roles/secretmanager.admin"'),
        ("backup.tf", '["roles/storage.objectAdmin", ', '["roles/storage.admin", '),
        ("backup.tf", '"roles/datastore.importExportAdmin"', '"roles/datastore.owner"'),
    ],
)
def test_our_policy_catches_what_is_changed(file: str, old: str, new: str, tmp_path: Path) -> None:
    folder = copied(tmp_path)
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new))
    assert broken_rules(folder)


def test_our_policy_catches_a_row_that_opens_execute(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    row = rows(MAIN)["execute"]
    assert 'trigger = "topics"' in plain(row)
    change(folder / "main.tf", row, row.replace('"topics"', '"public"', 1))
    assert broken_rules(folder) == ["public functions: execute, webhook; only the webhook may be"]


# -- it fits the code ------------------------------------------------------------------------------


def list_of(row: str, name: str) -> list[str]:
    found = re.search(rf"\b{name}\s*=\s*\[(.*?)\]", row, re.DOTALL)
    assert found is not None, name
    return re.findall(r'"([\w-]+)"', found[1])


def test_every_row_is_a_function_that_is_there() -> None:
    assert set(rows(MAIN)) == {"ingest", "signal", "execute", "risk", "webhook"}
    assert all((ROOT / "functions" / name / "main.py").is_file() for name in rows(MAIN))


def test_topics_go_to_the_functions_they_go_to_on_one_machine() -> None:
    pushed = {topic: name for name, row in rows(MAIN).items() for topic in list_of(row, "topics")}
    assert pushed == SUBSCRIPTIONS


def test_there_is_a_topic_for_every_message() -> None:
    table = re.search(r"^  topics = \{\n(.*?)^  \}", MAIN, re.DOTALL | re.MULTILINE)
    assert table is not None
    assert set(re.findall(r"^    (\w+)\s*=", table[1], re.MULTILINE)) == {topic.value for topic in Topic}


@pytest.mark.parametrize("topic", SUBSCRIPTIONS)
def test_a_push_tells_its_topic_by_its_address(topic: str) -> None:
    assert '/topics/${each.key}"' in (INFRA / "pubsub.tf").read_text()
    body = wire.push_body(data=b"{}", message_id="1", topic="x", subscription="projects/p/subscriptions/x")
    assert wire.decode({}, str(body).replace("'", '"').encode(), f"/topics/{topic}").topic == topic


def test_services_set_the_environment_that_the_code_reads() -> None:
    module = plain((INFRA / "modules" / "function" / "main.tf").read_text())
    assert f'{CONFIG_VARIABLE} = "${{local.config_folder}}/twinleg.toml"' in module
    given = dict(re.findall(r'^    ([A-Z_]+)\s+= "?([^"\n]+)"?$', MAIN, re.MULTILINE))
    assert given[RUNTIME_VARIABLE] == "cloud" and given[PROJECT_VARIABLE] == "var.project"
    assert parse(example_text(), given).webhook.trust_forwarded_hops == 1, "one proxy of the platform's is in front"


def test_secrets_are_named_as_the_configuration_names_them() -> None:
    settings = parse(example_text(), {})
    text = (INFRA / "secrets.tf").read_text()
    assert f'webhook_secret = "{settings.webhook.secret}"' in text
    assert '"TWINLEG_${upper(pair[0])}_${pair[1]}_KEY"' in text
    names = {f"TWINLEG_{account.upper()}_{role.value.upper()}_KEY" for account, role in settings.key_names}
    assert names == set(settings.key_names.values())


# -- a person is told, and what to do ------------------------------------------------------------------

MONITORING = (INFRA / "monitoring.tf").read_text()


def table_of(text: str, name: str) -> dict[str, str]:
    found = re.search(rf"^  {name} = \{{\n(.*?)^  \}}", text, re.DOTALL | re.MULTILINE)
    assert found is not None, name
    return dict(re.findall(r"^    ([\w-]+)\s*= \{(.*?)(?:^    \}| \}$)", found[1], re.DOTALL | re.MULTILINE))


def test_alarms_are_of_kinds_that_are_announced() -> None:
    kinds = {kind for row in table_of(MONITORING, "alarms").values() for kind in list_of(row, "kinds")}
    assert kinds and kinds <= {kind.value for kind in EventKind}


def policies() -> dict[str, str]:
    """Every alarm's display name and its page."""
    found = {re.search(r'title\s*= "(.*?)"', row)[1]: name for name, row in table_of(MONITORING, "alarms").items()}  # type: ignore[index]
    for kind, name, body in resources(INFRA):
        if kind != "google_monitoring_alert_policy" or name == "alarm":
            continue
        titles = re.findall(r'"([^"]+)"', re.search(r"^  display_name .*$", body, re.MULTILINE)[0])  # type: ignore[index]
        pages = re.findall(r'"([^"]+)"', re.search(r"content\s*= local\.pages\[(.*)\]$", body, re.MULTILINE)[1])  # type: ignore[index]
        assert body.count("local.page_links[") == 1, f"{name} does not link its page"
        found |= dict(zip((t for t in titles if t != "risk"), (p for p in pages if p != "risk"), strict=True))
    return found


def test_every_alarm_has_its_page_in_the_runbook() -> None:
    alarms = policies()
    assert len(alarms) == 15
    index = (RUNBOOK / "README.md").read_text()
    for title, page in alarms.items():
        text = (RUNBOOK / f"{page}.md").read_text()
        assert text.startswith(f"# {title}\n"), f"{page}.md is not headed as its alarm, {title}"
        assert f"| {title} | " in index and f"[{page}.md]({page}.md)" in index
        parts = re.findall(r"^## (.+)$", text, re.MULTILINE)
        assert parts == ["Look first", "Do", "Do not", "It is over when"], page
        assert text.split("\n")[2].startswith("**What it means in money.** ")
    assert {path.stem for path in RUNBOOK.glob("*.md")} == {*alarms.values(), "budget", "README"}


@pytest.mark.parametrize("page", sorted(RUNBOOK.glob("*.md")), ids=lambda path: path.stem)
def test_a_page_fits_into_a_mail(page: Path) -> None:
    text = page.read_text()
    assert len(text.encode()) < 8000, "Google takes 8,192 characters, and the project's name may be long"
    assert "${" not in text, "Google would take it for one of its variables"


def test_limits_are_told_as_they_are() -> None:
    """The numbers on the pages and in their index are the defaults of alert_limits."""
    declared = dict(re.findall(r"(\w+)\s*= optional\(number, (\d+)\)", (INFRA / "variables.tf").read_text()))
    index = (RUNBOOK / "README.md").read_text()
    told = {name: number for name, number in re.findall(r"`(\w+)` (?:above|below) (\d+)", index)}
    assert told == declared


def test_every_figure_that_is_logged_is_a_metric_and_has_its_labels() -> None:
    figures = table_of((INFRA / "logging.tf").read_text(), "figures")
    told = re.findall(r"^\| `(\w+)` \| (\S+) \| (.*?) \|", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE)
    units = {"s": "s", "ratio": "1", "%": "%"}
    documented = {name: (units[unit], re.findall(r"`(\w+)`", labels)) for name, unit, labels in told if unit in units}
    described = {
        name: (re.search(r'unit = "(.*?)"', row)[1], list_of(row, "about"))  # type: ignore[index]
        for name, row in figures.items()
    }
    assert described == documented
    code = "".join(path.read_text() for path in (ROOT / "shared" / "twinleg").rglob("*.py"))
    logged = set(re.findall(r'measure\((?:trade, )?"(\w+)"', code)) - {"NAME"}
    assert logged == set(figures)


# -- the records -----------------------------------------------------------------------------------


def test_long_fields_have_no_index_and_what_expires_is_deleted() -> None:
    text = (INFRA / "firestore.tf").read_text()
    listed = re.findall(r'"([a-z]+\.z_\w+)"', text)
    assert sorted(listed) == sorted(UNINDEXED)
    expiring = re.search(r'"expiring" \{\n  for_each = toset\(\[(.*?)\]\)', text)
    assert expiring is not None and re.findall(r'"(\w+)"', expiring[1]) == list(EXPIRING)


def test_dead_letters_are_where_the_command_looks_for_them() -> None:
    assert 'toset([for topic in concat(keys(local.topics), ["unknown"]) : "${topic}-dead"])' in MAIN
    assert {topic.dead for topic in Topic} == {f"{topic.value}-dead" for topic in Topic}


# -- checkov ---------------------------------------------------------------------------------------


def test_checkov_is_pinned_and_what_it_passes_over_has_a_reason() -> None:
    pins = (ROOT / "requirements-checkov.txt").read_text().splitlines()
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", pin) for pin in pins), "./dev pins writes this file"
    assert any(pin.startswith("checkov==") for pin in pins)
    for path in [*INFRA.rglob("*.tf"), ROOT / "Dockerfile"]:
        for skipped in re.findall(r"checkov:skip(.*)", path.read_text()):
            assert re.fullmatch(r"=CKV2?_\w+:.{20,}", skipped), f"{path.name}: {skipped}"


def test_events_have_a_column_for_every_field() -> None:
    columns = set(re.findall(r'^    (\w+)\s*= "[A-Z0-9]+"', (INFRA / "events.tf").read_text(), re.MULTILINE))
    assert set(Event.model_fields) <= columns


def test_what_is_set_for_an_environment_is_declared() -> None:
    declared = set(re.findall(r'^variable "(\w+)"', (INFRA / "variables.tf").read_text(), re.MULTILINE))
    for name in ("paper.tfvars", "live.tfvars.example"):
        assert set(re.findall(r"^(\w+)\s*=", (INFRA / name).read_text(), re.MULTILINE)) <= declared


def test_the_image_holds_what_the_services_ask_for() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert "COPY functions functions" in text and "WORKDIR /app" in text
    assert 'CMD ["functions-framework"]' in text
    wanted = (INFRA / "modules" / "function" / "main.tf").read_text()
    assert '"/app/functions/${var.name}/main.py"' in wanted
    for source in re.findall(r"^COPY (?:--\S+ )*(.+) \S+$", text, re.MULTILINE):
        assert all((ROOT / part).exists() for part in source.split()), source


# -- from a commit to a running revision -----------------------------------------------------------

BUILD, DEPLOY = (ROOT / "cloudbuild.yaml").read_text(), (ROOT / "infra" / "cloudbuild-deploy.yaml").read_text()


def steps(text: str) -> dict[str, str]:
    return dict(re.findall(r"^  - id: (\w+)\n(.*?)(?=^  - id: |^  #|\Z)", text, re.DOTALL | re.MULTILINE))


def test_what_was_tested_is_what_is_planned_approved_and_served() -> None:
    build, deploy = steps(BUILD), steps(DEPLOY)
    assert list(build) == ["build", "test", "start", "infra", "checkov", "push", "fix", "plan", "ask"]
    assert "waitFor: [test, start, infra, checkov]" in build["push"], "nothing is pushed that a check refused"
    assert "docker build --target test" in build["test"] and "docker run --rm twinleg-test" in build["test"]
    assert BUILD.count("docker build --target runtime") == 1, "it is built once"
    assert "RepoDigests" in build["push"] and '-var="image=$(cat /workspace/image)"' in build["plan"], "by its digest"
    assert "triggers run twinleg-deploy" in build["ask"] and "terraform apply" not in BUILD, "a person comes between"
    assert list(deploy) == ["fetch", "apply", "smoke", "traffic"]
    assert "terraform apply -input=false /workspace/plan/tfplan" in deploy["apply"], "the very plan that was approved"
    assert "--require-approval" in (ROOT / "infra" / "README.md").read_text()


def test_traffic_goes_to_consumers_first_and_back_from_producers() -> None:
    traffic = steps(DEPLOY)["traffic"]
    consumers_first = ["execute", "risk", "signal", "ingest", "webhook"]
    assert f"serve new {' '.join(consumers_first)}" in traffic
    assert f"serve old {' '.join(reversed(consumers_first))}" in traffic


# -- the page for newcomers ------------------------------------------------------------------------

PAGE = (ROOT / "infra" / "README.md").read_text()


def test_every_command_of_ours_on_the_page_is_understood() -> None:
    lines = re.findall(r"(?:^|`)\./dev run ([^`#\n]+)", PAGE, re.MULTILINE)
    assert len(lines) > 10
    for line in lines:
        assert parser().parse_args(shlex.split(line)).run, line


def test_every_link_on_the_page_leads_somewhere_and_every_script_is_there() -> None:
    for target in re.findall(r"\]\(([^)#\s]+)\)", PAGE):
        assert (ROOT / "infra" / target).exists(), target
    for script in ("up", "rollback"):
        assert f"infra/{script}" in PAGE and os.access(ROOT / "infra" / script, os.X_OK)
    for file in re.findall(r"`([a-z]+\.tf)`", PAGE):
        assert (INFRA / file).exists(), file


def test_the_script_and_the_page_give_the_same_commands() -> None:
    """Whoever does it by hand does what the script does."""
    script = (ROOT / "infra" / "up").read_text()
    for start in (
        "gcloud projects create", "gcloud billing projects link", "gcloud services enable", "gcloud builds submit",
        "gcloud beta services identity create", "gcloud storage buckets create", "gcloud secrets versions add",
        "gcloud artifacts docker images describe", "gcloud scheduler jobs run risk", "head -c 32 /dev/urandom",
    ):  # fmt: skip
        assert start in script and start in PAGE, start
    enabled = [
        set(re.findall(r"\b([a-z]+)\.googleapis\.com", text.split("services enable")[1][:300]))
        for text in (script, PAGE)
    ]
    assert enabled[0] == enabled[1]
