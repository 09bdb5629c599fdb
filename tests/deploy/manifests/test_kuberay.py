"""The Kubernetes manifests: the API's own schemas, KubeRay's field names, and that what they name fits together."""

import shutil
import subprocess
from importlib import import_module

import kubernetes_validate
import pytest
import yaml

from recollect.gateway.listener import ListenerConfig
from recollect.gateway.replica import DRAIN_S
from recollect.serving import application
from recollect.settings import Settings

KUBERNETES = "1.37"
FIELDS = {
    "": {"upgradeStrategy", "serveConfigV2", "rayClusterConfig"},
    "upgradeStrategy": {"type"},
    "rayClusterConfig": {
        "rayVersion",
        "authOptions",
        "gcsFaultToleranceOptions",
        "enableInTreeAutoscaling",
        "autoscalerOptions",
        "headGroupSpec",
        "workerGroupSpecs",
    },
    "rayClusterConfig.authOptions": {"mode", "secretName"},
    "rayClusterConfig.gcsFaultToleranceOptions": {
        "redisAddress",
        "redisUsername",
        "redisPassword",
        "externalStorageNamespace",
    },
    "rayClusterConfig.gcsFaultToleranceOptions.redisUsername": {"value", "valueFrom"},
    "rayClusterConfig.gcsFaultToleranceOptions.redisPassword": {"value", "valueFrom"},
    "rayClusterConfig.autoscalerOptions": {
        "version",
        "idleTimeoutSeconds",
        "upscalingMode",
        "resources",
        "securityContext",
        "image",
        "env",
    },
    "rayClusterConfig.headGroupSpec": {"serviceType", "rayStartParams", "template"},
    "rayClusterConfig.workerGroupSpecs": {
        "groupName",
        "replicas",
        "minReplicas",
        "maxReplicas",
        "rayStartParams",
        "template",
    },
}
"""Fields of RayService in ray.io/v1, by the reference of KubeRay 1.6: those that there are and that we may use."""


def at(spec, path):
    for name in filter(None, path.split(".")):
        spec = spec[name]
    return spec if isinstance(spec, list) else [spec]


def containers(pod):
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def test_kubernetes_itself_has_nothing_to_say(manifests, pods):
    known = [each for (kind, _), each in manifests.items() if kind != "RayService"]
    as_pods = [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, **pod["metadata"]}, "spec": pod["spec"]}
        for name, pod in pods.items()
    ]
    for document in (*known, *as_pods):
        kubernetes_validate.validate(document, KUBERNETES, strict=True)


@pytest.mark.parametrize("path", FIELDS)
def test_fields_of_kuberay_are_spelt_as_it_reads_them(ray_service, path):
    for found in at(ray_service, path):
        assert set(found) <= FIELDS[path]


def test_ray_is_the_version_that_is_tested(ray_service, deploy):
    pins = (deploy.parent / "constraints.txt").read_text().splitlines()
    assert f"ray=={ray_service['rayClusterConfig']['rayVersion']}" in pins


def test_parameters_of_ray_are_options_of_ray_start(ray_service):
    from ray.scripts.scripts import start

    options = {name.removeprefix("--") for option in start.params for name in option.opts}
    cluster = ray_service["rayClusterConfig"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert set(group["rayStartParams"]) <= options
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())


def test_what_is_deployed_is_serve_yaml(ray_service, deploy):
    assert ray_service["serveConfigV2"] == (deploy / "serve.yaml").read_text()


def test_serve_yaml_is_as_ray_serve_reads_it(deploy):
    from ray.serve.schema import ServeDeploySchema

    config = ServeDeploySchema.model_validate(yaml.safe_load((deploy / "serve.yaml").read_text()))
    (served,) = config.applications
    (gateway,) = served.deployments
    module, name = served.import_path.split(":")
    assert getattr(import_module(module), name) is application
    policy, function = gateway.autoscaling_config["policy"]["policy_function"].split(":")
    assert callable(getattr(import_module(policy), function))
    built = application(Settings(var="/var/lib/recollect", redis_url="redis://cache", classification=False, port=50051))
    assert gateway.name == built._bound_deployment.name
    assert set(gateway.user_config) == set(built._bound_deployment.user_config)


