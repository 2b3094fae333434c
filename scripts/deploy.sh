#!/usr/bin/env bash
# Brings binaries and units to a fleet by ssh and scp, and starts them; what is there already is left alone, so it may
# be run as often as one likes. `make release` comes first.
#
#   HOSTS="a b c" TRACKER=host scripts/deploy.sh [--dry-run]
#
# Each is what ssh takes: a name of ~/.ssh/config, or user@host, whose user is root or may sudo without a password.
# TRACKER_ADDRESS=ADDR[:PORT] is where peers find the tracker, if not at the host of TRACKER. DIST=FOLDER has the
# binaries (dist).
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
	echo "error: $*" >&2
	exit 2
}

dry_run=
case ${1-} in
--dry-run) dry_run=yes ;;
'') ;;
*) fail "$1: the only argument is --dry-run; hosts are given as HOSTS=\"a b c\" TRACKER=host" ;;
esac
[ -n "${TRACKER-}" ] || fail 'which host is the tracker? HOSTS="a b c" TRACKER=host'
dist=${DIST:-dist}
read -ra peers <<<"${HOSTS-}"
for host in "$TRACKER" ${peers[@]+"${peers[@]}"}; do
	# Nothing that ssh, scp or a shell reads as more than a host.
	[[ $host =~ ^[A-Za-z0-9_][A-Za-z0-9._@-]*$ ]] || fail "$host is not a host as ssh takes it"
done
address=${TRACKER_ADDRESS:-${TRACKER##*@}}
[[ $address =~ ^[]A-Za-z0-9._:[-]+$ ]] || fail "TRACKER_ADDRESS=$address is no address"
[[ $address =~ :[0-9]+$ ]] || address=$address:50051

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
echo "ENJAMBRE_TRACKER=$address" >"$stage/fleet.env"

# deploy HOST ROLE...: brings one host to where it should be.
deploy() {
	local host=$1 state folder role file to differs=() idle=()
	shift
	state=$(ssh -o BatchMode=yes "$host" sh -s -- --state <deploy/install.sh) || return
	case $state in
	'machine x86_64'* | 'machine amd64'*) folder=$dist/x86_64-unknown-linux-musl ;;
	'machine aarch64'* | 'machine arm64'*) folder=$dist/aarch64-unknown-linux-musl ;;
	*)
		echo "$host: there is no binary for it (${state%%$'\n'*})" >&2
		return 1
		;;
	esac
	local wanted=()
	for role in "$@"; do
		wanted+=("$folder/$role /usr/local/bin" "deploy/enjambre-$role.service /etc/systemd/system")
		[ "$role" != peer ] || wanted+=("$stage/fleet.env /etc/enjambre")
		grep -qx "runs $role" <<<"$state" || idle+=("$role")
	done
	for to in "${wanted[@]}"; do
		file=${to% *} to=${to##* }/$(basename "${to% *}")
		if [ ! -f "$file" ]; then
			echo "$host: $file is missing: make release" >&2
			return 1
		fi
		if ! grep -qx "file $(sha256sum <"$file" | cut -d' ' -f1) $to" <<<"$state"; then
			differs+=("$file")
			[ -z "$dry_run" ] || echo "$host: would install $to"
		fi
	done
	if [ -n "$dry_run" ]; then
		for role in ${idle[@]+"${idle[@]}"}; do echo "$host: would start enjambre-$role"; done
	fi
	if [ ${#differs[@]} = 0 ] && [ ${#idle[@]} = 0 ]; then
		echo "$host: nothing to do"
	elif [ -z "$dry_run" ]; then
		# What a run that failed has left behind may be old.
		ssh -o BatchMode=yes "$host" 'rm -rf .enjambre-deploy && mkdir .enjambre-deploy' </dev/null || return
		scp -q -o BatchMode=yes ${differs[@]+"${differs[@]}"} deploy/install.sh "$host:.enjambre-deploy/" || return
		ssh -o BatchMode=yes "$host" "sh .enjambre-deploy/install.sh $* && rm -r .enjambre-deploy" </dev/null |
			sed "s/^/$host: /" || return
	fi
}

failed=()
# The tracker first: peers find it then.
for host in $(printf '%s\n' "$TRACKER" ${peers[@]+"${peers[@]}"} | awk '!seen[$0]++'); do
	roles=()
	[ "$host" != "$TRACKER" ] || roles+=(tracker)
	for peer in ${peers[@]+"${peers[@]}"}; do
		[ "$host" != "$peer" ] || { roles+=(peer) && break; }
	done
	deploy "$host" "${roles[@]}" || failed+=("$host")
done
if [ ${#failed[@]} != 0 ]; then
	echo "error: failed at ${failed[*]}: what is said above has to be mended there; then run this again" >&2
	exit 1
fi
