#!/bin/sh
# Installs what lies beside this script and differs from what is there, and starts services anew for that; as root, or
# by sudo. It says what it did; of what is missing here, it leaves what is there.
#
#   sh install.sh ROLE...       where a role is peer or tracker
#   sh install.sh --state       changes nothing, and says what there is
#
# DESTDIR=FOLDER is another root than /, for images.
set -eu
root=${DESTDIR-}

if [ "${1-}" = --state ]; then
	echo "machine $(uname -m)"
	for file in usr/local/bin/peer usr/local/bin/tracker etc/enjambre/fleet.env \
		etc/systemd/system/enjambre-peer.service etc/systemd/system/enjambre-tracker.service; do
		[ ! -f "$root/$file" ] || echo "file $(sha256sum <"$root/$file" | cut -d' ' -f1) /$file"
	done
	for role in peer tracker; do
		! systemctl is-active --quiet "enjambre-$role" || echo "runs $role"
	done
	exit
fi

[ "$(id -u)" = 0 ] || exec sudo -n sh "$0" "$@"
here=$(dirname "$0")
changed=

# put MODE FILE FOLDER ROLE
put() {
	to=$root$3/$2
	if [ ! -f "$here/$2" ] || cmp -s "$here/$2" "$to"; then return; fi
	mkdir -p "$root$3"
	# A program that runs cannot be written to, and its place is never empty.
	cp "$here/$2" "$to.new"
	chmod "$1" "$to.new"
	mv -f "$to.new" "$to"
	echo "installed $3/$2"
	changed="$changed $4"
}

for role in "$@"; do
	put 0755 "$role" /usr/local/bin "$role"
	put 0644 "enjambre-$role.service" /etc/systemd/system "$role"
done
put 0644 fleet.env /etc/enjambre peer
put 0644 host.env /etc/enjambre peer

command -v systemctl >/dev/null || exit 0
[ -z "$changed" ] || systemctl daemon-reload
for role in "$@"; do
	systemctl is-enabled --quiet "enjambre-$role" || systemctl enable --quiet "enjambre-$role"
	case "$changed " in
	*" $role "*) how=restart ;;
	*) how=start ;;
	esac
	if [ $how = restart ] || ! systemctl is-active --quiet "enjambre-$role"; then
		systemctl $how "enjambre-$role"
		echo "${how}ed enjambre-$role"
	fi
done
