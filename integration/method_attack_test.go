package integration

import (
	"strings"
	"testing"
)

// Table 4.4: methods that an application or a proxy answers without looking at who asks.
func TestMethodAttacks(t *testing.T) {
	r := newRig(t, standard)
	dana, ada := r.person(t, appHost, "dana"), r.person(t, appHost, "admin")
	own := r.authority(appHost)
	for _, method := range []string{"TRACE", "TRACK", "DEBUG", "PROPFIND", "FOO", strings.Repeat("A", 1000), "get", "Get", "gET", "post",
		"GET\t", "CONNECT", "PRI", "M-SEARCH", "HEAD\x00", ""} {
		for _, who := range []*session{nil, dana, ada} {
			for _, target := range []string{"/admin/x", "/public/x", "/members/x"} {
				t.Run("M1-M3 "+clip(method)+" "+target+" as "+name(who), func(t *testing.T) {
					extra := []string{"X-Canary: canary"}
					if who != nil {
						extra = append(extra, who.line())
					}
					e, got := r.attack(t, row{payload: request(method, target, own, "", extra...), who: who, want: []int{405, 400, 501}})
					if len(got) > 0 {
						t.Errorf("forwarded: %q", got[0].Head)
					}
					if strings.Contains(e.Raw, "canary") {
						t.Errorf("the answer echoes the request: %q", e.Raw)
					}
				})
			}
		}
	}
	// M4: HEAD is GET, and OPTIONS is a method like others: nothing is answered for somebody who may not.
	for _, test := range []struct {
		method, target string
		who            *session
		want           int
	}{
		{"HEAD", "/admin/x", nil, 401}, {"HEAD", "/admin/x", dana, 403}, {"HEAD", "/admin/x", ada, 200}, {"HEAD", "/public/x", nil, 200},
		{"OPTIONS", "/admin/x", nil, 401}, {"OPTIONS", "/admin/x", dana, 403}, {"OPTIONS", "/admin/x", ada, 200},
		{"HEAD", "/patients/pat/x", dana, 403}, {"POST", "/.well-known/x", dana, 403}, {"HEAD", "/.well-known/x", dana, 200},
	} {
		t.Run("M4 "+test.method+" "+test.target+" as "+name(test.who), func(t *testing.T) {
			var extra []string
			if test.who != nil {
				extra = append(extra, test.who.line())
			}
			a := row{payload: request(test.method, test.target, own, "", extra...), who: test.who, want: []int{test.want}}
			if test.want == 200 {
				a.targets = []string{test.target}
			}
			r.attack(t, a)
		})
	}
	t.Run("M4 preflight without a session", func(t *testing.T) {
		e, _ := r.attack(t, row{payload: request("OPTIONS", "/members/x", own, "", "Origin: https://evil.example", "Access-Control-Request-Method: POST"), want: []int{401, 403}})
		if strings.Contains(strings.ToLower(e.Raw), "access-control-allow") {
			t.Errorf("a foreign origin is allowed: %s", e.Raw)
		}
	})
	t.Run("M9 gRPC follows the same policy", func(t *testing.T) {
		r.attack(t, row{payload: request("POST", "/admin/pkg.Service/Method", own, "", dana.line(), "Content-Type: application/grpc", "TE: trailers", "Content-Length: 0"), who: dana, want: []int{403}})
	})
	t.Run("I12 method override", func(t *testing.T) {
		for _, header := range []string{"X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"} {
			r.attack(t, row{payload: request("POST", "/.well-known/x", own, "", dana.line(), header+": GET", "Content-Length: 0"), who: dana, want: []int{403}})
			r.attack(t, row{payload: get("/members/x", own, dana.line(), header+": DELETE"), targets: []string{"/members/x"}, who: dana, want: []int{200}})
		}
	})
}

// Requests from another site's page carry the person's cookies; old applications have no defence of their own.
func TestCrossOriginAttacks(t *testing.T) {
	r := newRig(t, standard)
	dana := r.person(t, appHost, "dana")
	own := r.authority(appHost)
	body := []string{dana.line(), "Content-Length: 0"}
	foreign := map[string][]string{
		"foreign origin":        {"Origin: https://evil.example"},
		"sibling host":          {"Origin: " + r.url(wideHost, "")},
		"null origin":           {"Origin: null"},
		"same host, other port": {"Origin: https://app.test:1"},
		"same host, plain":      {"Origin: http://" + own},
		"suffix":                {"Origin: https://" + own + ".evil.example"},
		"cross-site, no origin": {"Sec-Fetch-Site: cross-site"},
		"same-site, no origin":  {"Sec-Fetch-Site: same-site"},
		"fetch metadata lies":   {"Sec-Fetch-Site: cross-site", "Origin: https://" + own},
	}
	for id, extra := range foreign {
		for _, method := range []string{"POST", "PUT", "PATCH", "DELETE"} {
			t.Run("S14 "+method+" "+id, func(t *testing.T) {
				a := row{payload: request(method, "/members/x", own, "", append(extra, body...)...), who: dana, want: []int{403}}
				if id == "fetch metadata lies" {
					a.want = []int{403, 200}
					a.targets = []string{"/members/x"}
				}
				e, _ := r.attack(t, a)
				if strings.Contains(strings.ToLower(e.Raw), "access-control-allow") {
					t.Errorf("a foreign origin is allowed: %s", e.Raw)
				}
			})
		}
		t.Run("websocket "+id, func(t *testing.T) {
			if !strings.Contains(strings.Join(extra, ""), "Origin") || id == "fetch metadata lies" {
				return // a browser always sends Origin with a websocket handshake
			}
			r.attack(t, row{payload: get("/members/ws", own, append(extra, dana.line(), "Upgrade: websocket", "Connection: Upgrade",
				"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13")...), who: dana, want: []int{403}})
		})
	}
	for _, extra := range [][]string{{"Origin: https://" + own}, {"Sec-Fetch-Site: same-origin"}, {"Sec-Fetch-Site: none"}, nil} {
		t.Run("own "+strings.Join(extra, " "), func(t *testing.T) {
			r.attack(t, row{payload: request("POST", "/members/x", own, "", append(extra, body...)...), targets: []string{"/members/x"}, who: dana, want: []int{200}})
		})
	}
}

func clip(s string) string { return s[:min(len(s), 20)] }