def test_there_is_room_for_as_many_gateways_as_may_be_wanted(ray_service, manifests):
    (gateway,) = yaml.safe_load(ray_service["serveConfigV2"])["applications"][0]["deployments"]
    scaling, per_node = gateway["autoscaling_config"], gateway["max_replicas_per_node"]
    (nodes,) = ray_service["rayClusterConfig"]["workerGroupSpecs"]
    settings = manifests["ConfigMap", "recollect-settings"]["data"]
    places = int(nodes["rayStartParams"]["num-cpus"])
    assert places == per_node == int(settings["RECOLLECT_REPLICAS"])
    # A replica's own options, which are more than CPUs, would be lost.
    assert "ray_actor_options" not in gateway
    assert nodes["maxReplicas"] * places == scaling["max_replicas"]
    assert nodes["minReplicas"] * places >= scaling["min_replicas"] > 1
    assert ray_service["rayClusterConfig"]["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    (worker,) = nodes["template"]["spec"]["containers"]
    assert worker["resources"]["limits"]["cpu"] == settings["RECOLLECT_CORES"]


def test_the_application_accepts_the_settings_of_its_nodes(manifests, monkeypatch):
    data = manifests["ConfigMap", "recollect-settings"]["data"]
    names = {name.removeprefix("RECOLLECT_").lower() for name in data}
    assert names <= set(Settings.model_fields)
    for name, value in data.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RECOLLECT_REDIS_URL", "redis://recollect:secret@redis:6379/0")
    monkeypatch.setenv("RECOLLECT_VAR", "/var/lib/recollect")  # of the image
    config = application(Settings.load())._bound_deployment.init_kwargs["config"]
    assert (config.host, config.port, config.ranking_threads) == ("0.0.0.0", 50051, 2)
    assert config.tls.certificate.as_posix() == data["RECOLLECT_TLS_CERT"]
    assert config.access.tokens.as_posix() == data["RECOLLECT_TOKENS"]


@pytest.mark.parametrize("name", ["head", "gateways", "redis"])
def test_pods_are_let_in_where_the_namespace_is_restricted(pods, name, manifests):
    labels = manifests["Namespace", "recollect"]["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    pod = pods[name]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in containers(pods[name]):
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["requests"]
        assert container["resources"]["limits"]["memory"]


def test_ray_s_autoscaler_is_let_in_too(ray_service):
    context = ray_service["rayClusterConfig"]["autoscalerOptions"]["securityContext"]
    assert context["runAsNonRoot"]
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}


@pytest.mark.parametrize("name", ["head", "gateways", "redis"])
def test_every_volume_is_there_and_what_it_comes_from_is_known(pods, name, manifests, secret_keys):
    volumes = {each["name"]: each for each in pods[name]["spec"]["volumes"]}
    if name == "redis":
        claims = manifests["StatefulSet", "redis"]["spec"]["volumeClaimTemplates"]
        volumes |= {each["metadata"]["name"]: {} for each in claims}
    mounted = {mount["name"] for each in containers(pods[name]) for mount in each["volumeMounts"]}
    assert mounted == set(volumes)
    assert not any("subPath" in mount for each in containers(pods[name]) for mount in each["volumeMounts"])
    for volume in volumes.values():
        if "configMap" in volume:
            assert ("ConfigMap", volume["configMap"]["name"]) in manifests
        if "secret" in volume:
            assert volume["secret"]["secretName"] in secret_keys
            assert {item["key"] for item in volume["secret"].get("items", [])} <= secret_keys[
                volume["secret"]["secretName"]
            ]


@pytest.fixture
def secret_keys(deploy):
    """Secret → its keys, as the guide has them made."""
    guide = (deploy / "README.md").read_text()
    found = {}
    for line in guide.replace("\\\n", " ").splitlines():
        words = line.split()
        if words[:3] == ["kubectl", "create", "secret"]:
            files = [word.split("=", 1)[1] for word in words if word.startswith(("--from-file=", "--cert=", "--key="))]
            keys = {file.split("=")[0].rsplit("/", 1)[-1] for file in files}
            found[words[4]] = {"tls.crt", "tls.key"} if words[3] == "tls" else keys
    return found


def test_secrets_that_are_read_are_those_that_the_guide_makes(ray_service, manifests, secret_keys):
    def references(node):
        if isinstance(node, dict):
            if "secretKeyRef" in node:
                yield node["secretKeyRef"]["name"], node["secretKeyRef"]["key"]
            for value in node.values():
                yield from references(value)
        elif isinstance(node, list):
            for value in node:
                yield from references(value)

    read = set(references(ray_service)) | set(references(manifests["StatefulSet", "redis"]))
    assert read
    assert all(key in secret_keys[name] for name, key in read)


def test_certificates_and_tokens_lie_where_the_settings_say(pods, manifests):
    data = manifests["ConfigMap", "recollect-settings"]["data"]
    (worker,) = pods["gateways"]["spec"]["containers"]
    places = [mount["mountPath"] for mount in worker["volumeMounts"]]
    for name in ("RECOLLECT_TLS_CERT", "RECOLLECT_TLS_KEY", "RECOLLECT_TOKENS"):
        assert data[name].rsplit("/", 1)[0] in places


def test_probes_tell_a_node_that_lives_from_one_that_takes_calls(pods):
    (worker,) = pods["gateways"]["spec"]["containers"]
    assert worker["readinessProbe"]["exec"]["command"][1:] == ["-m", "recollect.probe"]
    # A node without a gateway, for a while, must not be started anew.
    for name in ("startupProbe", "livenessProbe"):
        assert worker[name]["httpGet"]["path"] == "/api/local_raylet_healthz"
    (head, *_) = pods["head"]["spec"]["containers"]
    assert {head[name]["httpGet"]["path"] for name in ("startupProbe", "readinessProbe", "livenessProbe")} == {
        "/api/gcs_healthz"
    }


def test_a_node_that_goes_has_sent_its_callers_elsewhere(pods):
    pod = pods["gateways"]["spec"]
    (worker,) = pod["containers"]
    _, waits = worker["lifecycle"]["preStop"]["exec"]["command"]
    listener = ListenerConfig()
    assert int(waits) >= listener.max_connection_age_s + listener.connection_grace_s
    assert pod["terminationGracePeriodSeconds"] >= int(waits) + 2 * DRAIN_S


@pytest.mark.parametrize(
    ("kind", "name", "selector", "pod"),
    [
        ("Service", "recollect", ("selector",), "gateways"),
        ("Service", "redis", ("selector",), "redis"),
        ("PodDisruptionBudget", "recollect-gateways", ("selector", "matchLabels"), "gateways"),
        ("StatefulSet", "redis", ("selector", "matchLabels"), "redis"),
        ("NetworkPolicy", "callers", ("podSelector", "matchLabels"), "gateways"),
        ("NetworkPolicy", "redis", ("podSelector", "matchLabels"), "redis"),
    ],
)
def test_selectors_select_the_pods_that_they_are_for(manifests, pods, kind, name, selector, pod):
    wanted = manifests[kind, name]["spec"]
    for step in selector:
        wanted = wanted[step]
    selected = {each for each, template in pods.items() if wanted.items() <= template["metadata"]["labels"].items()}
    assert selected == {pod}


def test_services_lead_to_ports_that_the_pods_have(manifests, pods):
    for name, pod in (("recollect", "gateways"), ("redis", "redis")):
        have = {port["name"]: port["containerPort"] for each in containers(pods[pod]) for port in each.get("ports", [])}
        for port in manifests["Service", name]["spec"]["ports"]:
            assert have[port["targetPort"]] == port["port"]


def test_only_the_port_of_the_gateways_is_open_to_all(manifests):
    policies = {name: each["spec"] for (kind, name), each in manifests.items() if kind == "NetworkPolicy"}
    assert policies["nobody"] == {"podSelector": {}, "policyTypes": ["Ingress"]}
    open_ports = [
        (name, port["port"])
        for name, policy in policies.items()
        for rule in policy.get("ingress", [])
        if "from" not in rule
        for port in rule["ports"]
    ]
    assert open_ports == [("callers", int(manifests["ConfigMap", "recollect-settings"]["data"]["RECOLLECT_PORT"]))]
    assert not any(
        each["spec"].get("type", "ClusterIP") != "ClusterIP"
        for (kind, _), each in manifests.items()
        if kind == "Service"
    )


def test_redis_is_configured_as_on_one_server(manifests, deploy):
    assert manifests["ConfigMap", "recollect-redis"]["data"]["redis.conf"] == (deploy / "docker/redis.conf").read_text()


def test_redis_is_given_more_memory_and_disk_than_it_may_fill(manifests, pods):
    gi = 1 << 30
    (redis,) = pods["redis"]["spec"]["containers"]
    most = int(redis["command"][redis["command"].index("--maxmemory") + 1].removesuffix("gb")) * gi
    assert int(redis["resources"]["limits"]["memory"].removesuffix("Gi")) * gi >= 2 * most
    (claim,) = manifests["StatefulSet", "redis"]["spec"]["volumeClaimTemplates"]
    assert int(claim["spec"]["resources"]["requests"]["storage"].removesuffix("Gi")) * gi >= 3 * most


def test_kustomize_puts_it_together(deploy):
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed")
    done = subprocess.run([kubectl, "kustomize", deploy / "kuberay"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    documents = list(yaml.safe_load_all(done.stdout))
    (service,) = [each for each in documents if each["kind"] == "RayService"]
    cluster = service["spec"]["rayClusterConfig"]
    templates = [cluster["headGroupSpec"]["template"], *(each["template"] for each in cluster["workerGroupSpecs"])]
    images = {each["image"] for template in templates for each in containers(template)}
    assert images == {"registry.example.com/recollect:cpu"}
    assert {each["metadata"].get("namespace", "recollect") for each in documents} == {"recollect"}
