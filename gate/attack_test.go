package gate

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/session"
)

// TestPathAttack is part 4.1 of the bypass tables over the wire: nobody's ambiguous path gets to the app, an administrator's neither.
func TestPathAttack(t *testing.T) {
	r := newRig(t)
	people := map[string]*person{"nobody": nil, "dana": r.dana(), "admin": r.admin()}
	for id, targets := range map[string][]string{
		"P1":    {"//admin/x", "/public//admin", "///admin", "//", "/public/x//", "//evil.example/admin"},
		"P2":    {"/./admin", "/public/./../admin", "/public/../admin", "/..", "/public/..", "/public/."},
		"P3":    {"/public/%2e%2e/admin", "/public/%2E%2E/admin", "/public/.%2e/admin", "/public/%2e./admin"},
		"P4":    {"/public/..%2fadmin", "/public/..%2Fadmin", "/public%2fa", "/public/..%5cadmin", `/public/..\admin`, "/public%5cadmin", "/admin%2f"},
		"P6":    {"/public/..;/admin", "/admin;x=1", "/;/admin", "/public;/../admin", "/user/..;foo=bar/admin", "/public/x;jsessionid=1", "/public%3b/x"},
		"P8":    {"/admin%00", "/admin%0a", "/admin%0d%0aX:y", "/admin%20", "/admin%09", "/admin.", "/admin%2e", "/admin/.", "/admin/%2e", "/public/..%00/admin", "/public/..%20/admin", "/public/...//admin"},
		"P9":    {"/public/%c0%ae%c0%ae/admin", "/public/%c0%af", "/public/%e0%80%af", "/public/%u002e", "/public/\xc3\xa9", "/public/%ff"},
		"P11":   {"/admin#x", "/admin%23x", "/admin%3fx", "/public/x#", "/public/x?a#b", "/admin%23/public", "/a#/../admin"},
		"P12":   {"/public/%zz", "/public/%", "/public/%4", "/%zz"},
		"P13":   {"admin", "*"},
		"P14":   {"http://evil.example/admin", "https://evil.example/public/x", "http://" + site + "/public/x", "https://" + site + "/admin/x", "https://" + site + "@evil.example/admin", "file:///admin", "https:/public/x"},
		"P17":   {"/public../admin"},
		"P18":   {"/public/%25", "/public/%252e%252e/admin", "/public/..%252fadmin"},
		"P19":   {"/admin/x;.css", "/admin/%2f.css"},
		"pchar": {"/public/<", "/public/\"", "/public/^", "/public/`", "/public/{x}", "/public/a|b"},
	} {
		for _, target := range targets {
			for name, who := range people {
				t.Run(fmt.Sprintf("%s %q as %s", id, target, name), func(t *testing.T) {
					want := []int{400}
					if id == "P14" {
						want = []int{400, 421} // the authority is not the one of the handshake
					}
					if _, got := r.attack(t, row{raw: request("GET", target, who), who: who, want: want}); len(got) > 0 {
						t.Errorf("the app received %q", got[0].Target)
					}
				})
			}
		}
	}
}

// Paths with one meaning go on byte for byte, with their query, and the query decides nothing.
func TestPathUnchanged(t *testing.T) {
	r := newRig(t)
	admin := r.admin()
	for _, target := range []string{
		"/", "/?", "/?x=1", "/public", "/public/", "/public/a%20b", "/public/%C3%A9", "/public/%c3%a9", "/public/a:b", "/public/@me", "/public/~x", "/public/a+b", "/public/%41",
		"/public/a.b..c", "/public/.well-known/x", "/public/!$&'()*,=", "/public/[x]", "/public/%5Bx%5d", "/public/%7e", "/public/%22", "/public/x?%zz", "/public/x?a=b&c=//d/../e%2f;x",
		"/public/x??y", "/public/x?next=https://evil.example/%00", "/public/" + strings.Repeat("a", 4000), "/admin/%2A", "/admin/*", "/admin", "/admin?/../public", "/admin/x?y=/public/",
	} {
		for name, who := range map[string]*person{"nobody": nil, "admin": admin} {
			if who == nil && strings.HasPrefix(target, "/admin") {
				continue
			}
			t.Run(fmt.Sprintf("%.40s as %s", target, name), func(t *testing.T) {
				if _, got := r.attack(t, row{raw: request("GET", target, who), target: target, who: who, want: []int{200}}); len(got) != 1 {
					t.Errorf("the app received %d requests", len(got))
				}
			})
		}
	}
}

