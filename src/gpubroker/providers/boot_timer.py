"""The timer on a machine, which ends it at its expiry whether or not anybody looks."""

from __future__ import annotations

from gpubroker.providers.boot_text import AS_ROOT, filled, from_file, written

_WEB_CALL = """\
if command -v curl >/dev/null; then
printf 'header = "Authorization: Bearer %s"\\n' "$TOKEN" |
curl -sS -m 60 -K - -X METHOD -H "Content-Type: application/json" -d '{}' "URL"
elif command -v python3 >/dev/null; then
URL_="URL" python3 -c 'import os, urllib.request as u
u.urlopen(u.Request(os.environ["URL_"], b"{}", {"Content-Type": "application/json",
"Authorization": "Bearer " + os.environ["TOKEN"]}, method="METHOD"), timeout=60)'
else
f=$(mktemp); printf 'header = Authorization: Bearer %s\\n' "$TOKEN" >"$f"
wget -q -O /dev/null --config="$f" --timeout=60 --method=METHOD \
--header="Content-Type: application/json" --body-data='{}' "URL"
rm -f "$f"
fi
"""


def web_call(method: str, url: str, token: str) -> str:
    """Sends `{}` with the token in the variable of that name, which stays out of process lists."""
    return filled(_WEB_CALL, METHOD=method, TOKEN=token, URL=url, URL_="CALL_URL")


TIMER_SAYS = "gpubroker timer "
_MOST_SLEEP_S, _WARNED_BEFORE_S = 20, 300
_CLOCK = """\
p=${GPUBROKER_ROOT-}/proc; b=$(cat "$p/sys/kernel/random/boot_id" 2>/dev/null); b=${b:-none}
up() { cut -d. -f1 "$p/uptime" 2>/dev/null || date +%s; }
put() { echo "$2" >"$d/$1.$$" && mv "$d/$1.$$" "$d/$1"; }
"""
"""`up`: seconds of a clock that nobody sets, in which `until` is kept, with the boot it is of."""
_TIMER = (
    '#!/bin/sh\nd=$1; warned=; echo $$ >"$d/timer"\n'
    + _CLOCK
    + """\
look() {
read -r of end <"$d/until" || of=
[ "$of" = "$b" ] || { end=$(($(up) + $(cat "$d/left"))); put until "$b $end"; }
rest=$((end - $(up)))
}
warn() {
[ $rest -gt WARNED_BEFORE ] || [ "$warned" = $end ] || {
warned=$end; m="gpubroker: this machine ends in $(((rest + 59) / 60)) min, unless it is extended"
for t in "${GPUBROKER_ROOT-}"/dev/pts/[0-9]*; do
[ ! -w "$t" ] || printf '\\r\\n%s\\r\\n' "$m" >"$t" &
done
}
}
while [ "$(cat "$d/timer")" = $$ ]; do
look 2>/dev/null
if [ $rest -gt 0 ]; then
put left $rest; warn
sleep $((rest < LONGEST ? rest : LONGEST))
else
END
sleep 60
fi
done
"""
)
"""Waits for what `until` says, which may be changed at any time; the newest timer is the one.

`left` is what a restart goes on with.
"""
_TIMER_RUN = 'nohup sh "$d/expiry" "$d" </dev/null >/dev/null 2>&1 &\n'
_TIMER_UNIT = """\
systemd-run --quiet --collect --unit=gpubroker-expiry-$$ --on-active=1 \
/bin/sh "$d/expiry" "$d" 2>/dev/null ||
"""


def timer(seconds: int | None, end: str, *, unit: bool = False) -> str:
    """Runs `end` that many seconds from the first start; nothing where there is no expiry.

    Whoever is logged in is warned five minutes before. With `end` "" the timer does nothing else:
    for clouds that go on billing a machine which powered itself off. `unit`: as a unit of systemd
    where there is one; without, each start of the text is a start of the machine, and the time
    while it was down is not counted.
    """
    if seconds is None:
        return ""
    script = filled(
        _TIMER,
        END=end or ":",
        LONGEST=str(_MOST_SLEEP_S),
        WARNED_BEFORE=str(_WARNED_BEFORE_S),
    )
    started = f'[ -s "$d/left" ] || echo {seconds} >"$d/left"\n'
    if not unit:
        started += 'rm -f "$d/until"\n'
    return written("expiry", script) + started + (_TIMER_UNIT if unit else "") + _TIMER_RUN


def rearmed(seconds_left: int | None) -> str:
    """Sets the machine's timer to end so many seconds from now, and tells how it stands.

    For the standard input of `sh` on the machine itself, over SSH as the login user. May be run
    again at any time. Prints "gpubroker timer SECONDS", or "gpubroker timer none" where the
    machine has no timer that runs; nothing is set there. None: only tells.
    """
    newly = "" if seconds_left is None else filled(_NEWLY, SECONDS=str(seconds_left))
    script = filled(_REARMED, CLOCK=_CLOCK, NEWLY=newly, SAYS=TIMER_SAYS)
    return from_file(script, "$s sh", AS_ROOT, ' "$HOME"')


_NEWLY = """\
live || { rm -f "$d/timer"; again=1; }
put left SECONDS; put until "$b $(($(up) + SECONDS))"
[ -z "$again" ] || {
UNIT; }
""".replace("UNIT", _TIMER_UNIT.removesuffix("||\n") + "&& sleep 2")
"""A container's timer that was ended is not started again: what ends it is in its environment."""
_REARMED = """\
d=$1/.gpubroker; again=
CLOCK
live() {
read -r of end 2>/dev/null <"$d/until" && [ "$of" = "$b" ] \
&& t=$(cat "$d/timer" 2>/dev/null) && kill -0 "$t" 2>/dev/null \
&& { [ ! -d /proc/1 ] || grep -qs expiry "/proc/$t/cmdline"; }
}
if [ -s "$d/expiry" ]; then
NEWLY
if live; then echo "SAYS$((end - $(up)))"; exit; fi
fi
echo "SAYSnone"
"""
