package caddymodule

import (
	"encoding/json"
	"strings"
	"testing"
)

// gated is a site with the gate and more lines in it, and what stands around it.
func gated(address, inner string) string {
	return address + " {\n\tTLS\n\tanteroom {\n\t\tallow role doctor\n\t}\n\t" + strings.ReplaceAll(inner, "; ", "\n\t") + "\n}\n"
}

func open(address, inner string) string {
	return address + " {\n\tTLS\n\t" + strings.ReplaceAll(inner, "; ", "\n\t") + "\n}\n"
}

const (
	toApp    = "reverse_proxy 127.0.0.1:9"
	someGate = "anteroom {; allow role doctor; }"
)

// attacks are configs that once loaded although they let somebody round the gate, past TLS 1.3, or at
// what only the gate may say or see.
var attacks = []struct {
	name, more, sites string
	want              []string
}{
	{"the app answers before the gate: handle_response", "", open("app.test:8443", toApp+" {; handle_response {; "+someGate+"; copy_response; }; }"), []string{"Caddyfile:", "handle_response", "top level"}},
	{"the app answers before the gate: intercept", "", open("app.test:8443", toApp+"; intercept {; handle_response {; "+someGate+"; }; }"), []string{"Caddyfile:", "top level"}},
	{"a gate that only errors meet", "", open("app.test:8443", toApp+"; handle_errors {; "+someGate+"; respond sorry; }"), []string{"Caddyfile:", "handle_errors", "top level"}},
	{"a second gate that only errors meet", "", gated("app.test:8443", toApp+"; handle_errors {; "+someGate+"; respond sorry; }"), []string{"Caddyfile:", "handle_errors", "top level"}},
	// A request that names another site in its handshake is refused by Caddy before the gate, and
	// the error routes run with the path that it asked for.
	{"error routes serve what was asked for", "", gated("app.test:8443", "root * DIR; file_server; handle_errors {; root * DIR; file_server; }"), []string{"app.test", "file_server", "rewrite * /"}},
	{"error routes try what was asked for", "", gated("app.test:8443", toApp+"; handle_errors {; try_files {path} /sorry.html; file_server; }"), []string{"app.test", "file_server"}},
	{"error routes rewrite to what was asked for", "", gated("app.test:8443", toApp+"; handle_errors {; rewrite * /x{uri}; file_server; }"), []string{"app.test", "file_server"}},
	{"error routes rewrite some errors only", "", gated("app.test:8443", toApp+"; handle_errors {; @404 expression {err.status_code} == 404; rewrite @404 /404.html; file_server; }"), []string{"app.test", "file_server"}},
	{"error routes try a default", "", gated("app.test:8443", toApp+"; handle_errors {; @f file; handle @f {; rewrite {file_match.relative}; file_server; }; }"), []string{"app.test", "file_server"}},
	{"international name in error routes", "", gated("bücher.test:8443", toApp+"; handle_errors {; "+toApp+"; }"), []string{"handle_errors"}},
	{"plain HTTP twin with the same files", "", gated("app.test:8443", "root * DIR; file_server") + "http://app.test:8080 {\n\troot * DIR\n\tfile_server\n}\n", []string{"app.test", "outside the gate"}},
	{"HTTPS twin with the same files", "", gated("app.test:8443", "root * DIR; file_server") + open("app.test:9443", "root * DIR; file_server"), []string{"app.test", "outside the gate"}},
	{"error route on another port", "", gated("app.test:8443", toApp) + open("app.test:9443", "error 404; handle_errors {; "+toApp+"; }"), []string{"app.test", "handle_errors"}},
	{"catch-all beside it, host matched inside", "", gated("app.test:8443", toApp) + open(":9443", "@a host app.test; handle @a {; "+toApp+"; }"), []string{"app.test", "outside the gate"}},
	{"catch-all beside it, international host inside", "", gated("bücher.test:8443", toApp) + open(":9443", "@a host bücher.test; handle @a {; "+toApp+"; }"), []string{"outside the gate"}},
	{"request headers before the gate", "\torder request_header before anteroom\n", gated("app.test:8443", "request_header -Origin; "+toApp), []string{"Caddyfile:", "headers", "stands before"}},
	{"identity by request_header", "", gated("app.test:8443", "request_header Remote-User {header.X-Me}; "+toApp), []string{"Caddyfile:", "Remote-User"}},
	{"identity by header_up", "", gated("app.test:8443", toApp+" {; header_up Remote-User {header.X-Me}; }"), []string{"Caddyfile:", "Remote-User"}},
	{"identity by another spelling", "", gated("app.test:8443", "route {; "+toApp+" {; header_up +remote_groups admin; }; }"), []string{"Caddyfile:", "Remote_groups"}},
	{"identity replaced", "", gated("app.test:8443", toApp+" {; header_up Remote-User ^.*$ admin; }"), []string{"Caddyfile:", "Remote-User"}},
	{"session cookies by vars", "", gated("app.test:8443", "vars c {header.Cookie}; "+toApp+" {; header_up X-C {vars.c}; }"), []string{"Caddyfile:", "cookie"}},
	{"session cookies by map", "", gated("app.test:8443", "map {cookie.__Host-anteroom} {c} {; default x; }; "+toApp), []string{"Caddyfile:", "cookie"}},
	{"session cookies by header", "", gated("app.test:8443", "header X-C {header.cookie}; "+toApp), []string{"Caddyfile:", "cookie"}},
	{"client address by vars", "", gated("app.test:8443", "vars client_ip {header.X-Real-IP}; "+toApp), []string{"Caddyfile:", "client_ip", "trusted_proxies"}},
	{"forwarded headers of anybody by vars", "", gated("app.test:8443", "vars trusted_proxy true; "+toApp), []string{"Caddyfile:", "trusted_proxy", "trusted_proxies"}},
	{"forwarded headers of anybody by vars, behind", "", gated("app.test:8443", "handle {; vars trusted_proxy true; "+toApp+"; }"), []string{"Caddyfile:", "trusted_proxy"}},
	{"client address by vars, behind", "", gated("app.test:8443", "handle {; vars client_ip {header.X-Real-IP}; "+toApp+"; }"), []string{"Caddyfile:", "client_ip"}},
	{"client address by a name that the client chooses", "", gated("app.test:8443", "vars {header.X-Name} {header.X-Value}; "+toApp), []string{"Caddyfile:", "trusted_proxies"}},
	{"session cookies by a matcher", "", gated("app.test:8443", "@c header_regexp c Cookie (.*); vars @c all {re.c.1}; "+toApp+" {; header_up X-C {vars.all}; }"), []string{"Caddyfile:", "cookie"}},
	{"session cookies by a matcher of a variable", "", gated("app.test:8443", "@c vars_regexp c {header.Cookie} (.*); header @c X-C {re.c.1}; "+toApp), []string{"Caddyfile:", "cookie"}},
	{"files of a folder that the path chooses twice", "", gated("app.test:8443", "root * DIR{path}; file_server"), []string{"Caddyfile:", "root"}},
	{"files of a folder that the query chooses", "", gated("app.test:8443", "handle {; root * DIR/{query.d}; file_server; }"), []string{"Caddyfile:", "root"}},
	{"files of a folder that a header chooses", "", gated("app.test:8443", "file_server {; root DIR/{header.X-Dir}; }"), []string{"Caddyfile:", "file_server"}},
	{"an index that the query chooses", "", gated("app.test:8443", "root * DIR; file_server {; index {query.i}; }"), []string{"Caddyfile:", "file_server"}},
	{"error routes in a folder that was asked for", "", gated("app.test:8443", toApp+"; handle_errors {; root * DIR{path}; rewrite * /index.html; file_server; }"), []string{"app.test", "root"}},
	{"error routes in a folder of a header", "", gated("app.test:8443", toApp+"; handle_errors {; rewrite * /e.html; file_server {; root DIR/{header.X-Dir}; }; }"), []string{"app.test", "file_server"}},
	// `vars` and matchers in front of the gate see the headers as the client wrote them.
	{"identity of the client's choice by vars", "", gated("app.test:8443", "vars who {header.Remote-User}; "+toApp+" {; header_up X-WEBAUTH-USER {vars.who}; }"), []string{"Caddyfile:", "Remote-User", "handle"}},
	{"identity of the client's choice by a matcher", "", gated("app.test:8443", "@a header Remote-Groups *admin*; vars @a admin yes; "+toApp+" {; header_up X-Admin {vars.admin}; }"), []string{"Caddyfile:", "Remote-Groups"}},
	{"identity of the client's choice by an expression", "", gated("app.test:8443", "@a expression {header.remote-groups}.contains('admin'); vars @a admin yes; "+toApp), []string{"Caddyfile:", "remote-groups"}},
	{"identity of the client's choice by map and vars", "", gated("app.test:8443", "map {header.Remote-User} {who} {; ~(.*) ${1}; }; vars me {who}; "+toApp), []string{"Caddyfile:", "who"}},
	{"identity of the client's choice in the log", "", gated("app.test:8443", "log_append <who {header.Remote-User}; "+toApp), []string{"Caddyfile:", "Remote-User"}},
	{"folder of the client's choice", "", gated("app.test:8443", "root * DIR/{header.Remote-User}; file_server"), []string{"Caddyfile:", "Remote-User"}},
	{"session cookies by a matcher in an expression", "", gated("app.test:8443", "@c expression header_regexp('c','Cookie','(.*)'); vars @c all {re.c.1}; "+toApp), []string{"Caddyfile:", "cookie"}},
	{"forward_auth", "", gated("app.test:8443", "forward_auth 127.0.0.1:9 {; uri /auth; }; "+toApp), []string{"Caddyfile:", "forward_auth"}},
	{"an address that no client names in its handshake", "", gated("https://127.0.0.1:8443", toApp), []string{"Caddyfile:", "127.0.0.1", "localhost"}},
}

