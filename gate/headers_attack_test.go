package gate

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/anteroom-proxy/anteroom/session"
)

// spoofs are the names of the tables, each as a client would write it.
var spoofs = []string{
	"Remote-User", "Remote-Groups", "Remote-Name", "Remote-Email", "REMOTE_USER", "remote-user", "rEmOtE-uSeR", "Remote_User", "Remote.User", "remote.groups", "Remote_Groups", "Remote-Anything",
	"Remote!User", "Remote|User", "Remote~User", "Remote'Groups", "Remote+User", "Remote^User", "Remote#User", "Remote*User", "Remote`User", "Remote%User", "Remote&User", "Remote$User",
	"Anteroom-Assertion", "anteroom_assertion", "Anteroom.User", "X-Remote-User", "X_Remote_User", "X-Remote-Groups", "X-Auth-User", "X_Auth_User", "X-Auth_User", "x.auth.user", "X_AUTH-USER", "X-Auth-Role", "X-Auth-Sub",
	"X-Auth-Acr", "X-Auth-Assertion", "X-Auth-Request-User", "X-Forwarded-User", "X-Forwarded-Email", "X-Forwarded-Groups", "X-Forwarded-Preferred-Username", "X_Forwarded_User", "X-WEBAUTH-USER", "x-webauth-role",
	"X-Token-Subject", "X-Token-User-Email", "X-Client-Cert", "X-SSL-Client-CN", "X-SSL-Client-Verify", "SSL_CLIENT_S_DN", "Ssl-Client-Cert", "X-ARR-ClientCert", "X-Forwarded-Client-Cert", "X-Forwarded-Tls-Client-Cert-Info",
	"Client-Cert", "Client-Cert-Chain", "OIDC_CLAIM_email", "Tailscale-User-Login", "X-Goog-Authenticated-User-Email", "Cf-Access-Authenticated-User-Email", "X-Ms-Client-Principal-Name", "X-Amzn-Oidc-Data", "X-Pomerium-Jwt-Assertion",
	"X-authentik-username", "X-Authenticated-User", "Proxy", "PROXY", "X-Original-URL", "X-Rewrite-URL", "X-Override-URL", "X-Forwarded-Uri", "X-Forwarded-Prefix", "X-Forwarded-Method", "X-Forwarded-Path", "X-Forwarded-Server",
	"X-Forwarded-Port", "X-Forwarded-Scheme", "X_Forwarded_For", "X.Forwarded.Host", "X_Forwarded-Proto", "X-Host", "Forwarded", "X-Real-IP", "True-Client-IP", "X-Client-IP", "X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "x_http_method_override",
	"Early-Data", "TE", "HTTP2-Settings", "Proxy-Connection", "Keep-Alive", "Trailer", "X-Envoy-Original-Path", "X-Sendfile-Type", "X-Accel-Mapping", "X-Original-Host", "Front-End-Https",
}

// TestIdentityHeaderAttack sends every spelling to public and protected routes, with and without a session: the app sees each
// identity header once with the session's value, or not at all (I1 to I4, I11, I12, P21, H4, row 170).
func TestIdentityHeaderAttack(t *testing.T) {
	r := newRig(t)
	dana, admin := r.dana(), r.admin()
	for _, name := range spoofs {
		t.Run(name, func(t *testing.T) {
			line := name + ": root"
			if strings.HasSuffix(strings.ToLower(name), "url") || strings.HasSuffix(strings.ToLower(name), "uri") {
				line = name + ": /public/x"
			}
			twice := []string{line, line, strings.ToUpper(name) + ": admin"}
			r.attack(t, row{raw: request("GET", "/public/x", nil, twice...), target: "/public/x", want: []int{200}})
			r.attack(t, row{raw: request("GET", "/public/x", dana, twice...), target: "/public/x", who: dana, want: []int{200}})
			r.attack(t, row{raw: request("GET", "/members/x", dana, twice...), target: "/members/x", who: dana, want: []int{200}}) // I2: dana has no e-mail
			r.attack(t, row{raw: request("GET", "/admin/x", admin, twice...), target: "/admin/x", who: admin, want: []int{200}})
			r.attack(t, row{raw: request("GET", "/admin/x", dana, twice...), who: dana, want: []int{403}})
			r.attack(t, row{raw: request("GET", "/admin/x", nil, twice...), want: []int{401}})
			r.attack(t, row{raw: request("OPTIONS", "/public/x", nil, twice...), target: "/public/x", want: []int{200}})
			r.attack(t, row{raw: request("HEAD", "/public/x", nil, twice...), target: "/public/x", want: []int{200}})
		})
	}
}

