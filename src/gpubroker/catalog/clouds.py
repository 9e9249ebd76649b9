"""The 24 clouds: what each is called, on the wire, in ids and by people, and where its key is.

One table. A name is looked up without regard to case, spaces, hyphens, dots and underscores.
"""

from __future__ import annotations

from functools import cache

from msgspec import Struct

from gpubroker.model.reports import Facts


class UnknownCloud(KeyError):
    """No cloud is called so; `nearest` are wire names that look like it."""

    def __init__(self, name: str, nearest: tuple[str, ...]) -> None:
        super().__init__(name)
        self.name = name
        self.nearest = nearest

    def __str__(self) -> str:
        hint = f". Did you mean {' or '.join(self.nearest)}?" if self.nearest else ""
        return f'no cloud is called "{self.name}"{hint}'


class Cloud(Struct, frozen=True, kw_only=True):
    """One cloud. Pages are "" where the vendor has none that is known."""

    name: str
    """On the wire."""
    display_name: str
    prefix: str = ""
    """Of offer and instance ids; the wire name where nothing shorter is in use."""
    aliases: tuple[str, ...] = ()
    """Short forms and former names, accepted wherever a name is read."""
    website: str
    credentials: tuple[tuple[str, ...], ...] = ()
    """What must be set: each inner tuple holds the spellings of one secret, best first."""
    sign_up_page: str = ""
    key_page: str = ""
    billing_page: str = ""
    min_deposit_usd: float | None = None
    way_in: str = ""
    """How a person gets onto a machine where gpubroker itself cannot log in: told before a launch.

    `{project}` and `{name}` stand for the parts of its id, `{key}` for gpubroker's public key.
    """
    payment: str = ""
    new_account: str = ""
    source: str = ""
    """Of the three before."""

    @property
    def facts(self) -> Facts:
        """What a newcomer wants to know."""
        return Facts(
            sign_up_page=self.sign_up_page,
            key_page=self.key_page,
            billing_page=self.billing_page,
            min_deposit_usd=self.min_deposit_usd,
            payment=self.payment,
            new_account=self.new_account,
            source=self.source,
        )

    @property
    def id_prefix(self) -> str:
        """What offer ids start with, before the underscore."""
        return self.prefix or self.name

    @property
    def key_in_words(self) -> str:
        """What must be set: the one secret by any of its spellings, several by their best."""
        if len(self.credentials) == 1:
            return " or ".join(self.credentials[0])
        return " and ".join(spellings[0] for spellings in self.credentials)

    @property
    def key_variables(self) -> tuple[str, ...]:
        """Every environment variable of the credentials, in order."""
        return tuple(variable for spellings in self.credentials for variable in spellings)


