package caddymodule

import "testing"

// identityAttacks set a header behind the gate by which an app knows people, from what a client has a hand in, or one of the gate's own.
var identityAttacks = map[string]string{
	"dots":                       toApp + " {; header_up Remote.User {header.X-Me}; }",
	"dots, a constant":           toApp + " {; header_up Remote.User admin; }",
	"lower case and underscore":  toApp + " {; header_up remote_user {header.X-Me}; }",
	"another separator":          toApp + " {; header_up Remote!User {header.X-Me}; }",
	"emergency":                  toApp + " {; header_up Anteroom-Emergency {header.X-Me}; }",
	"emergency, a constant":      toApp + " {; header_up anteroom_emergency yes; }",
	"assertion added":            toApp + " {; header_up +Anteroom.Assertion {header.X-Me}; }",
	"deferred":                   toApp + " {; header_up >Remote-User {header.X-Me}; }",
	"added":                      toApp + " {; header_up +Remote-Email {header.X-Me}; }",
	"every header replaced":      toApp + " {; header_up * doctor admin; }",
	"another name":               toApp + " {; header_up X-WEBAUTH-USER {header.X-Me}; }",
	"another name, underscore":   toApp + " {; header_up x_webauth_user {header.X-Me}; }",
	"by request_header":          "request_header X-Forwarded-User {header.X-Me}; " + toApp,
	"by the query":               toApp + " {; header_up X-Auth-Request-User {query.me}; }",
	"by a cookie":                toApp + " {; header_up X-Forwarded-Groups {cookie.groups}; }",
	"beside the right one":       toApp + " {; header_up X-WEBAUTH-USER {header.Remote-User}{header.X-Me}; }",
	"replaced in the right one":  toApp + " {; header_up X-WEBAUTH-USER {header.Remote-User}; header_up X-WEBAUTH-USER ^.*$ {header.X-Me}; }",
	"searched in the right one":  toApp + " {; header_up X-WEBAUTH-USER {header.X-Me} admin; }",
	"by vars":                    "handle {; vars me {header.X-Me}; " + toApp + " {; header_up X-WEBAUTH-USER {vars.me}; }; }",
	"by vars in front":           "vars me {header.X-Me}; " + toApp + " {; header_up X-WEBAUTH-USER {vars.me}; }",
	"by vars of vars":            "handle {; vars me {header.X-Me}; vars you {vars.me}; " + toApp + " {; header_up X-WEBAUTH-USER {vars.you}; }; }",
	"by map":                     "map {header.X-Me} {me} {; ~(.*) ${1}; }; " + toApp + " {; header_up X-WEBAUTH-USER {me}; }",
	"by a matcher":               "@m header_regexp m X-Me (.*); request_header @m X-WEBAUTH-USER {re.m.1}; " + toApp,
	"by one of two matchers":     "@a header_regexp m X-Me (.*); @b header_regexp m Remote-User (.*); request_header @a X-Other {re.m.1}; request_header @b X-WEBAUTH-USER {re.m.1}; " + toApp,
	"by a matcher of the path":   "@m path_regexp m ^/as/(.*)$; request_header @m X-WEBAUTH-USER {re.m.1}; " + toApp,
	"by an expression":           "@m expression header_regexp('m','X-Me','(.*)'); request_header @m X-WEBAUTH-USER {re.m.1}; " + toApp,
	"after an answer of the app": toApp + " {; @x status 404; handle_response @x {; reverse_proxy 127.0.0.1:10 {; header_up X-WEBAUTH-USER {header.X-Me}; }; }; }",
}

// TestIdentityHeadersBehind: whoever is signed in cannot tell the app that they are somebody else.
func TestIdentityHeadersBehind(t *testing.T) {
	b := newBench(t)
	for name, lines := range identityAttacks {
		t.Run(name, func(t *testing.T) {
			config, err := adapt(t, b.file("", gated("app.test:8443", lines)))
			b.refused(t, config, err, []string{"Caddyfile:", "header_up", "{header.Remote-User}"})
		})
	}
}

// TestIdentityHeadersPromised: what the documentation shows, and what an operator decides alone.
func TestIdentityHeadersPromised(t *testing.T) {
	b := newBench(t)
	for name, lines := range map[string]string{
		"X-WEBAUTH-USER":         toApp + " {; header_up X-WEBAUTH-USER {header.Remote-User}; }",
		"written in full":        toApp + " {; header_up X-WEBAUTH-USER {http.request.header.Remote-User}; }",
		"X-Forwarded-*":          toApp + " {; header_up X-Forwarded-User {header.Remote-User}; header_up X-Forwarded-Groups {header.Remote-Groups}; header_up X-Forwarded-Email {header.remote-email}; }",
		"X-Token-*":              toApp + " {; header_up X-Token-User-Email {header.Remote-Email}; }",
		"a part before it":       toApp + " {; header_up X-WEBAUTH-USER lab:{header.Remote-User}@{host}; }",
		"a constant":             toApp + " {; header_up X-WEBAUTH-ROLE viewer; header_up X-Auth-Realm {$ANTEROOM_TEST_NONE:lab}; }",
		"deleted":                toApp + " {; header_up -Remote-User; header_up -Remote-*; header_up -X-WEBAUTH-USER; }",
		"a part of it replaced":  toApp + " {; header_up X-WEBAUTH-USER {header.Remote-User}; header_up X-WEBAUTH-USER ^lab: \"\"; }",
		"a part of it by regexp": "@u header_regexp u Remote-User ^lab:(.*)$; handle @u {; " + toApp + " {; header_up X-WEBAUTH-USER {re.u.1}; }; }; respond 403",
		"the client's address":   toApp + " {; header_up X-Real-IP {client_ip}; header_up Remote-Addr {remote_host}; header_up X-Remote-Addr {client_ip}; }",
		"no identity":            toApp + " {; header_up X-Trace {header.X-Request-Id}; header_up Host {upstream_hostport}; header_up Authorization \"Basic {$ANTEROOM_TEST_NONE}\"; }",
		"a variable of its own":  "handle {; vars who {header.Remote-User}; vars lang {header.Accept-Language}; " + toApp + " {; header_up X-WEBAUTH-USER {vars.who}; header_up X-Lang {vars.lang}; }; }",
	} {
		t.Run(name, func(t *testing.T) {
			config, err := adapt(t, b.file("", gated("app.test:8443", lines)))
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