// Near misses are denied and not guessed at.
func TestPathNearMiss(t *testing.T) {
	r := newRig(t)
	dana := r.dana()
	for id, targets := range map[string][]string{
		"P7":  {"/ADMIN", "/Admin/x", "/PUBLIC/x", "/%61dmin", "/%70ublic/x"},
		"P11": {"/admin?", "/admin?x=/public", "/admin?/../public/x"},
		"P17": {"/publicx", "/admin-old", "/adminx", "/members.old/x"},
		"P19": {"/admin/", "/admin.json", "/admin/x.css", "/admin.css"},
		"167": {"/new", "/favicon.ico", "/own/root/x", "/own/DANA/x", "/members/CLOSED/x", "/members/%63losed/x"},
	} {
		for _, target := range targets {
			t.Run(id+" "+target, func(t *testing.T) {
				r.attack(t, row{raw: request("GET", target, nil), want: []int{401}})
				r.attack(t, row{raw: request("GET", target, dana), who: dana, want: []int{403}})
			})
		}
	}
	r.attack(t, row{raw: request("GET", "/own/d%61na/x", dana), target: "/own/d%61na/x", who: dana, want: []int{200}})
}

// P22: whatever ran before the gate and changed the path is found out.
func TestP22RewrittenBefore(t *testing.T) {
	r := newRig(t)
	for name, rewrite := range map[string]func(*http.Request){
		"path":         func(q *http.Request) { q.URL.Path = "/admin/x" },
		"raw path":     func(q *http.Request) { q.URL.RawPath = "/public%2fx" },
		"query":        func(q *http.Request) { q.URL.RawQuery = "x=2" },
		"query lost":   func(q *http.Request) { q.URL.RawQuery = "" },
		"host":         func(q *http.Request) { q.URL.Host = "evil.example" },
		"opaque":       func(q *http.Request) { q.URL.Opaque = "//evil.example/x" },
		"user":         func(q *http.Request) { q.URL.User = url.User("x") },
		"fragment":     func(q *http.Request) { q.URL.Fragment = "x" },
		"no target":    func(q *http.Request) { q.RequestURI = "" },
		"other target": func(q *http.Request) { q.RequestURI = "/public/y?x=1" },
	} {
		never := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Errorf("%s: the app was reached", name) })
		if w := direct(r.gate, "GET", "/public/x?x=1", rewrite, never); w.Code != 400 {
			t.Errorf("%s: %d", name, w.Code)
		}
	}
	if w := direct(r.gate, "GET", "/public/x", func(q *http.Request) { q.URL.ForceQuery = true }, nil); w.Code != 400 {
		t.Errorf("question mark added: %d", w.Code)
	}
}

// P23: what the gate refuses may meet an error route; nothing that a stranger wrote is left for it.
func TestP23NothingLeftForErrorRoutes(t *testing.T) {
	r := newRig(t)
	dana := r.dana()
	for name, target := range map[string]string{"forbidden": "/admin/x", "ambiguous": "/a%2fb", "no transport": "/public/x"} {
		var seen *http.Request
		direct(r.gate, "GET", target, func(q *http.Request) {
			q.Header = http.Header{"Cookie": {dana.cookie}, "Remote-User": {"root"}, "X_Remote_User": {"root"}, "Proxy": {"http://evil"}, "Connection": {"close, Remote-User"}}
			if name == "no transport" {
				q.TLS = nil
			}
			seen = q
		}, nil)
		for h := range seen.Header {
			if isSpoofable(h) {
				t.Errorf("%s: %s is left", name, h)
			}
		}
		if strings.Contains(strings.Join(seen.Header["Connection"], ","), "emote") {
			t.Errorf("%s: Connection %q", name, seen.Header["Connection"])
		}
	}
}

