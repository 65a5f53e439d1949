package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// The rules through the running binary: what is said before they go live, what they decide on real requests, and that the tools
// for people say the same.

// liveConfig has a line of each kind that needs nothing but a request and a session.
var liveConfig = "{" + strings.Replace(globals, "admin off", "admin unix/$DIR/admin.sock", 1) + `
	$SERVERS
	anteroom {
		identity oidc hospital {
			issuer $OP
			client_id anteroom
			client_secret {file.$DIR/oidc.secret}
			roles_claim groups
			role doctor from "grp-physicians"
			role patient from "grp-patients"
			role finance from "grp-finance"
			role admin from "grp-admins"
			groups_claim groups
			group staff from "staff"
			claim mail from email
			claim full from name
		}
		network wards 203.0.113.0/24 2001:db8:7::/48
	}
}

app.test:$PORT {
	tls $CERT $KEY
	anteroom {
		allow public GET /public/**
		allow any /members/**
		allow role admin /admin/**
		allow any GET /mail/{claim.mail}/**
		allow any GET /names/{claim.full}/**
		allow role doctor group staff /staffroom/**
		allow any /inside/** network wards
		allow any GET /rooms/{room}/** when {path.room == "r1" || "dana" == user.name}
		allow role patient GET /patients/{user}/**
		deny any /members/sealed/**
		deny role finance /members/charts/** network 127.0.0.0/8
		require amr otp POST /members/orders/**
		shadow deny any GET /members/tried/**
		shadow allow role doctor /drafts/**

		expect doctor GET /members/x allow
		expect doctor GET /members/sealed/x deny
		expect doctor POST /members/orders/1 step_up
		expect any from 203.0.113.7 GET /inside/x allow
		expect anonymous GET /members/x login
	}
	reverse_proxy $DUMP
}
`

// TestPolicyLive runs one node through all of it.
func TestPolicyLive(t *testing.T) {
	r := newRig(t, liveConfig, "SERVERS", "")
	people := map[string]*session{"": nil}
	for _, user := range []string{"dana", "pat", "finn", "admin", "zoe"} {
		people[user] = r.person(t, appHost, user)
	}
	t.Run("shadow lines", func(t *testing.T) { shadowLines(t, r, people) })
	t.Run("names of the session", func(t *testing.T) { sessionNames(t, r, people) })
	t.Run("told in the right form", func(t *testing.T) { rightForm(t, r, people) })
	t.Run("explain", func(t *testing.T) { explainAgrees(t, r, people) })
	t.Run("replay", func(t *testing.T) { replayAgrees(t, r) })
	t.Run("reload", func(t *testing.T) { expectationHolds(t, r, people["dana"]) })
	t.Run("network", func(t *testing.T) { forgedAddresses(t, r, people["dana"]) })
}

func (r *rig) reload(t testing.TB, caddyfile string) result {
	t.Helper()
	r.configure(t, caddyfile)
	return output(t, r.env(), binary(t, "anteroom"), "reload", "--config", filepath.Join(r.dir, "Caddyfile"), "--adapter", "caddyfile",
		"--address", r.adminSocket(), "--force")
}

// shadowLines decide nothing; the record of a real request says what they would have changed, and only then.
func shadowLines(t *testing.T, r *rig, people map[string]*session) {
	for _, c := range []struct {
		who, target, shadow string
		want                int
	}{
		{"dana", "/members/tried/x", "would deny: shadow deny any GET /members/tried/**", 200},
		{"dana", "/drafts/x", "would allow: shadow allow role doctor /drafts/**", 403},
		{"pat", "/drafts/x", "", 403}, {"dana", "/members/x", "", 200}, {"dana", "/members/sealed/x", "", 403},
	} {
		r.dump.take()
		before := len(r.audit(t))
		if got := r.status(t, appHost, c.target, people[c.who]); got != c.want || (len(r.dump.take()) == 1) != (c.want == 200) {
			t.Errorf("%s %s: %d, want %d", c.who, c.target, got, c.want)
		}
		records := r.audit(t)
		if len(records) != before+1 || !strings.HasPrefix(records[before].str("shadow"), c.shadow) || (records[before].str("shadow") != "") != (c.shadow != "") {
			t.Errorf("%s %s: the log says %v, want the shadow %q", c.who, c.target, records[before:], c.shadow)
		}
	}
}