CLOUDS: tuple[Cloud, ...] = (
    Cloud(
        name="aws",
        display_name="AWS",
        aliases=("ec2", "amazon"),
        website="https://aws.amazon.com/ec2/",
        credentials=(("AWS_ACCESS_KEY_ID", "AWS_PROFILE"), ("AWS_SECRET_ACCESS_KEY",)),
        key_page="https://console.aws.amazon.com/iam/",
        billing_page="https://console.aws.amazon.com/billing/",
        sign_up_page="https://signin.aws.amazon.com/signup?request_type=register",
        new_account="0 vCPUs of G and P instances as spot, until a raise is granted",
        source="AWS docs, EC2 Spot Instance quotas",
    ),
    Cloud(
        name="azure",
        display_name="Microsoft Azure",
        aliases=("az", "microsoft"),
        website="https://azure.microsoft.com/",
        credentials=(
            ("AZURE_TENANT_ID", "ARM_TENANT_ID"),
            ("AZURE_CLIENT_ID", "ARM_CLIENT_ID"),
            ("AZURE_CLIENT_SECRET", "ARM_CLIENT_SECRET"),
            ("AZURE_SUBSCRIPTION_ID", "ARM_SUBSCRIPTION_ID"),
        ),
        key_page="https://portal.azure.com/",
        billing_page="https://portal.azure.com/",
        sign_up_page="https://azure.microsoft.com/free/",
        new_account="0 vCPUs of every GPU family; spot has a quota of its own",
        source="Azure docs, vCPU quotas",
    ),
    Cloud(
        name="coreweave",
        display_name="CoreWeave",
        aliases=("cw", "cks"),
        website="https://www.coreweave.com/",
        credentials=(("COREWEAVE_API_TOKEN", "CW_TOKEN"),),
        key_page="https://console.coreweave.com",
        billing_page="https://console.coreweave.com",
        sign_up_page="https://www.coreweave.com/contact-us",
    ),
    Cloud(
        name="digitalocean",
        display_name="DigitalOcean",
        aliases=("do", "ocean"),
        website="https://www.digitalocean.com/",
        credentials=(("DIGITALOCEAN_ACCESS_TOKEN", "DIGITALOCEAN_TOKEN", "DIGITAL_OCEAN_API_KEY"),),
        key_page="https://cloud.digitalocean.com/account/api/tokens",
        billing_page="https://cloud.digitalocean.com/account/billing",
        sign_up_page="https://cloud.digitalocean.com/registrations/new",
        new_account="GPU Droplets once access is granted; droplet_limit counts them",
        source="DigitalOcean docs, GPU Droplets and /v2/account",
    ),
    Cloud(
        name="fluidstack",
        display_name="FluidStack",
        aliases=("fluid",),
        website="https://www.fluidstack.io/",
        credentials=(("FLUIDSTACK_API_KEY",),),
        key_page="https://dashboard.fluidstack.io/dashboard/api-keys",
        billing_page="https://dashboard.fluidstack.io/dashboard/billing",
        sign_up_page="https://www.fluidstack.io/",
    ),
    Cloud(
        name="gcp",
        display_name="Google Cloud",
        aliases=("google", "gce", "googlecloud"),
        website="https://cloud.google.com/compute",
        credentials=(("GOOGLE_APPLICATION_CREDENTIALS",),),
        key_page="https://console.cloud.google.com/iam-admin/serviceaccounts",
        billing_page="https://console.cloud.google.com/billing",
        sign_up_page="https://console.cloud.google.com/freetrial",
        new_account="0 GPUs in all regions (GPUS_ALL_REGIONS) until a raise is granted",
        source="Google Cloud docs, GPU quota",
    ),
    Cloud(
        name="hyperstack",
        display_name="Hyperstack",
        aliases=("nexgen", "infrahub"),
        website="https://www.hyperstack.cloud/",
        credentials=(("HYPERSTACK_API_KEY",),),
        key_page="https://console.hyperstack.cloud",
        billing_page="https://console.hyperstack.cloud",
        sign_up_page="https://console.hyperstack.cloud",
        payment="prepaid; below $0 everything is suspended",
        source="Hyperstack API reference, View credit and threshold",
    ),
    Cloud(
        name="jarvislabs",
        display_name="Jarvis Labs",
        aliases=("jarvis", "jl"),
        website="https://jarvislabs.ai/",
        credentials=(("JL_API_KEY", "JARVISLABS_API_KEY"),),
        key_page="https://jarvislabs.ai/settings/api-keys",
        billing_page="https://jarvislabs.ai",
        sign_up_page="https://jarvislabs.ai",
        payment="prepaid wallet; at zero running machines are paused",
        source="Jarvis Labs docs, billing",
    ),
    Cloud(
        name="kubernetes",
        display_name="Kubernetes",
        aliases=("k8s", "kube"),
        website="https://kubernetes.io/",
        credentials=(("KUBECONFIG",),),
    ),
    Cloud(
        name="lambda_labs",
        display_name="Lambda",
        prefix="lambda",
        aliases=("lambda", "lambdacloud", "lambdalabs"),
        website="https://lambda.ai/",
        credentials=(
            ("LAMBDA_API_KEY", "LAMBDA_CLOUD_API_TOKEN", "LAMBDA_CLOUD_TOKEN", "LAMBDA_API_TOKEN"),
        ),
        key_page="https://cloud.lambda.ai/api-keys",
        billing_page="https://cloud.lambda.ai/usage",
        sign_up_page="https://cloud.lambda.ai/sign-up",
    ),
    Cloud(
        name="lyceum",
        display_name="Lyceum",
        website="https://lyceum.technology/",
        credentials=(("LYCEUM_API_KEY",),),
        key_page="https://dashboard.lyceum.technology/api-keys",
        billing_page="https://dashboard.lyceum.technology",
        sign_up_page="https://dashboard.lyceum.technology",
    ),
    Cloud(
        name="modal",
        display_name="Modal",
        website="https://modal.com/",
        credentials=(("MODAL_TOKEN_ID",), ("MODAL_TOKEN_SECRET",)),
        key_page="https://modal.com/settings/tokens",
        billing_page="https://modal.com/settings/usage",
        sign_up_page="https://modal.com/signup",
        payment="billed afterwards; the Starter plan has $30 a month free",
        new_account="10 GPUs and 100 containers at a time",
        source="Modal, pricing page",
    ),
    Cloud(
        name="nebius",
        display_name="Nebius",
        website="https://nebius.com/",
        credentials=(("NEBIUS_IAM_TOKEN", "NEBIUS_PROFILE"),),
        key_page="https://console.nebius.com",
        billing_page="https://console.nebius.com",
        sign_up_page="https://console.nebius.com",
    ),
    Cloud(
        name="northflank",
        display_name="Northflank",
        aliases=("nf",),
        website="https://northflank.com/",
        credentials=(("NORTHFLANK_API_TOKEN", "NF_API_TOKEN"),),
        key_page="https://app.northflank.com",
        billing_page="https://app.northflank.com",
        sign_up_page="https://app.northflank.com/signup",
        way_in="no SSH: `northflank exec service --projectId {project} --serviceId {name}`, of "
        "Northflank's own command line, opens a shell",
    ),
    Cloud(
        name="oci",
        display_name="Oracle Cloud",
        aliases=("oracle", "oraclecloud"),
        website="https://www.oracle.com/cloud/",
        credentials=(("OCI_CONFIG_FILE",),),
        key_page="https://cloud.oracle.com",
        billing_page="https://cloud.oracle.com",
        sign_up_page="https://signup.cloud.oracle.com/",
    ),
    Cloud(
        name="paperspace",
        display_name="Paperspace",
        aliases=("ps",),
        website="https://www.paperspace.com/",
        credentials=(("PAPERSPACE_API_KEY",),),
        key_page="https://console.paperspace.com",
        billing_page="https://console.paperspace.com",
        sign_up_page="https://console.paperspace.com/signup",
        new_account="H100 and A100 machines after access was asked for",
        source="Paperspace docs, machine types",
    ),
    Cloud(
        name="runpod",
        display_name="RunPod",
        aliases=("rp",),
        website="https://www.runpod.io/",
        credentials=(("RUNPOD_API_KEY",),),
        key_page="https://console.runpod.io/user/settings",
        billing_page="https://console.runpod.io/user/billing",
        sign_up_page="https://console.runpod.io/signup",
        payment="prepaid credits; pods are stopped when less than 10 s are left",
        new_account="spends $80 an hour at most",
        source="RunPod docs, Billing overview and account limits",
    ),
    Cloud(
        name="salad",
        display_name="SaladCloud",
        aliases=("saladcloud",),
        website="https://salad.com/",
        credentials=(
            ("SALAD_API_KEY",),
            ("SALAD_ORGANIZATION_NAME", "SALAD_ORGANIZATION"),
        ),
        key_page="https://portal.salad.com",
        billing_page="https://portal.salad.com",
        sign_up_page="https://portal.salad.com",
        way_in="SSH admits the keys of your portal page alone: add {key} there once "
        "(https://portal.salad.com, SSH Keys)",
        payment="prepaid; at zero everything is stopped",
        source="SaladCloud docs, billing",
    ),
    Cloud(
        name="shadeform",
        display_name="Shadeform",
        website="https://www.shadeform.ai/",
        credentials=(("SHADEFORM_API_KEY",),),
        key_page="https://platform.shadeform.ai/settings/api",
        billing_page="https://platform.shadeform.ai/settings/billing",
        sign_up_page="https://platform.shadeform.ai",
    ),
    Cloud(
        name="slurm",
        display_name="Slurm",
        website="https://slurm.schedmd.com/",
        credentials=(("SLURM_REST_URL",), ("SLURM_JWT",)),
    ),
    Cloud(
        name="tensordock",
        display_name="TensorDock",
        aliases=("td",),
        website="https://www.tensordock.com/",
        credentials=(("TENSORDOCK_API_TOKEN", "TENSORDOCK_API_KEY"),),
        key_page="https://dashboard.tensordock.com/api",
        billing_page="https://dashboard.tensordock.com",
        sign_up_page="https://dashboard.tensordock.com/register",
        payment="prepaid: funds are deposited first",
        source="TensorDock docs, payments",
    ),
    Cloud(
        name="thunder_compute",
        display_name="Thunder Compute",
        prefix="thunder",
        aliases=("thunder", "tnr"),
        website="https://www.thundercompute.com/",
        credentials=(("TNR_API_TOKEN", "THUNDER_COMPUTE_API_KEY"),),
        key_page="https://console.thundercompute.com/settings/tokens",
        billing_page="https://console.thundercompute.com/settings/billing",
        sign_up_page="https://console.thundercompute.com/signup",
    ),
    Cloud(
        name="vast_ai",
        display_name="Vast.ai",
        prefix="vast",
        aliases=("vast", "vastai"),
        website="https://vast.ai/",
        credentials=(("VAST_AI_API_KEY", "VAST_API_KEY"),),
        key_page="https://cloud.vast.ai/manage-keys/",
        billing_page="https://cloud.vast.ai/billing/",
        sign_up_page="https://cloud.vast.ai/create/",
        payment="prepaid credit",
        source="Vast.ai docs, billing",
    ),
    Cloud(
        name="verda",
        display_name="Verda",
        aliases=("datacrunch",),
        website="https://verda.com/",
        credentials=(
            ("VERDA_CLIENT_ID", "DATACRUNCH_CLIENT_ID"),
            ("VERDA_CLIENT_SECRET", "DATACRUNCH_CLIENT_SECRET"),
        ),
        key_page="https://console.verda.com/",
        billing_page="https://console.verda.com/",
        sign_up_page="https://console.verda.com/",
    ),
)

