#!/bin/sh
# A swarm on this machine, from the first upload to the last leave: a tracker and three peers, as they
# would run on four. Ends by itself; exit code 0 when everything was as it should be, else 1.
#
#   BIN=folder   where tracker and peer are (target/debug)
#   WRAP='…'     what starts them, from the folder that holds them: WRAP='chroot .' shows that they
#                need nothing else, WRAP=qemu-aarch64-static that another machine's run
set -u
cd "$(dirname "$0")/.." || exit 1
bin=${BIN:-target/debug}
wrap=${WRAP:-}
lease=3

# ---- words on the screen ----
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ] && [ "${TERM:-dumb}" != dumb ]; then
	bold=$(printf '\033[1m') dim=$(printf '\033[2m') green=$(printf '\033[32m') red=$(printf '\033[31m')
	plain=$(printf '\033[0m')
else
	bold='' dim='' green='' red='' plain=''
fi
steps=0 checks=0 failures=0
step() { steps=$((steps + 1)) && printf '\n%s%s. %s%s\n' "$bold" "$steps" "$*" "$plain"; }
note() { printf '   %s%s%s\n' "$dim" "$*" "$plain"; }
typed() { printf '   %s\n' "$*"; }
# What came back, long content ids cut to what tells them apart.
back() { sed -E 's/([0-9a-f]{12})[0-9a-f]{52}/\1…/g; s/\t/  /g; s/^/     /'; }
# check WHAT COMMAND...: the command says whether it is so.
check() {
	checks=$((checks + 1))
	what=$1
	shift
	if "$@"; then
		printf '   %sok%s  %s\n' "$green" "$plain" "$what"
	else
		failures=$((failures + 1))
		printf '   %sno%s  %s\n' "$red" "$plain" "$what"
	fi
}
# Without this nothing that follows means anything.
give_up() {
	printf '\n%sstopped: %s%s\n' "$red" "$*" "$plain" >&2
	tell_all >&2
	exit 1
}
tell_all() {
	for log in "$work"/*.err; do
		[ -s "$log" ] && printf -- '-- %s said:\n' "$(basename "$log" .err)" && sed 's/^/   /' "$log"
	done
}

# ---- what is needed, and what is left behind: nothing ----
for tool in curl mkfifo cmp; do
	command -v "$tool" >/dev/null || {
		echo "the demo needs $tool: install it" >&2
		exit 1
	}
done
for binary in tracker peer; do
	[ -x "$bin/$binary" ] || {
		echo "$bin/$binary is not there: \`make demo\` builds it" >&2
		exit 1
	}
done
hash=$(command -v sha256sum >/dev/null && echo sha256sum || echo cksum)
work=$(mktemp -d "${TMPDIR:-/tmp}/enjambre-demo.XXXXXX") || exit 1
machine=$work/machine # all that the binaries see
tracker_pid='' peer_1_pid='' peer_2_pid='' peer_3_pid=''
# Ends what this script started and nothing else, by number, and only while it is ours to wait for.
clean_up() {
	for pid in $tracker_pid $peer_1_pid $peer_2_pid $peer_3_pid; do
		kill -9 "$pid" 2>/dev/null && wait "$pid" 2>/dev/null
	done
	rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 1' HUP INT TERM
mkdir -p "$machine/peer_1" "$machine/peer_2" "$machine/peer_3" || exit 1
cp "$bin/tracker" "$bin/peer" "$machine" || exit 1
unset ENJAMBRE_TRACKER ENJAMBRE_LISTEN ENJAMBRE_LEASE ENJAMBRE_BIND ENJAMBRE_ADVERTISE ENJAMBRE_ZONE
# The demo talks to this machine only.
unset http_proxy all_proxy HTTP_PROXY ALL_PROXY

# ---- waiting and asking ----
# within SECONDS COMMAND...: waits until the command succeeds, no longer than that.
within() {
	tries=$(($1 * 20))
	shift
	until "$@"; do
		tries=$((tries - 1))
		[ "$tries" -gt 0 ] || return 1
		sleep 0.05
	done
}
said() { grep -q -- "$2" "$work/$1.err" 2>/dev/null; } # said WHO PATTERN
# Results come on stdout; where there are none, a line on stderr says so.
answered() { # WHO
	[ -n "$(tail -n "+$out_next" "$work/$1.out")" ] ||
		tail -n "+$err_next" "$work/$1.err" | grep -q '^error: \|^nothing found'
}
# ask WHO COMMAND: types a command for a peer and waits for the answer: $answer, and $remark for the eye.
ask() {
	out_next=$(($(wc -l <"$work/$1.out") + 1)) err_next=$(($(wc -l <"$work/$1.err") + 1))
	case $1 in
	peer_1) echo "$2" >&4 ;;
	peer_2) echo "$2" >&5 ;;
	peer_3) echo "$2" >&6 ;;
	esac
	within 30 answered "$1" || give_up "$1 does not answer \`$2\`"
	answer=$(tail -n "+$out_next" "$work/$1.out")
	remark=$(tail -n "+$err_next" "$work/$1.err")
}
asks() { # the same, on the screen
	typed "$1> $2"
	ask "$1" "$2"
	printf '%s\n' "$remark" "$answer" | sed '/^$/d' | back
}
# Whether peer_2's search finds a path at exactly these sources.
found_at() { # PATH SOURCES
	ask peer_2 "search $1"
	[ "$(echo "$answer" | cut -f 4,5)" = "$(printf '%s\t%s' "$1" "$2")" ]
}
is() { [ "$1" = "$2" ]; }
# The exit code of a process of ours, once it has ended.
ends_with() { # PID CODE
	wait "$1"
	[ $? -eq "$2" ]
}
port_taken() { said "$1" 'in use'; }
ready_or_taken() { said "$1" "$2" || port_taken "$1"; }

# start WHO ARGUMENTS...: in the background, from the folder that is its machine; its number in $!.
# Its stdin is a FIFO, to be typed into; a tracker has none.
start() {
	who=$1 input=/dev/null
	shift
	rm -f "$work/$who.out" "$work/$who.err" # what an earlier process of this name said
	[ -p "$work/$who.in" ] && input=$work/$who.in
	# The shell that becomes the process opens the FIFO and waits there for whoever writes to it.
	# shellcheck disable=SC2086 # WRAP is words
	(cd "$machine" && exec $wrap "$@" <"$input" >"$work/$who.out" 2>"$work/$who.err" 4>&- 5>&- 6>&-) &
}

# ---- the swarm ----
printf '%sEnjambre: one tracker and three peers on this machine%s\n' "$bold" "$plain"
note "folders and logs in $work, removed at the end"

step 'The tracker, which knows who has what, and three peers, each with a folder'
start tracker ./tracker --listen 127.0.0.1:50051 --lease "$lease"
tracker_pid=$!
within 10 ready_or_taken tracker 'listening on' || give_up 'the tracker does not start'
if port_taken tracker; then
	wait "$tracker_pid"
	note 'port 50051 is taken here, so the tracker gets a free one'
	start tracker ./tracker --listen 127.0.0.1:0 --lease "$lease"
	tracker_pid=$!
	within 10 said tracker 'listening on' || give_up 'the tracker does not start'
fi
tracker=$(sed -n 's/^tracker listening on \([0-9.:]*\).*/\1/p' "$work/tracker.err")
typed "tracker --listen $tracker --lease $lease"
back <"$work/tracker.err"

begin() { # WHO PORT; the number in $!
	mkfifo "$work/$1.in" 2>/dev/null
	start "$1" ./peer "$1" "$2" "./$1" --tracker "$tracker" --bind 127.0.0.1
	pid=$!
	case $1 in # Opened here, the FIFO lets the peer begin.
	peer_1) peer_1_pid=$pid && exec 4>"$work/$1.in" ;;
	peer_2) peer_2_pid=$pid && exec 5>"$work/$1.in" ;;
	peer_3) peer_3_pid=$pid && exec 6>"$work/$1.in" ;;
	esac
	within 10 ready_or_taken "$1" '^serving http://' || give_up "$1 does not start"
	if [ "$2" != 0 ] && port_taken "$1"; then
		wait "$pid"
		note "port $2 is taken here, so $1 gets a free one"
		begin "$1" 0
		return
	fi
	within 10 said "$1" '^joined' || give_up "$1 does not join"
	url=$(sed -n 's,^serving \(http://[^ /]*\).*,\1,p' "$work/$1.err")
	typed "peer $1 ${url##*:} ./$1 --tracker $tracker --bind 127.0.0.1"
	back <"$work/$1.err"
}
begin peer_1 5000
peer_1_url=$url
begin peer_2 5001
peer_2_url=$url
begin peer_3 5002