// What is not an identity stays as it was sent.
func TestOrdinaryHeadersPass(t *testing.T) {
	r := newRig(t)
	dana := r.dana()
	lines := []string{"Authorization: Bearer app", "X-Requested-With: XMLHttpRequest", "X-Api-Key: 1", "Accept: text/html", "Access-Token: 1", "Origin: https://" + site, "X-Custom: a", "X-Custom: b",
		"Range: bytes=0-1", "If-None-Match: x", "Remotely: 1", "Anteroomy: 1", "X-Csrf-Token: 1", "X-Frame: 1", "Auth: 1", "Via: 1.1 x", "Content-Type: text/plain", "Prefer: x", "X-Forwarded-For: 198.51.100.1"}
	_, got := r.attack(t, row{raw: request("GET", "/members/x", dana, lines...), target: "/members/x", who: dana, want: []int{200}})
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		if name != "X-Forwarded-For" && !strings.Contains(strings.Join(got[0].Header[http.CanonicalHeaderKey(name)], ", "), value) {
			t.Errorf("%s is %q", name, got[0].Header[http.CanonicalHeaderKey(name)])
		}
	}
}

// I6: names with blanks and folded lines never become a header of the app.
func TestI6BrokenNames(t *testing.T) {
	r := newRig(t)
	dana := r.dana()
	for _, lines := range [][]string{
		{"Remote-User : root"}, {"X-Any: a\r\n Remote-User: root"}, {"X-Any: a\r\n\tRemote-User: root"}, {"\tRemote-User: root"}, {" Remote-User: root"}, {"Remote-User\t: root"}, {"Remote-User\x00: root"}, {"Remote\rUser: root"},
	} {
		t.Run(fmt.Sprintf("I6 %q", lines), func(t *testing.T) {
			r.attack(t, row{raw: request("GET", "/members/x", dana, lines...), target: "/members/x", who: dana, want: []int{200, 400, 401}}) // 401: folded into the Cookie line
		})
	}
}

// I7: trailers, declared or not, reach neither the headers nor the trailers of the app.
func TestI7Trailers(t *testing.T) {
	r := newRig(t)
	dana := r.dana()
	for name, lines := range map[string][]string{
		"declared": {"Trailer: Remote-User, X-Any"}, "undeclared": nil, "twice": {"Trailer: Remote-User", "Trailer: X-Any"}, "wanted": {"Trailer: Remote-User", "TE: trailers"},
	} {
		for who, target := range map[*person]string{nil: "/public/x", dana: "/members/x"} {
			t.Run(fmt.Sprintf("I7 %s %s", name, target), func(t *testing.T) {
				raw := request("POST", target, who, append(lines, "Transfer-Encoding: chunked")...) + "3\r\nabc\r\n0\r\nRemote-User: root\r\nX-Any: 1\r\n\r\n"
				_, got := r.attack(t, row{raw: raw, target: target, who: who, want: []int{200}})
				if len(got) != 1 || got[0].Body != "abc" || got[0].Header.Get("Trailer") != "" {
					t.Errorf("received %+v", got)
				}
			})
		}
	}
}

// I8, I9: Connection takes no header of ours away, and none that the app needs.
func TestI8ConnectionHeader(t *testing.T) {
	r := newRig(t)
	admin := r.admin()
	for _, lines := range [][]string{
		{"Connection: close, Remote-User"}, {"Connection: close, remote-user, REMOTE-GROUPS"}, {"Connection: close", "Connection: Remote-User"}, {"connection: Remote-Email,close"}, {"CONNECTION: Remote-Name , close , X-Forwarded-For"},
		{"Connection: close, Authorization"}, {"Connection: close, Cookie"}, {"Connection: close, X-Any", "Proxy-Connection: Remote-User", "Keep-Alive: timeout=1"}, {"Connection: \tRemote-User\t,close"}, {"Connection: close, te", "TE: trailers"},
	} {
		t.Run(fmt.Sprintf("I8 %q", lines), func(t *testing.T) {
			_, got := r.attack(t, row{raw: request("GET", "/admin/x", admin, append(lines, "Authorization: Basic eDp5", "X-Any: 1", "Cookie: mine=1")...), target: "/admin/x", who: admin, want: []int{200, 401}})
			for _, g := range got {
				if g.Header.Get("Authorization") == "" || g.Header.Get("X-Any") == "" || g.Header.Get("Cookie") == "" {
					t.Errorf("lost on the way: %v", g.Header)
				}
			}
			if len(got) == 0 {
				t.Error("the app was not reached")
			}
		})
	}
	for value, want := range map[string]string{
		"": "", "close": "close", "Keep-Alive": "keep-alive", "keep-alive, X": "keep-alive", "X": "", "upgrade": "", "Upgrade, close": "close", "close , , keep-alive": "close, keep-alive",
	} {
		q := &http.Request{Method: "GET", Header: http.Header{"Connection": {value}}, ProtoMajor: 1, ProtoMinor: 1}
		strip(q)
		if got := strings.Join(q.Header["Connection"], "|"); got != want {
			t.Errorf("Connection %q became %q, want %q", value, got, want)
		}
	}
}

