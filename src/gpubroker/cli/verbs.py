"""Every verb, in the order the help shows them. Help is printed from here, without an import."""

from __future__ import annotations

from typing import NamedTuple


class Verb(NamedTuple):
    """A row of the help. `module` holds the command of that name; "" where it comes later."""

    name: str
    section: str
    help: str
    module: str = ""
    later: str = ""
    """What this version cannot do yet."""


FIND, RENT, USE, CARE, LATER = "Find", "Rent", "Use", "Look after", "Later"

VERBS: tuple[Verb, ...] = (
    Verb("offers", FIND, "Search what can be rented now.", "offers"),
    Verb("gpus", FIND, "GPU models known, and their cheapest price.", "knowledge"),
    Verb("providers", FIND, "Every cloud: configured or not, and what it can do.", "knowledge"),
    Verb("launch", RENT, "Rent a machine, trying the next offer when one fails.", "launch"),
    Verb("ps", USE, "Your machines, and what they cost.", "machines"),
    Verb("show", USE, "One machine, as its cloud describes it now.", "machines"),
    Verb("ssh", USE, "Open a shell on a machine, or run a command there.", "ssh"),
    Verb("extend", USE, "Move the expiry of a machine.", "extend"),
    Verb("stop", USE, "Stop machines; their disks go on costing.", "machines"),
    Verb("start", USE, "Start stopped machines again.", "machines"),
    Verb("terminate", USE, "End machines, wait for the proof, show the bill.", "machines"),
    Verb("bill", CARE, "What a machine cost: quoted, metered, billed.", "bill"),
    Verb("costs", CARE, "Spend by machine, cloud, GPU, day, project.", "costs"),
    Verb("adopt", CARE, "Take a machine made elsewhere under management.", "adopt"),
    Verb("sweep", CARE, "Find machines that are billed and not wanted.", "sweep"),
    Verb("keeper", CARE, "Watch over machines in the background.", "keeper"),
    Verb("doctor", CARE, "Check keys, accounts and clocks of every cloud.", "doctor"),
    Verb("login", CARE, "Store a key of a cloud; shows where one is made.", "login"),
    Verb("logout", CARE, "Forget a key that login stored.", "login"),
    Verb("registry", CARE, "Logins for private images.", "registry"),
    Verb("budget", CARE, "Limit what may be spent.", "budget"),
    Verb("notify", CARE, "Where warnings go, and whether they get there.", "notify"),
    Verb("sandbox", CARE, "Every cloud on loopback: no account, no network.", "sandbox"),
    Verb("completion", CARE, "Print the completion script of a shell.", "completion"),
    Verb("volumes", LATER, "Disks that outlive machines.", later="volumes are not managed"),
    Verb("run", LATER, "Launch, run a command, fetch, terminate.", later="use launch and ssh"),
    Verb("logs", LATER, "Output of a machine's main process.", later="logs are not fetched"),
    Verb("cp", LATER, "Copy files to and from a machine.", later="use scp or rsync with gb-NAME"),
    Verb("prices", LATER, "Price history and trend of a GPU.", later="no history is kept"),
    Verb("serve", LATER, "REST API and dashboard.", later="there is no server"),
    Verb("mcp", LATER, "The same verbs for AI agents.", later="there is no MCP server"),
)

BY_NAME = {verb.name: verb for verb in VERBS}