step 'Any machine with curl can hand a file to a peer'
notes=$work/notes.txt photo="$work/holiday photo.jpg"
printf 'The tracker knows where. The peers bring it.\n' >"$notes"
head -c 8388608 /dev/urandom >"$photo"
upload() { # CURL ARGUMENTS..., the last two on the screen as a user would type them
	code=$(curl -sS --max-time 60 -o "$work/reply" -w '%{http_code}' "$@" 2>"$work/curl.err")
	cat "$work/reply" "$work/curl.err" | back
	content=$(grep -o '[0-9a-f]\{64\}' "$work/reply")
}
typed "curl -F file=@notes.txt $peer_1_url/upload"
upload -F "file=@$notes" "$peer_1_url/upload"
check 'created (201)' is "$code" 201
notes_content=$content
typed "curl -T 'holiday photo.jpg' $peer_1_url/files/"
upload -T "$photo" "$peer_1_url/files/"
check 'created (201)' is "$code" 201
photo_content=$content
check 'the answer came when the file was in the folder, whole' cmp -s "$photo" "$machine/peer_1/holiday photo.jpg"

step 'Every peer can find it'
check 'found within a second' within 1 found_at notes.txt peer_1
asks peer_2 'search notes'
asks peer_3 'search *.JPG'
check 'under the content id that the upload answered with' is "$(echo "$answer" | cut -f 1)" "$photo_content"