// H11, M7: no upgrade but to a WebSocket is forwarded.
func TestH11Upgrade(t *testing.T) {
	r := newRig(t)
	dana := r.dana()
	for name, c := range map[string]struct {
		method string
		lines  []string
		want   string // of Upgrade at the app
	}{
		"h2c":                {"GET", []string{"Connection: close, Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA"}, ""},
		"foo":                {"GET", []string{"Connection: close, Upgrade", "Upgrade: foo"}, ""},
		"list":               {"GET", []string{"Connection: close, Upgrade", "Upgrade: WebSocket, h2c"}, ""},
		"two lines":          {"GET", []string{"Connection: close, Upgrade", "Upgrade: websocket", "Upgrade: h2c"}, ""},
		"other case":         {"GET", []string{"Connection: close, Upgrade", "Upgrade: WebSocket"}, ""},
		"with version":       {"GET", []string{"Connection: close, Upgrade", "Upgrade: websocket/13"}, ""},
		"no Connection":      {"GET", []string{"Connection: close", "Upgrade: websocket"}, ""},
		"POST":               {"POST", []string{"Connection: close, Upgrade", "Upgrade: websocket", "Content-Length: 0"}, ""},
		"websocket":          {"GET", []string{"Connection: close, Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="}, "websocket"},
		"websocket, plainly": {"GET", []string{"Connection: keep-alive, close, upgrade, Remote-User", "Upgrade: websocket"}, "websocket"},
	} {
		t.Run("H11 "+name, func(t *testing.T) {
			_, got := r.attack(t, row{raw: request(c.method, "/members/x", dana, c.lines...), target: "/members/x", who: dana, want: []int{200}})
			if len(got) != 1 || got[0].Header.Get("Upgrade") != c.want || got[0].Header.Get("Http2-Settings") != "" || c.want == "" && strings.Contains(strings.ToLower(got[0].Header.Get("Connection")), "upgrade") {
				t.Errorf("the app received %+v", got)
			}
		})
	}
}

// I13, H22: values that would not arrive as they are never leave; there is no shortened identity.
func TestI13Values(t *testing.T) {
	r := newRig(t)
	for name, c := range map[string]struct {
		grant session.Grant
		want  int
	}{
		"UTF-8":              {session.Grant{Username: "zoë", Name: "Zoë Österreich 山田", Roles: []string{"doctor"}}, 200},
		"many roles":         {session.Grant{Username: "many", Roles: roles(40)}, 200},
		"blank in front":     {session.Grant{Username: " root", Roles: []string{"doctor"}}, 503},
		"blank behind":       {session.Grant{Username: "root ", Roles: []string{"doctor"}}, 503},
		"no-break space":     {session.Grant{Username: "root\u00a0", Roles: []string{"doctor"}}, 503},
		"blank name":         {session.Grant{Username: "x", Name: " ", Roles: []string{"doctor"}}, 503},
		"nothing but a role": {session.Grant{Subject: "1", Roles: []string{"doctor"}}, 200},
	} {
		t.Run("I13 "+name, func(t *testing.T) {
			who := r.signIn(c.grant)
			a := row{raw: request("GET", "/members/x", who), who: who, want: []int{c.want}}
			if c.want == 200 {
				a.target = "/members/x"
			}
			r.audit.take()
			r.attack(t, a)
			events := r.audit.take()
			if last := events[len(events)-1].Decision; (last == "failed") != (c.want == 503) {
				t.Errorf("events %+v", events)
			}
		})
	}
	for value, want := range map[string]bool{"a": true, "a b": true, "é": true, "a\x00": false, "a\nb": false, "a\r\nX: y": false, "\x7f": false, "\xff": false, "\u0085": false, "\t": false, " ": false} {
		if isClean(value) != want {
			t.Errorf("%q", value)
		}
	}
}

func roles(n int) []string {
	list := []string{"doctor"}
	for i := range n {
		list = append(list, fmt.Sprintf("role-number-%d", i))
	}
	return list
}

// A session whose roles break their grammar cannot be told to an app, whoever made it.
func TestBadRoleFailsClosed(t *testing.T) {
	x := &exchange{gate: &Gate{}, r: &http.Request{Header: http.Header{}}, session: &session.Session{Grant: session.Grant{Username: "x", Roles: []string{"a,admin"}}}}
	if no := x.tell(); no.kind != KindUnavailable || len(x.r.Header) != 0 {
		t.Errorf("%+v %v", no, x.r.Header)
	}
}