// TestMethodAttack is part 4.4 as far as one request decides it.
func TestMethodAttack(t *testing.T) {
	r := newRig(t)
	dana := r.dana()
	for id, methods := range map[string][]string{
		"M1": {"TRACE"}, "M2": {"TRACK", "DEBUG", "CONNECT", "PROPFIND", "FOO", strings.Repeat("A", 1000)}, "M3": {"get", "Get", "gET", "trace", "connect", "GET1", "G-T"},
	} {
		for _, method := range methods {
			for name, who := range map[string]*person{"nobody": nil, "dana": dana} {
				for _, target := range []string{"/public/x", "/members/x", "/.anteroom/login"} {
					t.Run(fmt.Sprintf("%s %.20s %s as %s", id, method, target, name), func(t *testing.T) {
						want := []int{405}
						if method == "CONNECT" {
							want = []int{400, 405}
						}
						replies, got := r.attack(t, row{raw: request(method, target, who, "X-Echo: mirror"), who: who, want: want})
						if len(got) > 0 {
							t.Errorf("the app received %q", got[0].Method)
						}
						for _, reply := range replies {
							if reply.StatusCode == 405 && reply.Header.Get("Allow") == "" || strings.Contains(reply.body, "mirror") || strings.Contains(reply.body, "__Host") {
								t.Errorf("answer %v %s", reply.Header, reply.body)
							}
						}
					})
				}
			}
		}
	}
	t.Run("P16 CONNECT authority", func(t *testing.T) {
		r.attack(t, row{raw: request("CONNECT", site+":443", dana), who: dana, want: []int{405}})
	})
	t.Run("M2 a method with a tab", func(t *testing.T) {
		r.attack(t, row{raw: request("GET\t", "/members/x", dana), who: dana, want: []int{400, 405}})
	})
	t.Run("P13 OPTIONS *", func(t *testing.T) { // net/http answers by itself, without session, app or identity
		replies := r.send(request("OPTIONS", "*", dana))
		if got := r.take(); len(replies) != 1 || replies[0].StatusCode != 200 || replies[0].body != "" || len(got) > 0 {
			t.Errorf("%+v, received %+v", replies, got)
		}
	})
	t.Run("M2 listed", func(t *testing.T) {
		dav := newRig(t, func(c *Config) { c.Policy = compile(t, "allow role doctor PROPFIND /members/**") })
		dana := dav.dana()
		dav.attack(t, row{raw: request("PROPFIND", "/members/x", dana), target: "/members/x", who: dana, want: []int{200}})
		dav.attack(t, row{raw: request("GET", "/members/x", dana), who: dana, want: []int{403}})
	})
	t.Run("M4 HEAD and OPTIONS", func(t *testing.T) {
		for _, method := range []string{"HEAD", "OPTIONS"} {
			direct := func(who *person, lines ...string) int {
				lines = append(lines, "Connection: close")
				replies := r.send(request(method, "/members/x", who, lines...))
				if len(replies) == 0 {
					return 0
				}
				return replies[0].StatusCode
			}
			r.take()
			if got := direct(nil); got != 401 {
				t.Errorf("%s without a session: %d", method, got)
			}
			if got := direct(nil, "Origin: https://evil.example", "Access-Control-Request-Method: POST"); got != 401 {
				t.Errorf("%s preflight: %d", method, got)
			}
			if seen := r.take(); len(seen) > 0 {
				t.Errorf("%s reached the app: %+v", method, seen)
			}
			if got := direct(dana); got != 200 {
				t.Errorf("%s with a session: %d", method, got)
			}
		}
	})
	t.Run("M9 gRPC", func(t *testing.T) {
		r.attack(t, row{raw: request("POST", "/members/x", nil, "Content-Type: application/grpc-web", "Content-Length: 0"), want: []int{200}}) // and grpc-status 16: form_test.go
	})
}

