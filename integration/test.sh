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
{
	status=0
	# shellcheck disable=SC2086
	go test -json -race -timeout 15m $packages || status=1
	go test -json -race -count=1 -parallel 6 -timeout 45m ./integration || status=1
	exit $status
} | "$testlines"
