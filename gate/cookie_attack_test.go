package gate

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/session"
)

// TestCookieAttack is part 4.6 over the wire: what is not exactly one pair of our cookies is no session, on every route, and no
// byte of a real half reaches the app, whatever stands around it.
func TestCookieAttack(t *testing.T) {
	r := newRig(t)
	dana, root := r.dana(), r.admin()
	token, context, _ := strings.Cut(dana.cookie, "; ")
	tokenValue, contextValue := strings.TrimPrefix(token, session.CookieToken+"="), strings.TrimPrefix(context, session.CookieContext+"=")
	otherToken, otherContext, _ := strings.Cut(root.cookie, "; ")
	for name, lines := range map[string][]string{
		"K1 93 tossed token first":      {otherToken + "; " + dana.cookie},
		"K1 93 tossed token last":       {dana.cookie + "; " + otherToken},
		"K1 93 the same token twice":    {dana.cookie + "; " + token},
		"K1 93 the same context twice":  {dana.cookie + "; " + context},
		"K1 93 tossed context":          {otherContext + "; " + dana.cookie},
		"K1 93 empty token first":       {session.CookieToken + "=; " + dana.cookie},
		"K2 93 two lines":               {dana.cookie, token},
		"K2 93 two lines, whole":        {dana.cookie, root.cookie},
		"K3 94 upper case":              {strings.ReplaceAll(dana.cookie, "__Host", "__HOST")},
		"K3 94 lower case":              {strings.ReplaceAll(dana.cookie, "__Host", "__host")},
		"K3 94 mixed name":              {strings.Replace(dana.cookie, "__Host-anteroom=", "__Host-Anteroom=", 1)},
		"K3 94 __Secure":                {strings.ReplaceAll(dana.cookie, "__Host", "__Secure")},
		"K3 94 __Http":                  {strings.ReplaceAll(dana.cookie, "__Host", "__Http")},
		"K3 94 no prefix":               {strings.ReplaceAll(dana.cookie, "__Host-", "")},
		"K4 blank before the equals":    {session.CookieToken + " =x; " + dana.cookie},
		"K4 blank after the equals":     {session.CookieToken + "= " + tokenValue + "; " + context},
		"K4 tab before the name":        {"\t" + session.CookieToken + "\t=" + tokenValue + "; " + context + "; " + token},
		"K6 sandwich":                   {`$Version=1; a="x; ` + token + `; y"; ` + dana.cookie},
		"K6 quoted value":               {session.CookieToken + `="` + tokenValue + `"; ` + context},
		"K7 nameless":                   {"=" + token + "; =" + context},
		"K8 no equals":                  {session.CookieToken + "; " + session.CookieContext},
		"K8 empty":                      {session.CookieToken + "=; " + session.CookieContext + "="},
		"K8 empty context":              {token + "; " + session.CookieContext + "="},
		"K9 comma":                      {token + "," + otherToken + "; " + context},
		"K9 commas between":             {token + "," + context},
		"S8 token alone":                {token},
		"S8 context alone":              {context},
		"S8 halves of two":              {token + "; " + otherContext},
		"S8 halves crossed":             {session.CookieToken + "=" + contextValue + "; " + session.CookieContext + "=" + tokenValue},
		"S8 the context of another day": {token + "; " + strings.Split(r.dana().cookie, "; ")[1]},
		"percent-encoded name":          {"__Host%2Danteroom=x; " + context},
		"plus in the context":           {token + "; " + strings.NewReplacer("-", "+", "_", "/").Replace(context)},
	} {
		t.Run(name, func(t *testing.T) {
			var cookies []string
			for _, line := range lines {
				cookies = append(cookies, "Cookie: "+line)
			}
			if name == "plus in the context" && strings.NewReplacer("-", "+", "_", "/").Replace(contextValue) == contextValue {
				return // it has none: the same context
			}
			replies := r.send(request("GET", "/members/x", nil, cookies...))
			if len(replies) != 1 || replies[0].StatusCode != 401 {
				t.Errorf("answers %+v", replies)
			}
			if got := r.take(); len(got) != 0 {
				t.Errorf("the app received %+v", got)
			}
			replies = r.send(request("GET", "/public/x", nil, cookies...))
			got := r.take()
			if len(replies) != 1 || replies[0].StatusCode != 200 || len(got) != 1 || got[0].Header["Remote-User"] != nil {
				t.Errorf("answers %+v, received %+v", replies, got)
			}
			for _, g := range got {
				ours := strings.Contains(fmt.Sprint(lines), "__Host-anteroom") // under another name it is the client's own text
				if all := fmt.Sprint(g.Header); ours && (strings.Contains(all, tokenValue) || strings.Contains(all, contextValue)) {
					t.Errorf("the app received a half: %q", g.Header["Cookie"])
				}
			}
		})
	}
	t.Run("K7 nameless beside", func(t *testing.T) { // it has no name, so that it is not a second one of ours; the app gets none of it
		_, got := r.attack(t, row{raw: request("GET", "/members/x", nil, "Cookie: ="+otherToken+"; "+dana.cookie), who: dana, target: "/members/x", want: []int{200}})
		if strings.Contains(fmt.Sprint(got), strings.TrimPrefix(otherToken, session.CookieToken+"=")) {
			t.Errorf("the app received %+v", got)
		}
	})
	t.Run("K11 many cookies", func(t *testing.T) {
		jar := strings.Repeat("a=b; ", 10_000)
		r.attack(t, row{raw: request("GET", "/members/x", nil, "Cookie: "+jar+dana.cookie), want: []int{401, 200}, who: dana, target: "/members/x"})
		if replies := r.send(request("GET", "/members/x", nil, "Cookie: "+strings.Repeat(jar, 40))); len(replies) != 1 || replies[0].StatusCode != 431 {
			t.Errorf("two megabytes: %+v", replies)
		}
	})
	t.Run("95 K12 the app plants nothing", func(t *testing.T) {
		r.app = http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			w.Header().Add("Set-Cookie", "__Host-anteroom=planted; Path=/; Secure")
			w.Header().Add("Set-Cookie", "__Host-anteroom-ctx=planted; Domain=example")
			w.Header().Add("Set-Cookie", "__HOST-anteroom-move=planted")
			w.Header().Add("Set-Cookie", "theirs=1; Domain=example")
			io.WriteString(w, q.Header.Get("Cookie"))
		})
		defer func() { r.app = nil }()
		replies := r.send(request("GET", "/members/x", nil, "Cookie: theme=dark; "+dana.cookie+"; lang=en"))
		if len(replies) != 1 || strings.Join(replies[0].Header["Set-Cookie"], "|") != "theirs=1; Domain=example" || !strings.Contains(replies[0].body, "theme=dark") || strings.Contains(replies[0].body, "__Host") {
			t.Errorf("answers %+v", replies)
		}
	})
}