// TestSessionAttack is part 4.5 as far as the gate decides it.
func TestSessionAttack(t *testing.T) {
	r := newRig(t)
	dana, admin := r.dana(), r.admin()
	half := func(who *person, i int) string { return strings.Split(who.cookie, "; ")[i] }
	for name, cookie := range map[string]string{
		"S8 token alone": half(dana, 0), "S8 context alone": half(dana, 1), "S8 halves of two": half(dana, 0) + "; " + half(admin, 1),
		"K1 two tokens": half(admin, 0) + "; " + dana.cookie, "K3 other case": strings.Replace(dana.cookie, "__Host", "__HOST", 2), "K8 empty": "__Host-anteroom=; __Host-anteroom-ctx=",
		"S1 fixation": "__Host-anteroom=x; __Host-anteroom-ctx=y", "malformed": ";;=;__Host-anteroom", "K9 comma": strings.Replace(dana.cookie, "; ", ",", 1),
	} {
		t.Run(name, func(t *testing.T) {
			r.attack(t, row{raw: request("GET", "/members/x", nil, "Cookie: "+cookie), want: []int{401}})
			_, got := r.attack(t, row{raw: request("GET", "/public/x", nil, "Cookie: mine=1; "+cookie), target: "/public/x", want: []int{200}})
			if len(got) != 1 || !strings.HasPrefix(got[0].Header.Get("Cookie"), "mine=1") {
				t.Errorf("the app's own cookie: %q", got)
			}
		})
	}
	t.Run("session on another host", func(t *testing.T) {
		w := direct(r.gate, "GET", "/members/x", func(q *http.Request) {
			q.Host, q.TLS.ServerName = "other.example", "other.example"
			q.Header.Set("Cookie", dana.cookie)
		}, nil)
		if w.Code != 401 {
			t.Errorf("%d", w.Code)
		}
	})
	t.Run("token as bearer", func(t *testing.T) {
		_, token, _ := strings.Cut(half(dana, 0), "=")
		r.attack(t, row{raw: request("GET", "/members/x", nil, "Authorization: Bearer "+token, "Cookie: "+half(dana, 1)), want: []int{401}})
	})
	t.Run("after sign-out", func(t *testing.T) {
		gone := r.dana()
		if err := r.sessions.Revoke(t.Context(), gone.session.ID); err != nil {
			t.Fatal(err)
		}
		r.attack(t, row{raw: request("GET", "/members/x", nil, "Cookie: "+gone.cookie), want: []int{401}})
	})
	t.Run("S14 no CORS for strangers", func(t *testing.T) {
		for _, origin := range []string{"null", "https://evil.example", "https://" + site + ".evil.example"} {
			replies, _ := r.attack(t, row{raw: request("GET", "/admin/x", dana, "Origin: "+origin), who: dana, want: []int{403}})
			for name := range replies[0].Header {
				if strings.HasPrefix(name, "Access-Control-") {
					t.Errorf("%s: %s", origin, name)
				}
			}
		}
	})
	t.Run("CVE-2026-34457 health probes", func(t *testing.T) {
		for _, agent := range []string{"GoogleHC/1.0", "kube-probe/1.30", "ELB-HealthChecker/2.0", "Consul Health Check", "Prometheus/2", "curl/8", ""} {
			r.attack(t, row{raw: request("GET", "/members/x", nil, "User-Agent: "+agent), want: []int{401}})
		}
	})
	t.Run("CVE-2026-30852 placeholders", func(t *testing.T) {
		odd := r.signIn(session.Grant{Username: "{env.HOME}", Name: "{file./etc/passwd}", Roles: []string{"doctor"}})
		r.attack(t, row{raw: request("GET", "/members/x", odd, "X-Any: {env.HOME}"), target: "/members/x", who: odd, want: []int{200}})
	})
}

