#!/bin/sh
# EC2 user-data: makes the machine a tracker or a peer of a swarm when it starts for the first time. Fill in the three
# lines below, or have them come from the environment, as cloudformation.yaml does.
set -eu
: "${ROLE:=peer}"         # peer or tracker
: "${TRACKER:=}"          # where a peer finds the tracker: ADDR:50051
: "${SOURCE:=}"           # s3://BUCKET/PREFIX, or https://…, below which are dist/ and deploy/ of this project
metadata=http://169.254.169.254/latest

[ "$ROLE" = tracker ] || [ -n "$TRACKER" ] || { echo 'error: TRACKER is empty' >&2 && exit 2; }
[ -n "$SOURCE" ] || { echo 'error: SOURCE is empty' >&2 && exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Version 2 of the metadata service: a token first, which no forwarded request can get.
token=$(curl -sSf -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' "$metadata/api/token")
about() { curl -sSf -H "X-aws-ec2-metadata-token: $token" "$metadata/meta-data/$1"; }
fetch() { # FILE, into the folder of what is installed
	case $SOURCE in
	s3://*) aws s3 cp --only-show-errors "$SOURCE/$1" "$work/" ;;
	*) curl -sSfL -o "$work/${1##*/}" "$SOURCE/$1" ;;
	esac
}

case $(uname -m) in
x86_64) machine=x86_64-unknown-linux-musl ;;
aarch64) machine=aarch64-unknown-linux-musl ;;
*) echo "error: there is no binary for $(uname -m)" >&2 && exit 1 ;;
esac
fetch "dist/$machine/$ROLE"
fetch "deploy/enjambre-$ROLE.service"
fetch deploy/install.sh
if [ "$ROLE" = peer ]; then
	# An id that stays with the machine, and where it is: bytes within a zone are cheaper.
	id=$(about instance-id)
	zone=$(about placement/availability-zone)
	printf 'PEER_ID=%s\nENJAMBRE_ZONE=%s\n' "$id" "$zone" >"$work/host.env"
	echo "ENJAMBRE_TRACKER=$TRACKER" >"$work/fleet.env"
fi
sh "$work/install.sh" "$ROLE"