_SEPARATORS = str.maketrans("", "", " _-.")


def _squash(name: str) -> str:
    return name.casefold().translate(_SEPARATORS)


_outside: dict[str, Cloud] = {}


def take_in(outside: Cloud) -> None:
    """Know a cloud of another package from now on, by its name. Those of the table stay."""
    _outside[outside.name] = outside
    _by_spelling.cache_clear()
    _id_starts.cache_clear()


def clouds() -> tuple[Cloud, ...]:
    """Those of the table, then those taken in."""
    return (*CLOUDS, *_outside.values())


@cache
def _by_spelling() -> dict[str, Cloud]:
    return {
        _squash(spelling): entry
        for entry in reversed(clouds())
        for spelling in (entry.name, entry.display_name, entry.id_prefix, *entry.aliases)
    }


@cache
def _id_starts() -> tuple[tuple[str, str], ...]:
    """(start of an id, wire name), longest first: "vast_ai_1" is not key "ai_1" at "vast"."""
    starts = {
        f"{spelling.casefold()}{separator}": entry.name
        for entry in clouds()
        for spelling in (entry.name, entry.id_prefix, *entry.aliases)
        for separator in "_:"
    }
    return tuple(sorted(starts.items(), key=lambda start: -len(start[0])))


def cloud(name: str) -> Cloud:
    """The cloud of a wire name, display name, id prefix or short form; UnknownCloud otherwise."""
    squashed = _squash(name)
    found = _by_spelling().get(squashed)
    if found is None:
        import difflib

        close = difflib.get_close_matches(squashed, _by_spelling(), n=3, cutoff=0.6)
        nearest = dict.fromkeys(_by_spelling()[spelling].name for spelling in close)
        raise UnknownCloud(name, tuple(nearest))
    return found


KEY_TO_COME = "gpubroker's key, whose file `gpubroker show NAME` tells,"


def way_in(provider: str, id_: str | None = None, key: str = KEY_TO_COME) -> str:
    """`Cloud.way_in` of a machine, or of one that is not there yet; "" where gpubroker logs in."""
    known = _by_spelling().get(_squash(provider))
    project, _, name = (id_ or "PROJECT/NAME").partition("/")
    return known.way_in.format(project=project, name=name, key=key) if known else ""


def offer_id(provider: str, key: str) -> str:
    """What a person and the faces call an offer or machine: "vast_12345".

    A provider from outside the table is its own prefix.
    """
    known = _by_spelling().get(_squash(provider))
    return f"{known.id_prefix if known else provider}_{key}"


def parse_offer_id(text: str) -> tuple[str, str]:
    """(wire name, key) of an id with any prefix, provider name or short form before "_" or ":".

    ValueError where the start names no cloud or nothing follows it.
    """
    text = text.strip()
    folded = text.casefold()
    for start, name in _id_starts():
        if folded.startswith(start) and len(text) > len(start):
            return name, text[len(start) :]
    raise ValueError(f'"{text}" is not an offer id: it should look like vast_12345')