// Row 81: a person whose address changes stays signed in, and the log has both. S7: whoever has both halves has the session; that is
// the documented limit of cookies.
func TestRow81AddressChanges(t *testing.T) {
	r := newRig(t)
	dana := r.dana()
	for _, addr := range []string{"192.0.2.1:1", "198.51.100.7:2", "[2001:db8::1]:3"} {
		w := direct(r.gate, "GET", "/members/x", func(q *http.Request) {
			q.RemoteAddr = addr
			q.Header.Set("Cookie", dana.cookie)
			q.Header.Set("User-Agent", addr)
		}, nil)
		if w.Code != 200 {
			t.Errorf("%s: %d", addr, w.Code)
		}
	}
	seen := map[string]bool{}
	for _, e := range r.audit.take() {
		seen[e.Client] = e.Session != ""
	}
	if !seen["192.0.2.1"] || !seen["198.51.100.7"] || !seen["2001:db8::1"] {
		t.Errorf("recorded: %v", seen)
	}
}

// Row 98: no shared cache keeps what a session saw or a refusal said.
func TestRow98Caching(t *testing.T) {
	r := newRig(t)
	dana := r.dana()
	for name, c := range map[string]struct {
		who    *person
		target string
		line   string
		want   string
	}{
		"what a session saw":       {dana, "/members/x", "X-Any: 1", "private"},
		"public, with a session":   {dana, "/public/x", "X-Any: 1", "private"},
		"public":                   {nil, "/public/x", "X-Any: 1", ""},
		"refused to a program":     {nil, "/members/x", "X-Any: 1", "no-store"},
		"refused to a person":      {nil, "/members/x", "Accept: text/html", "no-store"},
		"forbidden":                {dana, "/admin/x", "Accept: text/html", "no-store"},
		"ambiguous":                {dana, "/admin%2fx", "Accept: text/html", "no-store"},
		"a foreign page's request": {dana, "/members/x", "Upgrade: websocket\r\nConnection: Upgrade, close\r\nOrigin: https://evil.example", "no-store"},
	} {
		replies := r.send(request("GET", c.target, c.who, strings.Split(c.line, "\r\n")...))
		if len(replies) != 1 || replies[0].Header.Get("Cache-Control") != c.want {
			t.Errorf("%s: %+v", name, replies)
		}
	}
}

