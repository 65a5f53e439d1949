// Package integration holds the end-to-end tests: real processes on loopback, as an operator would run them.
//
// `make test` runs it; `go test ./integration -run TestX` runs one subject (integration/parts.sh must have run once). The
// package has no code of its own, all of it is tests:
//
//   - bin/anteroom and bin/anteroom-demo, started with a Caddyfile in a temporary folder, are the product under test. Nothing
//     is called in-process, so what passes here is what the binary does.
//   - The OpenID Providers are the certified npm package oidc-provider (op/op.mjs) and Keycloak (keycloak/), clients with access
//     tokens use npm's openid-client (op/client.mjs), the medical application is Orthanc as Debian packs it, the browser is
//     Chromium with a trust store of its own. parts.sh installs them.
//   - The dump backend reads raw bytes from a socket and keeps them, because net/http would tidy up what an attack is made of.
//     After each row of an attack table four invariants are checked against it: the path that was judged is the path that
//     arrived, each identity header is there once with the session's value or not at all, nothing protected was answered
//     without a session, and one request on the wire is at most one at the backend. See checkInvariants.
//
// Row ids (P4, H11, I8, M1, S3, K6 …) are those of the threat tables that DESIGN.md refers to; a subtest carries its row's id.
//
// No test waits for a fixed time for something to come: it asks until it is there, for a minute (patience). A bound that the product
// keeps, such as the second after which a sign-out holds everywhere, is held by a stopwatch, which gives on top what the machine
// made the tests wait for a processor.
//
// Everything listens on 127.0.0.1; a test fails when one of its processes listens anywhere else. Logs of the processes and
// screenshots are left in integration/artifacts/<test>/.
package integration
