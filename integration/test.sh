#!/usr/bin/env bash
# All Go tests with the race detector: first the packages, then the end-to-end tests alone, because they measure time and
# start browsers. One summary at the end counts what passed and lists what was skipped.
set -euo pipefail
cd "$(dirname "$0")/.."
export CGO_ENABLED=1 # the race detector needs it

testlines=$(mktemp -d)/testlines
trap 'rm -rf "$(dirname "$testlines")"' EXIT
CGO_ENABLED=0 go build -o "$testlines" ./integration/testlines

packages=$(go list ./... | grep -v '/integration$')

# told runs go test and says behind its events how it ended. The verdict is that of testlines alone: a failure that passes
# when it is tried again must not end the run here.
told() {
	local code=0
	go test -json "$@" || code=$?
	printf '{"Action":"exit","Output":"%s"}\n' "$code"
}

{
	# shellcheck disable=SC2086
	told -race -timeout 20m $packages
	told -race -count=1 -parallel 6 -timeout 60m ./integration
} | "$testlines"
