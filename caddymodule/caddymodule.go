// Package caddymodule is the glue between Caddy and the packages that do the work. It translates
// a Caddyfile or JSON config into their Config structs, ties their life to Caddy's, and refuses
// configs in which they could be bypassed. It decides nothing about a request itself.
//
// What it registers:
//
//   - the app "anteroom" (app.go) and its global option (global.go): ways to sign in, store, audit log,
//     lifetimes;
//   - the handler "http.handlers.anteroom" and the site directive "anteroom" (site.go, site_caddyfile.go): the gate in
//     front of one site, with the pages under /.anteroom/; its rules are judged in site_policy.go;
//   - the handlers "http.handlers.hmac_service" (hmac.go) and "http.handlers.envelope_service" (envelope_service.go) for
//     applications on the same host;
//   - "anteroom.identity.oidc" (identity_oidc.go), "anteroom.store.bolt" and "anteroom.store.redis" (store_bolt.go,
//     store_redis.go), and "caddy.storage.anteroom_redis" for certificates (storage_redis.go);
//   - the admin API below /anteroom/ (admin.go), metrics (metrics.go), and the commands sessions, keys,
//     review, policy, doctor and explain.
//
// What must hold, whatever order Caddy provisions apps in (it is random):
//
//   - A server that carries one of our handlers speaks TLS 1.3 only, checks that SNI and Host agree and
//     takes no early data (tls.go). Each handler raises its own server while it is provisioned, which
//     is before that server's connection policies are built.
//   - In a gated site nothing answers, proxies or rewrites before the gate, nothing rewrites after
//     it, and no error route proxies (routes.go). What is judged is what the app receives.
//   - Provision and Validate touch no network and no lock: `validate` works beside a running
//     instance. Start opens the store and the audit log (pool.go); until then the gate answers 503.
//
// Trust: the config's author is trusted, its readers are not; secrets are named by placeholders and
// resolved here, never written back into the config.
package caddymodule

import (
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
)

func init() {
	if caddy.CustomBinaryName == "" { // help texts name the program as the README does
		caddy.CustomBinaryName = "anteroom"
	}
	caddy.RegisterModule(&App{})
	caddy.RegisterModule(&Site{})
	caddy.RegisterModule(&OIDC{})
	caddy.RegisterModule(&Bolt{})
	caddy.RegisterModule(&Redis{})
	caddy.RegisterModule(&RedisStorage{})
	caddy.RegisterModule(&MasterLocal{})
	caddy.RegisterModule(&MasterAWSKMS{})

	httpcaddyfile.RegisterGlobalOption("anteroom", parseGlobal)
	httpcaddyfile.RegisterDirective("anteroom", parseSite)
	// Before redir: after header, request_body and the log directives, before everything that
	// answers or changes the path. Later than that, policy would judge a rewritten path.
	httpcaddyfile.RegisterDirectiveOrder("anteroom", httpcaddyfile.Before, "redir")
}