// TestAttackedConfigs: none of them loads, in whatever order Caddy provisions its apps.
func TestAttackedConfigs(t *testing.T) {
	b := newBench(t)
	for _, c := range attacks {
		t.Run(c.name, func(t *testing.T) {
			config, err := adapt(t, b.file(c.more, c.sites))
			b.refused(t, config, err, c.want)
		})
	}
}

// refused validates a config several times.
func (b bench) refused(t *testing.T, config []byte, err error, want []string) {
	t.Helper()
	for range rounds {
		err := err
		if err == nil {
			err = validate(t, config)
		}
		if err == nil {
			t.Fatal("it loads")
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Fatalf("the message lacks %q:\n%v", w, err)
			}
		}
	}
}

// TestAttackedJSON: what only raw JSON can say. Each case is the list of routes of one server.
func TestAttackedJSON(t *testing.T) {
	const gate = `{"handler":"anteroom","rules":[{"words":["allow","role","doctor"]}]}`
	const proxy = `{"handler":"reverse_proxy","upstreams":[{"dial":"127.0.0.1:9"}]}`
	const app = `"match":[{"host":["app.test"]}]`
	b := newBench(t)
	whole, err := adapt(t, b.file("", gated("app.test:8443", toApp)))
	if err != nil {
		t.Fatal(err)
	}
	with := func(routes string) []byte {
		var cfg map[string]any
		if err := json.Unmarshal(whole, &cfg); err != nil {
			t.Fatal(err)
		}
		srv := cfg["apps"].(map[string]any)["http"].(map[string]any)["servers"].(map[string]any)["srv0"].(map[string]any)
		srv["routes"] = json.RawMessage(routes)
		out, err := json.Marshal(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	for name, c := range map[string]struct {
		routes string
		want   []string
	}{
		"a matcher set without a host":      {`[{"match":[{"path":["/x"]},{"host":["other.test"]}],"handle":[` + proxy + `]},{` + app + `,"handle":[` + gate + `,` + proxy + `],"terminal":true}]`, []string{"app.test", "outside the gate"}},
		"a matcher set without a host, own": {`[{"match":[{"path":["/x"]},{"host":["app.test"]}],"handle":[` + gate + `,` + proxy + `],"terminal":true}]`, []string{"srv0.routes[0]", "names its hosts"}},
		"a rewrite in the next route":       {`[{` + app + `,"handle":[` + gate + `]},{"handle":[{"handler":"rewrite","uri":"/x"},` + proxy + `]}]`, []string{"srv0.routes[0]", "srv0.routes[1]", "host of its own"}},
		"a group that skips the gate":       {`[{"group":"g","match":[{"path":["/x"]}],"handle":[{"handler":"vars","a":"b"}]},{"group":"g",` + app + `,"handle":[` + gate + `]},{"handle":[` + proxy + `]}]`, []string{"srv0.routes[1]", "group"}},
		"a host that changes on the way":    {`[{` + app + `,"handle":[{"handler":"headers","request":{"set":{"Host":["other.test"]}}}]},{` + app + `,"handle":[` + gate + `]},{"handle":[` + proxy + `]}]`, []string{"app.test", "outside the gate"}},
		"proxy in a subroute's errors":      {`[{` + app + `,"handle":[{"handler":"subroute","routes":[{"handle":[` + gate + `]}],"errors":{"routes":[{"handle":[` + proxy + `]}]}}],"terminal":true}]`, []string{"handle_errors"}},
		"gate in a subroute's errors":       {`[{` + app + `,"handle":[{"handler":"subroute","routes":[{"handle":[` + proxy + `]}],"errors":{"routes":[{"handle":[` + gate + `]}]}}],"terminal":true}]`, []string{"handle_errors", "top level"}},
		"a negated host":                    {`[{"match":[{"not":[{"host":["other.test"]}]}],"handle":[` + proxy + `]},{` + app + `,"handle":[` + gate + `],"terminal":true}]`, []string{"app.test", "outside the gate"}},
	} {
		t.Run(name, func(t *testing.T) { b.refused(t, with(c.routes), nil, c.want) })
	}
}

// TestAttackedButHarmless: the rules above must not catch what people write for good reason.
func TestAttackedButHarmless(t *testing.T) {
	b := newBench(t)
	for name, sites := range map[string]string{
		"error pages":               gated("app.test:8443", toApp+"; handle_errors {; rewrite * /{err.status_code}.html; root * DIR; file_server; }"),
		"error pages by status":     gated("app.test:8443", toApp+"; handle_errors 404 {; rewrite * /404.html; file_server; }; handle_errors {; respond {err.status_code}; }"),
		"error pages, two of them":  gated("app.test:8443", toApp+"; handle_errors {; @404 expression {err.status_code} == 404; rewrite @404 /404.html; rewrite /sorry.html; file_server; }"),
		"error pages that exist":    gated("app.test:8443", toApp+"; handle_errors {; @f file /{err.status_code}.html /sorry.html; handle @f {; rewrite {file_match.relative}; file_server; }; respond sorry; }"),
		"redirect from plain HTTP":  gated("app.test:8443", toApp) + "http://app.test:8080 {\n\tredir https://app.test:8443{uri}\n}\n",
		"files for everybody else":  gated("app.test:8443", toApp) + "http://:8080 {\n\troot * DIR\n\tfile_server\n}\n",
		"identity under other name": gated("app.test:8443", toApp+" {; header_up X-WEBAUTH-USER {header.Remote-User}; header_up -Remote-Email; header_up Cookie lang=de; }"),
		"a folder for each host":    gated("app.test:8443", "root * DIR/{host}; file_server"),
		"identity in the log":       gated("app.test:8443", "log_append who {header.Remote-User}; "+toApp),
		"identity by map":           gated("app.test:8443", "map {header.Remote-Groups} {kind} {; ~doctor staff; default other; }; "+toApp+" {; header_up X-Kind {kind}; }"),
		"identity by vars, behind":  gated("app.test:8443", "handle {; vars who {header.Remote-User}; "+toApp+" {; header_up X-WEBAUTH-USER {vars.who}; }; }"),
		"a header by a matcher":     gated("app.test:8443", "@l header_regexp l Accept-Language ^(de); vars @l lang {re.l.1}; "+toApp),
		"a cookie behind the gate":  gated("app.test:8443", "handle {; @c header_regexp c Cookie lang=([a-z]+); vars @c lang {re.c.1}; "+toApp+"; }"),
		"other cookies":             gated("app.test:8443", "vars lang {cookie.lang}; "+toApp),
		"wildcard on another port":  gated("app.test:8443", toApp) + open("*.test:9443", "@w host wiki.test; handle @w {; "+toApp+"; }"),
		"gate in a named route":     "&(g) {\n\tanteroom {\n\t\tallow any\n\t}\n\t" + toApp + "\n}\n" + open("app.test:8443", "invoke g") + open("other.test:8443", "invoke g"),
		"gate in a route":           open("app.test:8443", "route {; "+someGate+"; "+toApp+"; }"),
		"address beside a name":     gated("https://localhost:8443, https://127.0.0.1:8443", toApp),
		"catch-all after it":        gated("app.test:8443", toApp) + open(":8443", toApp),
		"unix socket":               gated("app.test:8443", "bind unix/DIR/s.sock; "+toApp),
	} {
		t.Run(name, func(t *testing.T) {
			config, err := adapt(t, b.file("", sites))
			if err != nil {
				t.Fatal(err)
			}
			for range rounds {
				if err := validate(t, config); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestCredentialsStayOutOfLogs: Caddy logs a request as it came, before the gate takes the session's
// cookies out of it.
func TestCredentialsStayOutOfLogs(t *testing.T) {
	b := newBench(t)
	config, err := adapt(t, b.file("\tservers {\n\t\tlog_credentials\n\t}\n", gated("app.test:8443", "log; "+toApp)))
	if err != nil {
		t.Fatal(err)
	}
	for name, srv := range run(t, config).Servers {
		if srv.Logs == nil || srv.Logs.ShouldLogCredentials {
			t.Errorf("%s logs credentials: %+v", name, srv.Logs)
		}
	}
}
