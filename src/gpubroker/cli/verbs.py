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
    Verb("stop", USE, "Stop machines; their disks go on costing.", "machines"),
    Verb("start", USE, "Start stopped machines again.", "machines"),
    Verb("terminate", USE, "End machines, wait for the proof, show the bill.", "machines"),
    Verb("sweep", CARE, "Find machines that are billed and not wanted.", "sweep"),
    Verb("doctor", CARE, "Check keys, accounts and clocks of every cloud.", "doctor"),
    Verb("sandbox", CARE, "Every cloud on loopback: no account, no network.", "sandbox"),
    Verb("completion", CARE, "Print the completion script of a shell.", "completion"),
    Verb("extend", LATER, "Move the expiry of a machine.", later="an expiry cannot be moved"),
    Verb("budget", LATER, "Limit what may be spent.", later="budgets are not kept"),
    Verb("adopt", LATER, "Manage a machine made elsewhere.", later="nothing can be adopted"),
    Verb("login", LATER, "Store a key of a cloud.", later="keys are read from the environment"),
    Verb("keeper", LATER, "Watch over machines in the background.", later="there is no keeper"),
    Verb("volumes", LATER, "Disks that outlive machines.", later="volumes are not managed"),
    Verb("run", LATER, "Launch, run a command, fetch, terminate.", later="use launch and ssh"),
    Verb("logs", LATER, "Output of a machine's main process.", later="logs are not fetched"),
    Verb("cp", LATER, "Copy files to and from a machine.", later="use scp or rsync with gb-NAME"),
    Verb("costs", LATER, "Spend by machine, cloud, GPU and day.", later="ps --all shows costs"),
    Verb("prices", LATER, "Price history and trend of a GPU.", later="no history is kept"),
    Verb("serve", LATER, "REST API and dashboard.", later="there is no server"),
    Verb("mcp", LATER, "The same verbs for AI agents.", later="there is no MCP server"),
)

BY_NAME = {verb.name: verb for verb in VERBS}
