"""The dashboard, the rules and what finds them fit each other, the service's metrics and the tools that read them."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from recollect.gateway import errors
from recollect.telemetry.current import method_of
from recollect.telemetry.metrics import REGISTRY
from recollect.telemetry.reading import DEFAULT_PORT
from recollect.telemetry.stages import STAGES

DEPLOY = Path(__file__).resolve().parents[3] / "deploy"
GRAFANA, PROMETHEUS = DEPLOY / "grafana", DEPLOY / "prometheus"
SCHEMA = {"@grafana/schema": "13.2.3", "typescript": "5.9.3"}
"""What knows Grafana's own types of dashboards."""


@pytest.fixture(scope="module")
def dashboard():
    return json.loads((GRAFANA / "dashboards/recollect.json").read_text())


@pytest.fixture(scope="module")
def rules():
    (group,) = yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"]
    return group["rules"]


@pytest.fixture(scope="module")
def expressions(dashboard, rules):
    """Where an expression stands → the expression."""
    found = {rule["alert"]: rule["expr"] for rule in rules}
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            found[f"{panel['title']} {target['refId']}"] = target["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            found[variable["name"]] = variable["query"]["query"]
    return found


def exported():
    """Every name that a sample may have, and its labels."""
    found = {}
    for metric in REGISTRY._names_to_collectors.values():
        endings = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}[metric._type]
        own = {"pid"} if "start_time" in metric._name else set()
        for ending in endings:
            bound = {"le"} if ending == "_bucket" else set()
            found[metric._name + ending] = {*metric._labelnames, *own, *bound, "job", "instance"}
    return found


def test_every_metric_and_label_that_is_asked_for_is_told(expressions):
    told = exported()
    for where, expression in expressions.items():
        names = re.findall(r"\brecollect_[a-z_]+", expression)
        assert names or "up{" in expression, where
        assert set(names) <= set(told), where
        allowed = set.union({"job", "instance"}, *(told[name] for name in names))
        asked = set(re.findall(r"(\w+)\s*(?:=~|!=|=)\s*\"", expression))
        for listed in re.findall(r"\bby \(([^)]*)\)", expression):
            asked |= {label.strip() for label in listed.split(",")}
        assert asked <= allowed, where


def test_every_metric_is_shown(dashboard, expressions):
    shown = {
        name for where, expression in expressions.items() for name in re.findall(r"\brecollect_[a-z_]+", expression)
    }
    families = {metric._name for metric in REGISTRY._names_to_collectors.values()}
    unseen = {name for name in families if not any(each.startswith(name) for each in shown)}
    assert unseen == set()


def test_values_that_are_asked_for_can_be(expressions):
    reasons = {each.reason for each in vars(errors).values() if isinstance(each, type) and hasattr(each, "reason")}
    reasons |= {"HISTORY_UNAVAILABLE"}
    for where, expression in expressions.items():
        for values in re.findall(r"\breason=~?\"([^\"]+)\"", expression):
            assert set(values.split("|")) <= reasons, where
        for value in re.findall(r"\bmethod=\"([^\"]+)\"", expression):
            assert method_of(f"/recollect_api.v1.{value}") == value, where
        for value in re.findall(r"\bstage=\"([^\"]+)\"", expression):
            assert value in STAGES, where


def test_the_dashboard_has_what_grafana_needs(dashboard):
    assert dashboard["uid"] == "recollect"
    assert dashboard["title"]
    assert isinstance(dashboard["schemaVersion"], int)
    assert "id" not in dashboard  # Grafana gives it; a foreign one would replace another dashboard
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    variables = {each["name"] for each in dashboard["templating"]["list"]}
    taken = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert max(x for x, _ in cells) < 24, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells
        if panel["type"] == "row":
            continue
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        references = [target["refId"] for target in panel["targets"]]
        assert references
        assert len(set(references)) == len(references)
        for target in panel["targets"]:
            assert target["datasource"] == panel["datasource"]
            asked = set(re.findall(r"\$(\w+)", target["expr"])) - {"__rate_interval"}
            assert asked <= variables, panel["title"]


def test_what_is_provisioned_fits_together(dashboard):
    (source,) = yaml.safe_load((GRAFANA / "provisioning/datasources/recollect.yaml").read_text())["datasources"]
    (chosen,) = [each for each in dashboard["templating"]["list"] if each["type"] == "datasource"]
    assert (chosen["current"]["value"], chosen["query"]) == (source["uid"], source["type"])
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/recollect.yaml").read_text())["providers"]
    assert provider["type"] == "file"
    assert provider["options"]["path"].startswith("/")