step 'Every peer can fetch it, and offers it from then on'
asks peer_2 'get notes.txt'
asks peer_2 "get 'holiday photo.jpg'"
check 'fetched under the content id of the upload' is "$(echo "$answer" | cut -f 1)" "$photo_content"
for path in notes.txt 'holiday photo.jpg'; do
	typed "$hash '$path'   (peer_1's, peer_2's)"
	ours=$($hash <"$machine/peer_1/$path") theirs=$($hash <"$machine/peer_2/$path")
	printf '%s\n%s\n' "${ours%% *}" "${theirs%% *}" | back
	check 'the same hash' is "$ours" "$theirs"
done
check 'search names both sources' within 1 found_at notes.txt peer_1,peer_2
asks peer_3 'search notes'
typed "curl $peer_2_url/files/notes.txt"
curl -sS --max-time 10 -D "$work/head" -o "$work/got" "$peer_2_url/files/notes.txt"
back <"$work/got"
check 'a plain GET gives the file' cmp -s "$notes" "$work/got"
check 'with the content id for its ETag' grep -qi "^etag: \"$notes_content\"" "$work/head"

step 'A machine dies without a word'
typed "kill -9 $peer_1_pid   (peer_1)"
kill -9 "$peer_1_pid"
wait "$peer_1_pid" 2>/dev/null
peer_1_pid=''
died=$(date +%s)
check "search has forgotten peer_1 within its lease ($lease s)" within $((lease + 1)) found_at notes.txt peer_2
note "it took $(($(date +%s) - died)) s"
asks peer_2 'search notes'
note 'what others have fetched is still there:'
asks peer_3 "get 'holiday photo.jpg' album/2026.jpg"
check 'fetched from peer_2, under a new name' cmp -s "$photo" "$machine/peer_3/album/2026.jpg"

step 'It comes back, and takes its old place at once'
begin peer_1 "${peer_1_url##*:}"
check 'search names peer_1 again' within 3 found_at notes.txt peer_1,peer_2

step 'And the others leave'
typed 'peer_1> leave'
echo leave >&4
check 'peer_1 has ended with exit code 0' ends_with "$peer_1_pid" 0
peer_1_pid=''
check 'search has forgotten it at once' found_at notes.txt peer_2
typed 'peer_2> leave'
echo leave >&5
check 'peer_2 has ended with exit code 0' ends_with "$peer_2_pid" 0
peer_2_pid=''
typed 'peer_3> leave'
echo leave >&6
check 'peer_3 has ended with exit code 0' ends_with "$peer_3_pid" 0
peer_3_pid=''
typed "kill $tracker_pid   (the tracker)"
kill "$tracker_pid"
check 'the tracker has ended with exit code 0' ends_with "$tracker_pid" 0
tracker_pid=''

if [ "$failures" -gt 0 ]; then
	printf '\n%s%s of %s checks failed.%s\n' "$red" "$failures" "$checks" "$plain"
	tell_all
	exit 1
fi
printf '\n%sAll %s checks held.%s Next: README.md shows the same on real machines.\n' "$green" "$checks" "$plain"