// sessionNames: claims and groups of the real provider, in the spelling of a path.
func sessionNames(t *testing.T, r *rig, people map[string]*session) {
	for _, c := range []struct {
		who, target string
		want        int
	}{
		// The provider says of no address that it verified it: such a claim is none, and nothing equals it.
		{"dana", "/mail/dana@hospital.test/in", 403}, {"admin", "/mail//in", 400}, {"admin", "/mail/admin@hospital.test/in", 403},
		{"dana", "/names/Dana%20Doctor/x", 200}, {"zoe", "/names/Zo%C3%AB%20%C3%9Cn%C3%AFcode/x", 200}, {"dana", "/names/Zo%C3%AB%20%C3%9Cn%C3%AFcode/x", 403},
		{"zoe", "/names/Zoe%20Unicode/x", 403}, {"", "/mail/dana@hospital.test/in", 401},
		{"dana", "/staffroom/x", 200}, {"zoe", "/staffroom/x", 403}, {"finn", "/staffroom/x", 403},
		{"dana", "/rooms/r2/x", 200}, {"pat", "/rooms/r1/x", 200}, {"pat", "/rooms/r2/x", 403}, {"pat", "/rooms/%721/x", 200},
		{"pat", "/patients/pat/x", 200}, {"pat", "/patients/dana/x", 403}, {"finn", "/members/charts/x", 403}, {"pat", "/members/charts/x", 200},
	} {
		if got := r.status(t, appHost, c.target, people[c.who]); got != c.want {
			t.Errorf("%q asks for %s: %d, want %d", c.who, c.target, got, c.want)
		}
	}
}

