"""What Vast.ai is, as data: addresses, sizes, limits, errors. From the vendor's API reference."""

from __future__ import annotations

from gpubroker.model.capabilities import Capabilities, Limit
from gpubroker.model.errors import (
    AuthFailed,
    BadResponse,
    Invalid,
    NoCapacity,
    NotFound,
    OutcomeUnknown,
    OutOfFunds,
    RateLimited,
    Refused,
)
from gpubroker.model.terms import Carrier, Expiry, Kind, Market
from gpubroker.providers.circuit import PERMISSION
from gpubroker.providers.refusals import Rule

NAME = "vast_ai"
BASE_URL = "https://console.vast.ai"
CONSOLE = "https://cloud.vast.ai/instances/"
DEFAULT_IMAGE = "nvidia/cuda:12.4.1-runtime-ubuntu22.04"
SMALLEST_DISK_GB, DEFAULT_DISK_GB = 8, 10
LONGEST_STARTUP = 4096
LONGEST_VARIABLE, ALL_VARIABLES, MOST_PORTS = 256, 32768, 64
LOWEST_BID, HIGHEST_BID = 0.001, 128.0
LIST_PAGE, CHARGES_PAGE = 25, 500

LIMITS = (
    # "10 per minute per IP", kept in every window of 60 s: a burst of 4 and 6 more.
    Limit("search", frozenset({"offers"}), interval_s=10.0, burst=4, per="ip"),
    Limit("create", frozenset({"create"}), interval_s=4.5),
    Limit("destroy", frozenset({"terminate"}), interval_s=3.0),
    Limit("show", frozenset({"get"}), interval_s=2.0),
    Limit("list", frozenset({"list", "find"}), interval_s=1.0),
    Limit("state", frozenset({"stop", "start"}), interval_s=1.0),
    Limit("bid", frozenset({"bid"}), interval_s=5.5),
    Limit("charges", frozenset({"billing"}), interval_s=1.0),
    Limit("ssh_keys", frozenset({"attach_key"}), interval_s=1.0),
)

RULES = (
    Rule(RateLimited, ("search_quota_exceeded",), code="search_quota_exceeded"),
    Rule(RateLimited, ("api requests too frequent", "rate_limit_exceeded"), code="rate_limited"),
    Rule(RateLimited, statuses=(429,)),
    # Before any word about a missing thing: a wrong key is a 404 too.
    Rule(AuthFailed, ("auth_error", "invalid user key", "requires login"), (401, 403, 404, 200)),
    Rule(NoCapacity, ("no_such_ask",), operations=("create",), code="no_such_ask"),
    Rule(NoCapacity, ("resources_unavailable", "resources are currently unavailable"),
         operations=("start",), code="resources_unavailable"),
    Rule(OutcomeUnknown, ("resources_unavailable", "resources are currently unavailable"),
         operations=("create",), code="resources_unavailable"),
    Rule(Refused, ("not your own",), (403,), code="own_machine"),
    Rule(Invalid, ("invalid_price", "set a bid price"), (400,), code="invalid_price"),
    Rule(Invalid, ("label_too_long",), (400,), code="label_too_long"),
    Rule(Invalid, ("no_ssh_key_for_vm",), (400,), code="no_ssh_key_for_vm"),
    Rule(BadResponse, ("invalid_token", "pagination token"), (400,), ("list", "find", "billing")),
    Rule(OutOfFunds, ("lacks credit", "insufficient_credit", "insufficient_balance",
                      "missing_billing", "credit", "balance", "billing"), (400, 402, 200)),
    Rule(NotFound, ("no_such_instance", "not_found", "instance not found"), (404, 200),
         ("get", "terminate", "stop", "start", "bid", "attach_key"), code="no_such_instance"),
    Rule(AuthFailed, statuses=(401,)),
    Rule(AuthFailed, statuses=(403,), code=PERMISSION),
)  # fmt: skip

_SHOWN = """
success error msg message detail ask_id new_contract offers instances instances_found
total_instances next_token results count total source amount items start end type id limit order
allocated_storage eq neq gt gte lt lte in notin verified external rentable num_gpus gpu_name
gpu_ram cpu_ram disk_space dph_base dph_total min_bid storage_cost machine_id host_id
actual_status cur_state next_state intended_status label is_bid geolocation disk image
image_uuid runtype price state target_state cancel_unavail client_id select_filters order_by
after_token latest_first format col dir day start_date end_date owner reliability2 duration
verification inet_up inet_down credit
"""
SHOWN = frozenset(_SHOWN.split())
"""Fields whose values may be written down. Not among them: env, onstart, image_login, api keys."""

CAPABILITIES = Capabilities(
    kinds=frozenset({Kind.CONTAINER}),
    markets=frozenset({Market.ON_DEMAND, Market.SPOT}),
    carriers=(Carrier.NAME,),
    image="container",
    startup="script",
    startup_max_bytes=LONGEST_STARTUP,
    ssh="sshd",
    ssh_keys="attached",
    env="native",
    ports="at_create",
    stop="keeps_disk",
    expiry=Expiry.CONTROLLER_ONLY,
    create_deadline_s=60,
    list_lag_s=60,
    absence_grace_s=60,
    gone="404",
    billing="exact",
    # "0.8 h invoiced of 6.5 real ones" was seen: the record follows by hours.
    billing_lag_s=8 * 3600,
    limits=LIMITS,
)