// S12: a form that comes a moment after the session's end is not given to the app, not kept, and not sent again after the sign-in;
// the next request on the connection is judged by itself.
func TestS12LateForm(t *testing.T) {
	r := newRig(t)
	dana := r.dana()
	r.clock.add(16 * time.Minute)
	eventually(t, "the store is heard again", func() bool { return !r.sessions.Health().Stale })
	const form = "diagnosis=secret"
	length := fmt.Sprintf("Content-Length: %d", len(form))
	for line, want := range map[string]int{"Accept: text/html": 303, "Accept: application/json": 401} {
		again := r.dana()
		replies := r.send(request("POST", "/members/x", dana, length, line, "Connection: keep-alive") + form + request("GET", "/members/after", again))
		got := r.take()
		if len(replies) != 2 || replies[0].StatusCode != want || replies[1].StatusCode != 200 {
			t.Fatalf("%s: %+v", line, replies)
		}
		if to := replies[0].Header.Get("Location"); want == 303 && to != "/.anteroom/login?return_to=%2F" {
			t.Errorf("Location %q", to)
		}
		if len(got) != 1 || got[0].Target != "/members/after" || got[0].Body != "" {
			t.Errorf("%s: the app received %+v", line, got)
		}
		for _, reply := range replies {
			if strings.Contains(fmt.Sprint(reply.Header, reply.body), "secret") {
				t.Errorf("%s: the form came back: %+v", line, reply)
			}
		}
	}
	for _, e := range r.audit.take() {
		if strings.Contains(fmt.Sprintf("%+v", e), "secret") {
			t.Errorf("the form stands in the log: %+v", e)
		}
	}
}

// S11, S16: without a session what exists and what does not is the same to the byte, but for the reference number.
func TestS16ExistenceIsNotTold(t *testing.T) {
	r := newRig(t)
	for _, line := range []string{"Accept: text/html", "Accept: application/json", "X-Requested-With: XMLHttpRequest"} {
		var first string
		for _, target := range []string{"/members/a", "/admin/ab", "/nothing/a", "/own/dana", "/members/Closed"} {
			replies := r.send(request("GET", target, nil, line))
			if len(replies) != 1 {
				t.Fatalf("%s: no answer", target)
			}
			h := replies[0].Header
			h.Del("Date")
			h.Set("Location", strings.Replace(h.Get("Location"), strings.ReplaceAll(target, "/", "%2F"), "TARGET", 1))
			body := replies[0].body
			if i := strings.Index(body, `"ref":"`); i >= 0 {
				body = body[:i+7] + body[i+17:]
			}
			got := fmt.Sprint(replies[0].StatusCode, h, body)
			if first == "" {
				first = got
			}
			if got != first {
				t.Errorf("%s, %s:\n%s\n%s", line, target, got, first)
			}
		}
		if strings.Contains(line, "html") != strings.HasPrefix(first, "302") || !strings.Contains(line, "html") && !strings.HasPrefix(first, "401") {
			t.Errorf("%s: %s", line, first)
		}
	}
}