// Cross-origin requests: S2, S3, and the sibling hosts that SameSite does not stop.
func TestOriginAttack(t *testing.T) {
	r := newRig(t, func(c *Config) { c.AllowOrigins = []string{"https://portal.example", "http://plain.example"} })
	dana := r.dana()
	for name, c := range map[string]struct {
		lines []string
		want  int
	}{
		"same origin":                      {[]string{"Sec-Fetch-Site: same-origin", "Origin: https://" + site}, 200},
		"same origin, no referrer":         {[]string{"Sec-Fetch-Site: same-origin", "Origin: null"}, 200},
		"address bar":                      {[]string{"Sec-Fetch-Site: none"}, 200},
		"no browser":                       {nil, 200},
		"old browser":                      {[]string{"Origin: https://" + site}, 200},
		"sibling":                          {[]string{"Sec-Fetch-Site: same-site", "Origin: https://other.example"}, 403},
		"cross-site":                       {[]string{"Sec-Fetch-Site: cross-site", "Origin: https://evil.example"}, 403},
		"cross-site with our origin":       {[]string{"Sec-Fetch-Site: cross-site", "Origin: https://" + site}, 403},
		"old browser, foreign":             {[]string{"Origin: https://evil.example"}, 403},
		"old browser, null":                {[]string{"Origin: null"}, 403},
		"old browser, plain HTTP":          {[]string{"Origin: http://" + site}, 403},
		"old browser, other port":          {[]string{"Origin: https://" + site + ":8443"}, 403},
		"old browser, suffix":              {[]string{"Origin: https://" + site + ".evil.example"}, 403},
		"old browser, userinfo":            {[]string{"Origin: https://" + site + "@evil.example"}, 403},
		"two origins":                      {[]string{"Origin: https://" + site, "Origin: https://evil.example"}, 403},
		"two sites":                        {[]string{"Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: cross-site"}, 403},
		"unknown site":                     {[]string{"Sec-Fetch-Site: x"}, 403},
		"allowed origin":                   {[]string{"Sec-Fetch-Site: cross-site", "Origin: https://portal.example"}, 200},
		"allowed origin, old browser":      {[]string{"Origin: https://portal.example"}, 200},
		"allowed plain origin":             {[]string{"Origin: http://plain.example"}, 200},
		"allowed origin of another scheme": {[]string{"Origin: http://portal.example"}, 403},
	} {
		t.Run(name, func(t *testing.T) {
			for _, method := range []string{"POST", "PUT", "PATCH", "DELETE"} {
				a := row{raw: request(method, "/members/x", dana, append(slices.Clone(c.lines), "Content-Length: 0")...), who: dana, want: []int{c.want}}
				if c.want == 200 {
					a.target = "/members/x"
				}
				r.attack(t, a)
			}
			r.attack(t, row{raw: request("GET", "/members/x", dana, c.lines...), target: "/members/x", who: dana, want: []int{200}})
			upgrade := append(slices.Clone(c.lines), "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==")
			raw := strings.Replace(request("GET", "/members/x", dana, upgrade...), "Connection: Upgrade", "Connection: Upgrade, close", 1)
			a := row{raw: raw, who: dana, want: []int{c.want}}
			if c.want == 200 {
				a.target = "/members/x"
			}
			r.attack(t, a)
		})
	}
}

// The path of a policy's decision and the path that a proxy sends are the same for every accepted target; this runs them against
// each other without a network.
func FuzzTarget(f *testing.F) {
	sessions, _ := newSessions(f, (&clock{}).now)
	g, err := New(Config{Policy: compile(f, "allow public"), Sessions: sessions, Audit: audit.Off()})
	if err != nil {
		f.Fatal(err)
	}
	var sent string
	proxy := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Scheme, p.Out.URL.Host, p.Out.URL.RawQuery = "http", "app", p.In.URL.RawQuery
		},
		Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			sent = r.URL.RequestURI()
			return &http.Response{StatusCode: 204, Header: http.Header{}, Body: http.NoBody}, nil
		}),
	}
	f.Fuzz(func(t *testing.T, target string) {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			return
		}
		sent = ""
		r := &http.Request{Method: "GET", URL: u, RequestURI: target, Host: site, Header: http.Header{}, Body: http.NoBody, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
			TLS: &tls.ConnectionState{Version: tls.VersionTLS13, HandshakeComplete: true}, RemoteAddr: "192.0.2.1:1"}
		w := httptest.NewRecorder()
		g.Handle(w, r, proxy)
		if sent != "" && sent != target || w.Code == 204 && sent == "" || w.Code >= 500 {
			t.Fatalf("%q: sent on as %q, status %d", target, sent, w.Code)
		}
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
