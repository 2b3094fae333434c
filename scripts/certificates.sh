#!/bin/sh
# Makes a swarm's own certificates: ca.crt and ca.key once, then for each HOST HOST.crt and HOST.key. Run it again for more
# hosts, or for the same ones when their time comes to its end. ca.key makes members: keep it where nothing else runs.
# usage: [FOLDER=certificates] [DAYS=825] certificates.sh HOST...
# A HOST is a name or an address, or several of one machine with commas between: the first one names its files.
set -eu
umask 077
[ $# -gt 0 ] || { echo "usage: [FOLDER=certificates] [DAYS=825] $0 HOST..., as $0 tracker,10.0.0.1 10.0.0.2" >&2; exit 2; }
command -v openssl >/dev/null || { echo 'openssl is missing: install the package openssl' >&2; exit 1; }
folder=${FOLDER:-certificates} days=${DAYS:-825}
mkdir -p "$folder"
new=$(mktemp -d "$folder/.new.XXXXXX")
trap 'rm -rf "$new"' EXIT

# openssl is talkative, so what it says is shown only when it fails.
quietly() { # COMMAND...
	"$@" >"$new/said" 2>&1 || { cat "$new/said" >&2; exit 1; }
}
key() { # FILE
	quietly openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1"
}
# Files appear whole: whoever reads them meanwhile has the old ones or the new ones.
publish() { # NAME
	chmod 644 "$new/$1.crt"
	mv "$new/$1.key" "$new/$1.crt" "$folder/"
}

if [ ! -e "$folder/ca.key" ]; then
	key "$new/ca.key"
	cat >"$new/ca.conf" <<-END
		[req]
		distinguished_name = name
		x509_extensions = extensions
		prompt = no
		[name]
		CN = Enjambre swarm $(openssl rand -hex 8)
		[extensions]
		basicConstraints = critical, CA:TRUE, pathlen:0
		keyUsage = critical, keyCertSign, cRLSign
		subjectKeyIdentifier = hash
	END
	quietly openssl req -new -x509 -sha256 -days 3650 -config "$new/ca.conf" -key "$new/ca.key" -out "$new/ca.crt"
	publish ca
fi

for host; do
	case $host in *[!A-Za-z0-9._:,-]*) echo "\"$host\" is no host: give each as a word of its own" >&2; exit 2 ;; esac
	name=${host%%,*} names=DNS:peer.enjambre.internal
	for other in $(echo "$host" | tr , ' '); do
		case $other in
		*[!A-Za-z0-9._:-]* | -*) echo "$other is no name and no address" >&2; exit 2 ;;
		*:*) names=$names,IP:$other ;;
		*[!0-9.]*) names=$names,DNS:$other ;;
		*.*.*.*) names=$names,IP:$other ;;
		*) names=$names,DNS:$other ;;
		esac
	done
	case $name in '' | ca) echo "\"$name\" is no host" >&2; exit 2 ;; esac
	key "$new/$name.key"
	cat >"$new/host.conf" <<-END
		[req]
		distinguished_name = name
		prompt = no
		[name]
		CN = $(echo "$name" | cut -c 1-64)
		[extensions]
		basicConstraints = critical, CA:FALSE
		keyUsage = critical, digitalSignature
		extendedKeyUsage = serverAuth
		subjectKeyIdentifier = hash
		authorityKeyIdentifier = keyid
		subjectAltName = $names
	END
	quietly openssl req -new -config "$new/host.conf" -key "$new/$name.key" -out "$new/host.csr"
	quietly openssl x509 -req -sha256 -days "$days" -set_serial "0x$(openssl rand -hex 16)" -in "$new/host.csr" \
		-CA "$folder/ca.crt" -CAkey "$folder/ca.key" -extfile "$new/host.conf" -extensions extensions -out "$new/$name.crt"
	publish "$name"
	echo "--tls-cert $folder/$name.crt --tls-key $folder/$name.key --tls-ca $folder/ca.crt"
done