// CVE-2026-33496, GHSA-qvp4: the same token at two sites with other rules, by one session manager whose cache has seen it: each asks
// for its own audience and its own rules each time, in any order.
func TestTwoSitesOneToken(t *testing.T) {
	r := newRig(t)
	dana := r.dana()
	open := mustNew(t, Config{Policy: compile(t, "allow any"), Sessions: r.sessions, Audit: r.audit})
	closed := mustNew(t, Config{Policy: compile(t, "allow role admin"), Sessions: r.sessions, Audit: r.audit, Assertion: "closed"})
	at := func(g *Gate, host string) int {
		return direct(g, "GET", "/members/x", func(q *http.Request) {
			q.Host, q.TLS.ServerName = host, host
			q.Header.Set("Cookie", dana.cookie)
		}, nil).Code
	}
	for range 3 {
		for _, c := range []struct {
			gate *Gate
			host string
			want int
		}{{r.gate, site, 200}, {closed, site, 403}, {open, "other.example", 401}, {open, site, 200}, {closed, "other.example", 401}, {r.gate, "APP.example", 200}, {closed, site, 403}} {
			if got := at(c.gate, c.host); got != c.want {
				t.Errorf("%s: %d, want %d", c.host, got, c.want)
			}
		}
	}
}

// CVE-2026-71324: requests of two people, of nobody, and a CONNECT in one connection, all sent before the first answer: each answer
// is its own request's, and what follows a CONNECT is judged or dropped, never tunnelled.
func TestKeepAliveOfTwoPeople(t *testing.T) {
	r := newRig(t)
	r.app = http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		fmt.Fprintf(w, "%s %s", q.Header.Get("Remote-User"), q.RequestURI)
	})
	dana, root := r.dana(), r.admin()
	keep := "Connection: keep-alive"
	raw, want := "", []string{}
	for i := range 20 {
		target := fmt.Sprintf("/members/%d", i)
		raw += request("GET", target, dana, keep) + request("GET", "/admin/x", root, keep) + request("GET", "/public/x", nil, keep) + request("GET", target, root, keep) + request("GET", target, nil, keep)
		want = append(want, "200 dana "+target, "200 root /admin/x", "200  /public/x", "403", "401")
	}
	raw += request("GET", "/public/last", dana)
	want = append(want, "200 dana /public/last")
	replies := r.send(raw)
	if len(replies) != len(want) {
		t.Fatalf("%d answers, want %d", len(replies), len(want))
	}
	for i, reply := range replies {
		if got := fmt.Sprint(reply.StatusCode, " ", reply.body); !strings.HasPrefix(got, want[i]) {
			t.Errorf("answer %d: %s, want %s", i, got, want[i])
		}
	}
	r.take()
	conn := r.dial()
	defer conn.Close()
	io.WriteString(conn, request("CONNECT", site+":443", dana, keep)+request("GET", "/admin/x", dana, keep)+request("GET", "/admin/x", root))
	in := bufio.NewReader(conn)
	for _, want := range []int{405, 403, 200} {
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			break // the connection ended after the CONNECT: as good
		}
		io.Copy(io.Discard, resp.Body)
		if resp.StatusCode != want {
			t.Errorf("status %d, want %d", resp.StatusCode, want)
		}
	}
	for _, g := range r.take() {
		if g.Header.Get("Remote-User") != "root" || g.Method == "CONNECT" {
			t.Errorf("the app received %+v", g)
		}
	}
}
