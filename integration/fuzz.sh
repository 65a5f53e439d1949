#!/usr/bin/env bash
# Runs every fuzz target for FUZZTIME (10 s). The list below is the truth: a target that stands in the tree and not here
# fails the run, and so does one without committed seeds or one that did not fuzz at all.
set -euo pipefail
cd "$(dirname "$0")/.."
time=${FUZZTIME:-10s}

targets=(
	audit:FuzzString
	budget:FuzzWindow
	emergency:FuzzActive
	envelope:FuzzOpen
	envelope:FuzzRing
	envelope:FuzzStream
	gate:FuzzFrames
	gate:FuzzHeaderName
	gate:FuzzTarget
	hardening:FuzzCompatQuery
	hardening:FuzzFailures
	hardening:FuzzImport
	hardening:FuzzLines
	hardening:FuzzProtectRequest
	hardening:FuzzRecord
	hardening:FuzzRecordsRequest
	hardening:FuzzRingFile
	hardening:FuzzVerifyRequest
	identity/bearer:FuzzAuthorization
	identity/bearer:FuzzIntrospection
	identity/bearer:FuzzProof
	identity/issuer:FuzzKeySet
	identity/oidc:FuzzCallback
	identity/oidc:FuzzLogoutToken
	identity/oidc:FuzzTokenAnswer
	identity:FuzzClaimText
	jws:FuzzClaims
	jws:FuzzParse
	policy/condition:FuzzCondition
	policy:FuzzDecide
	policy:FuzzExpectation
	policy:FuzzPath
	policy:FuzzPathExceptions
	policy:FuzzPolicyLine
	policy:FuzzScope
	portal:FuzzDevice
	portal:FuzzEmergency
	portal:FuzzEndpoints
	portal:FuzzReturnTo
	rekey:FuzzOperation
	session:FuzzClaims
	session:FuzzFind
	store/redis:FuzzCursor
	store/redis:FuzzParseURL
	store/redis:FuzzPlace
)

fail() { echo "fuzz: $*" >&2; exit 1; }

found=$(grep -rEo --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' . | sed -E 's|^\./||; s|/[^/]+:func |:|' | sort)
listed=$(printf '%s\n' "${targets[@]}" | sort)
[ -n "$found" ] || fail "no fuzz target in the tree"
[ "$found" = "$listed" ] || { diff <(echo "$found") <(echo "$listed") >&2 || true; fail "the list in integration/fuzz.sh is not what the tree has (<: in the tree, >: in the list)"; }

fuzz() { CGO_ENABLED=0 go test "./$1" -run '^$' -fuzz "^$2\$" -fuzztime "$time" -fuzzminimizetime 1x 2>&1; }

# At the end of its time a run of Go's fuzzer often fails with a bare "context deadline exceeded" (golang/go#75804):
# no input failed then. A real finding names the input that it wrote, or a line of the test.
ended_by_its_deadline() {
	grep -q '^    context deadline exceeded$' <<<"$1" && ! grep -qE 'Failing input|panic|_test\.go:|fatal error' <<<"$1"
}

for target in "${targets[@]}"; do
	package=${target%%:*} name=${target##*:}
	seeds=$(find "$package/testdata/fuzz/$name" -type f 2>/dev/null | wc -l)
	[ "$seeds" -gt 0 ] || fail "$package $name has no seeds in $package/testdata/fuzz/$name"
	out=$(fuzz "$package" "$name") || ended_by_its_deadline "$out" || { echo "$out" >&2; fail "$package $name failed"; }
	last=$(grep 'fuzz: elapsed' <<<"$out" | tail -n 1) || { echo "$out" >&2; fail "$package $name did not run"; }
	echo "ok  	$package $name ($seeds seeds): $last"
done