def test_prometheus_is_told_where_to_look(rules):
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"recollect:{DEFAULT_PORT}"]}]
    assert config["rule_files"] == ["rules.yml"]
    assert job["job_name"] == "recollect"
    # What it shows and checks is what its container is given.
    secrets = {f"/run/secrets/{name}" for name in compose["services"]["prometheus"]["secrets"]}
    assert {job["tls_config"]["ca_file"], job["authorization"]["credentials_file"]} == secrets
    assert job["scheme"] == "https"
    assert set(compose["services"]["prometheus"]["networks"]) & set(compose["services"]["recollect"]["networks"])
    names = [rule["alert"] for rule in rules]
    assert len(set(names)) == len(names)
    for rule in rules:
        assert rule["labels"]["severity"] in ("page", "ticket"), rule["alert"]
        assert {"summary", "description"} <= set(rule["annotations"]), rule["alert"]


def test_promtool_takes_rules_configuration_and_every_expression(expressions, tmp_path):
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool on PATH (Debian: apt-get install prometheus)")
    subprocess.run(
        [promtool, "check", "config", "--syntax-only", PROMETHEUS / "prometheus.yml"], check=True, capture_output=True
    )
    settled = {'"$job"': '"x"', '"$instance"': '"x"', "$__rate_interval": "5m"}
    recorded = []
    for at, expression in enumerate(each for each in expressions.values() if not each.startswith("label_values")):
        for variable, value in settled.items():
            expression = expression.replace(variable, value)
        recorded.append({"record": f"checked:{at}", "expr": expression})
    (tmp_path / "all.yml").write_text(json.dumps({"groups": [{"name": "all", "rules": recorded}]}))
    done = subprocess.run([promtool, "check", "rules", tmp_path / "all.yml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    done = subprocess.run(
        [promtool, "test", "rules", Path(__file__).parent / "alerts.yml"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


PANELS = {"timeseries": "TimeSeries", "stat": "Stat", "table": "Table"}
"""Kind of panel → what Grafana's types of it are called."""
PLAIN = """
type Plain<T> = T extends string ? `${T}` : T extends number | boolean | null | undefined ? T
  : T extends Array<infer U> ? Array<Plain<U>> : T extends object ? { [K in keyof T]: Plain<T[K]> } : T;
"""
"""A type as JSON has it: the value of each member of an enumeration in its place."""


def checked_by_types(dashboard):
    """A program that its compiler takes if `dashboard` is of Grafana's types, and something that is not, is refused."""
    yield 'import type { Dashboard, Panel, RowPanel } from "@grafana/schema";'
    for kind, name in PANELS.items():
        module = f"@grafana/schema/dist/esm/raw/composable/{kind}/panelcfg/x/{name}PanelCfg_types.gen"
        field = ", FieldConfig" if kind == "timeseries" else ""
        yield f'import type {{ Options as {name}Options{field} }} from "{module}";'
    yield PLAIN
    checked = [({**dashboard, "panels": []}, "Dashboard")]
    for panel in dashboard["panels"]:
        kind = panel["type"]
        checked.append((panel, "RowPanel" if kind == "row" else "Panel"))
        if kind != "row":
            checked.append((panel["options"], f"Partial<{PANELS[kind]}Options>"))
        if kind == "timeseries":
            checked.append((panel["fieldConfig"]["defaults"]["custom"], "FieldConfig"))
    for at, (value, named) in enumerate(checked):
        yield f"export const checked{at} = {json.dumps(value)} satisfies Plain<{named}>;"
    yield "// @ts-expect-error"
    yield 'export const wrong = { legend: { displayMode: "tabel" } } satisfies Plain<Partial<TimeSeriesOptions>>;'


@pytest.mark.slow
def test_grafana_s_own_types_take_the_dashboard(dashboard, tmp_path):
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("no npm, which brings Grafana's types")
    packages = [f"{name}@{version}" for name, version in SCHEMA.items()]
    (tmp_path / "package.json").write_text('{"private": true}')
    done = subprocess.run(
        [npm, "install", "--no-audit", "--no-fund", *packages], cwd=tmp_path, capture_output=True, text=True
    )
    if done.returncode != 0:
        pytest.skip(f"npm cannot bring Grafana's types: {done.stderr[-200:]}")
    (tmp_path / "check.ts").write_text("\n".join(checked_by_types(dashboard)))
    options = {"strict": True, "noEmit": True, "module": "esnext", "moduleResolution": "bundler", "skipLibCheck": True}
    (tmp_path / "tsconfig.json").write_text(json.dumps({"compilerOptions": options, "files": ["check.ts"]}))
    compiler = ["node", "node_modules/typescript/bin/tsc", "-p", "."]
    checked = subprocess.run(compiler, cwd=tmp_path, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout[-2_000:]