// rightForm: programs of each kind get what they can read, and never a redirect.
func rightForm(t *testing.T, r *rig, people map[string]*session) {
	for name, headers := range map[string][]string{
		"fetch":          {"Sec-Fetch-Mode", "cors", "Accept", "*/*"},
		"XMLHttpRequest": {"X-Requested-With", "XMLHttpRequest", "Accept", "text/html, */*"},
		"curl":           {"Accept", "*/*"},
		"json":           {"Accept", "application/json"},
		"nothing said":   {},
		"event source":   {"Accept", "text/event-stream", "Sec-Fetch-Mode", "cors"},
		"image":          {"Accept", "image/avif,*/*", "Sec-Fetch-Mode", "no-cors"},
	} {
		for target, want := range map[string]int{"/members/x": 401, "/admin/x": 403, "/members/orders/1": 401} {
			method, who := "GET", people["dana"]
			if target == "/members/x" {
				who = nil
			}
			if target == "/members/orders/1" {
				method = "POST"
			}
			req, err := http.NewRequest(method, r.url(appHost, target), nil)
			if err != nil {
				t.Fatal(err)
			}
			for i := 0; i < len(headers); i += 2 {
				req.Header.Set(headers[i], headers[i+1])
			}
			if who != nil {
				req.Header.Set("Cookie", strings.TrimPrefix(who.line(), "Cookie: "))
			}
			p := newBrowser(t).do(t, req)
			var problem struct {
				Type   string
				Status int
			}
			if err := json.Unmarshal([]byte(p.Body), &problem); p.Status != want || err != nil || problem.Status != want || p.Header.Get("Location") != "" ||
				!strings.HasPrefix(p.Header.Get("Content-Type"), "application/problem+json") || (want == 401) != (p.Header.Get("WWW-Authenticate") != "") {
				t.Errorf("%s, %s %s: %d, want %d; %v\n%s", name, method, target, p.Status, want, p.Header, p.Body)
			}
		}
	}
	for who, want := range map[string]string{"": "16", "dana": "7"} {
		req, err := http.NewRequest("POST", r.url(appHost, "/admin/Patients/Get"), strings.NewReader("\x00\x00\x00\x00\x00"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/grpc+proto")
		req.Header.Set("TE", "trailers")
		if s := people[who]; s != nil {
			req.Header.Set("Cookie", strings.TrimPrefix(s.line(), "Cookie: "))
		}
		res, err := newBrowser(t).client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.ProtoMajor != 2 || res.StatusCode != 200 || res.Header.Get("Grpc-Status") != want || !strings.HasPrefix(res.Header.Get("Content-Type"), "application/grpc") || len(body) > 0 {
			t.Errorf("gRPC as %q: HTTP/%d %d %v %q, want the status %s", who, res.ProtoMajor, res.StatusCode, res.Header, body, want)
		}
	}
	handshake := []string{"Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"}
	for who, c := range map[string]struct {
		target string
		want   int
	}{"": {"/members/ws", 401}, "dana": {"/admin/ws", 403}} {
		extra := handshake
		if s := people[who]; s != nil {
			extra = append(slices.Clone(extra), "Origin: "+r.url(appHost, ""), s.line())
		}
		if e := send(t, r.addr(), appHost, get(c.target, r.authority(appHost), extra...), 1); e.status() != c.want {
			t.Errorf("the WebSocket of a program, as %q: %d, want %d", who, e.status(), c.want)
		}
	}
	if got := r.dump.take(); slices.ContainsFunc(got, func(d *received) bool { return strings.HasPrefix(d.Target, "/admin") }) {
		t.Error("something was forwarded")
	}
}

// expectationHolds: an edit that opens what somebody relies on does not go live; the message says which line would have.
func expectationHolds(t *testing.T, r *rig, dana *session) {
	open := strings.Replace(liveConfig, "\t\tdeny any /members/sealed/**\n", "", 1)
	res := r.reload(t, open)
	for _, want := range []string{"expect doctor GET /members/sealed/x deny", "allow any /members/**", "Caddyfile:"} {
		if res.code == 0 || !strings.Contains(res.stderr, want) {
			t.Errorf("a reload against an expectation ends with %d and does not say %q: %s", res.code, want, res.stderr)
		}
	}
	if got := r.status(t, appHost, "/members/sealed/x", dana); got != 403 {
		t.Errorf("after a reload that was refused: %d", got)
	}
	if res := r.reload(t, strings.Replace(open, "\t\texpect doctor GET /members/sealed/x deny\n", "", 1)); res.code != 0 {
		t.Fatalf("reloading without the expectation: %s", res.stderr)
	}
	if got := r.status(t, appHost, "/members/sealed/x", dana); got != 200 {
		t.Errorf("after a reload that opens: %d", got)
	}
	if res := r.reload(t, liveConfig); res.code != 0 {
		t.Fatalf("reloading: %s", res.stderr)
	}
}

// forgedAddresses: a network is that of the connection, or what a proxy that is trusted says of it; never what somebody wrote in front
// of that (CVE-2024-21494).
func forgedAddresses(t *testing.T, r *rig, dana *session) {
	const ward, street = "203.0.113.9", "198.51.100.1"
	lists := [][]string{
		nil, {ward}, {street}, {ward, street}, {street, ward}, {"127.0.0.1"}, {ward + ":4711"}, {"::ffff:" + ward}, {"2001:db8:7::1"}, {"unknown", ward},
	}
	check := func(name string, want func(list []string) bool) {
		for _, list := range lists {
			for _, header := range []string{"X-Forwarded-For", "X-Real-IP", "Forwarded", "True-Client-IP", "Cf-Connecting-Ip"} {
				headers := []string{}
				if list != nil {
					headers = []string{header, strings.Join(list, ", ")}
				}
				got, inside := r.sent(t, "GET", appHost, "/inside/x", dana, headers...).Status, want(list) && header == "X-Forwarded-For"
				if (got == 200) != inside || got != 200 && got != 403 {
					t.Errorf("%s, %s: %q: %d", name, header, strings.Join(list, ", "), got)
				}
			}
		}
	}
	check("no proxy is trusted", func([]string) bool { return false })
	r.names["$SERVERS"] = "servers {\n\t\ttrusted_proxies static 127.0.0.1/32\n\t\ttrusted_proxies_strict\n\t}"
	if res := r.reload(t, liveConfig); res.code != 0 {
		t.Fatalf("reloading: %s", res.stderr)
	}
	check("the proxy is trusted", func(list []string) bool {
		if len(list) == 0 {
			return false
		}
		last := list[len(list)-1]
		return last == ward || last == ward+":4711" || last == "::ffff:"+ward || last == "2001:db8:7::1"
	})
}

// TestPolicyLaxProxy: by default Caddy believes the front of a list, which the client wrote (CVE-2024-21494). A gated site does not.
func TestPolicyLaxProxy(t *testing.T) {
	r := prepare(t, liveConfig, "SERVERS", "servers {\n\t\ttrusted_proxies static 127.0.0.1/32\n\t}")
	r.run(t)
	dana := r.person(t, appHost, "dana")
	for list, want := range map[string]int{"203.0.113.9, 198.51.100.1": 403, "198.51.100.1, 203.0.113.9": 200} {
		if got := r.sent(t, "GET", appHost, "/inside/x", dana, "X-Forwarded-For", list); got.Status != want {
			t.Errorf("X-Forwarded-For %s: answered %d, want %d", list, got.Status, want)
		}
	}
}

// TestPolicyValidateShowsAll: everything that is wrong with two sites, at once, each with its place.
func TestPolicyValidateShowsAll(t *testing.T) {
	r := prepare(t, standard)
	broken := strings.NewReplacer("\t\tallow role admin /admin/**\n", `		allow role admin /admin/**
		allow role surgeon /theatre/**
		allow any /x/../y
		allow role doctor /rooms/* hours mon-fri 08:00-17:00 Mars/Olympus
		budget role doctor 6 distinct {bed} per 1h on /patients/{patient}/**
`, "\t\tallow any\n", `		allow any
		allow group ward-3 /wards/**
		allow any /cel/{a}/** when {"x" == path.b}
		use nothing
		expect doctor GET / maybe
`).Replace(standard)
	res := r.validate(t, "validate", broken)
	if res.code == 0 {
		t.Fatal("the configuration is taken")
	}
	lines := strings.Split(r.expand(broken), "\n")
	for _, want := range []string{"surgeon", "/x/../y", "Mars/Olympus", "bed", "ward-3", "path.b", "use nothing", "maybe"} {
		at := slices.IndexFunc(lines, func(line string) bool { return strings.Contains(line, want) })
		if !strings.Contains(res.stderr, strings.TrimPrefix(want, "use ")) || !regexp.MustCompile(fmt.Sprintf(`Caddyfile\.checked:%d\b`, at+1)).MatchString(res.stderr) {
			t.Errorf("validate does not show %q of line %d:\n%s", want, at+1, res.stderr)
		}
	}
}

// TestPolicyClock: hours by the clock of the rules, and a device that is known an hour after the first sign-in.
func TestPolicyClock(t *testing.T) {
	t.Parallel() // it waits for a binary that is built
	now := time.Now().UTC()
	begin := now.Add(2 * time.Hour).Truncate(time.Minute)
	hours := begin.Format("15:04") + "-" + begin.Add(30*time.Minute).Format("15:04")
	day := strings.ToLower(begin.Format("Mon"))
	r := prepare(t, strings.Replace(standard, "\t\tallow any /members/**\n", "\t\tallow any /members/**\n\t\tallow any /open/** hours "+hours+" UTC\n"+
		"\t\tallow any /today/** hours "+day+" "+hours+" UTC\n\t\tallow any /device/** device known\n", 1))
	shift := r.hasten(t)
	r.run(t)
	r.op.ready(t)
	b := newBrowser(t)
	b.signIn(t, r.url(appHost, "/members/x"), "dana", "dana-pw")
	dana := b.person(t, r.url(appHost, "/"), "dana")
	check := func(when, target string, who *session, want int) {
		t.Helper()
		if got := r.status(t, appHost, target, who); got != want {
			t.Errorf("%s, %s: %d, want %d", when, target, got, want)
		}
	}
	check("at first", "/open/x", dana, 403)
	check("at the first sign-in", "/device/x", dana, 403)
	again := func() *session { // the same browser signs in once more
		b.do(t, navigation(t, "POST", r.url(appHost, "/.anteroom/logout"), ""))
		b.signIn(t, r.url(appHost, "/members/x"), "dana", "dana-pw")
		return b.person(t, r.url(appHost, "/"), "dana")
	}
	dana = again()
	check("at once again", "/device/x", dana, 403)
	shift(61 * time.Minute)
	check("an hour later, the same session", "/device/x", dana, 403)
	stranger := r.person(t, appHost, "dana")
	dana = again()
	check("an hour later, the same browser", "/device/x", dana, 200)
	check("an hour later, another browser", "/device/x", stranger, 403)
	check("another person at this device", "/device/x", func() *session {
		site, next := &url.URL{Scheme: "https", Host: r.authority(appHost), Path: "/"}, newBrowser(t)
		next.client.Jar.SetCookies(site, b.client.Jar.Cookies(site)) // all but the provider's
		next.do(t, navigation(t, "POST", r.url(appHost, "/.anteroom/logout"), ""))
		if p := next.signIn(t, r.url(appHost, "/members/x"), "pat", "pat-pw"); !strings.Contains(p.Body, "dump of") {
			t.Errorf("the next person's sign-in ends at %s with %d:\n%s", p.URL, p.Status, p.Body)
		}
		return next.person(t, r.url(appHost, "/"), "pat")
	}(), 403)
	for by, want := range map[time.Duration]int{-time.Minute: 403, time.Second: 200, 29 * time.Minute: 200, 31 * time.Minute: 403, 24*time.Hour + time.Minute: 200} {
		shift(time.Until(begin.Add(by)))
		check(by.String()+" from the beginning", "/open/x", stranger, want)
		if by > 24*time.Hour {
			want = 403 // another day of the week
		}
		check(by.String()+" from the beginning", "/today/x", stranger, want)
	}
}
