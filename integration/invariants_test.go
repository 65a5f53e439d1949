package integration

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// row is one line of an attack table: what is sent, by whom, and what may come of it.
type row struct {
	id      string
	payload string   // the bytes on the wire
	targets []string // the request targets in payload, in order; empty: none of them may reach the backend
	who     *session
	host    string // of the TLS handshake; appHost when empty
	want    []int  // acceptable statuses of the first answer; 0 stands for a closed connection; empty: any refusal (4xx, 5xx, closed)
	pending bool   // the request never ends, so that there need be no answer: five seconds are enough
	mark    string // a header line of this row only; what arrives without it is late and of a row before
}

// identityHeaders are the names under which applications of this kind take a user's word, ours first.
var identityHeaders = []string{
	"Remote-User", "Remote-Groups", "Remote-Name", "Remote-Email", "X-Remote-User",
	"X-Auth-User", "X-Auth-Role", "X-Auth-Sub", "X-Auth-Acr", "X-Auth-Assertion",
	"X-Forwarded-User", "X-Forwarded-Email", "X-Forwarded-Groups", "X-Forwarded-Preferred-Username",
	"X-WEBAUTH-USER", "X-Client-Cert", "X-SSL-Client-Cert", "X-SSL-Client-Verify", "SSL-Client-Cert", "X-ARR-ClientCert",
	"Proxy", "X-Original-URL", "X-Rewrite-URL", "X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override",
	"X-Forwarded-Uri", "X-Forwarded-Prefix", "X-Override-URL", "HTTP2-Settings", "Early-Data",
}

// claims are what the certified provider says of its users, as the applications get it.
var claims = map[string]map[string]string{
	"dana":   {"Remote-User": "dana", "Remote-Groups": "doctor", "Remote-Name": "Dana Doctor", "Remote-Email": "dana@hospital.test"},
	"pat":    {"Remote-User": "pat", "Remote-Groups": "patient", "Remote-Name": "Pat Patient", "Remote-Email": "pat@hospital.test"},
	"admin":  {"Remote-User": "admin", "Remote-Groups": "admin,doctor", "Remote-Name": "Ada Admin"},
	"nobody": {"Remote-User": "nobody", "Remote-Name": "Nia Nobody", "Remote-Email": "nia@hospital.test"},
	"zoe":    {"Remote-User": "zoe", "Remote-Groups": "doctor", "Remote-Name": "Zoë Ünïcode", "Remote-Email": "zoe@hospital.test"},
}

// attack sends a row's bytes and checks the answer and the invariants. It returns what came back and what arrived.
func (r *rig) attack(t *testing.T, a row) (*exchange, []*received) {
	t.Helper()
	if a.host == "" {
		a.host = appHost
	}
	r.dump.take()
	limit := patience
	if a.pending {
		limit = 5 * time.Second
	}
	e := over(rawTLS(t, r.addr(), a.host), a.payload, max(1, len(a.targets)), limit)
	got := a.arrived(r.dump)
	if !acceptable(e.status(), a.want) {
		t.Errorf("answered %d, want %v\nsent:\n%q\ncame back:\n%.600q", e.status(), a.want, a.payload, e.Raw)
	}
	for _, problem := range broken(a, e, got) {
		t.Errorf("%s\nsent:\n%q", problem, a.payload)
	}
	if e.status() == 200 && len(a.targets) > 0 && len(got) == 0 && len(a.want) == 1 {
		t.Errorf("answered 200 and nothing reached the backend: the row shows nothing\nsent:\n%q", a.payload)
	}
	return e, got
}

// arrived takes what the backend received of this row.
func (a row) arrived(d *dump) []*received {
	return slices.DeleteFunc(d.take(), func(r *received) bool { return !strings.Contains(r.Head, a.mark) })
}

func acceptable(status int, want []int) bool {
	if len(want) == 0 {
		return status == 0 || status >= 400
	}
	for _, w := range want {
		if status == w {
			return true
		}
	}
	return false
}

// broken checks the four invariants that hold after every row, whatever the row is about, and says which do not:
//
//  1. the path that was judged is the path that the backend received, byte for byte;
//  2. the backend sees each identity header once with the session's value or not at all, and neither half of a session;
//  3. nothing protected is answered without a session, and nobody reaches what their role may not;
//  4. one request on the wire is at most one request at the backend.
func broken(a row, e *exchange, got []*received) []string {
	var problems []string
	say := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	if len(got) > len(a.targets) {
		say("invariant 4: one request on the wire, one at the backend: %d sent that may arrive, %d arrived: %v", len(a.targets), len(got), heads(got))
	}
	sent := a.targets
	for _, r := range got {
		for len(sent) > 0 && sent[0] != r.Target {
			sent = sent[1:]
		}
		if len(sent) == 0 {
			say("invariant 1: the backend received %q, which is not byte for byte among what was sent %q", r.Target, a.targets)
		} else {
			sent = sent[1:]
		}
		if a.host != wideHost && !mayReach(a.who, r.path()) {
			say("invariant 3: %s may not reach %q and did:\n%s", name(a.who), r.Target, r.Head)
		}
		problems = append(problems, identityProblems(a.who, r)...)
	}
	if e.status() >= 200 && e.status() < 300 && a.who == nil && a.host != wideHost {
		for _, target := range a.targets[:min(1, len(a.targets))] {
			if path, _, _ := strings.Cut(target, "?"); !mayReach(nil, path) {
				say("invariant 3: %q was answered %d without a session", target, e.status())
			}
		}
	}
	return problems
}

// identityProblems is invariant 2 for one request.
func identityProblems(who *session, r *received) []string {
	var problems []string
	want := map[string]string{}
	if who != nil {
		want = claims[who.user]
	}
	for _, header := range identityHeaders {
		got := r.values(header)
		value, expected := want[header]
		switch {
		case len(got) == 0 && !expected:
		case len(got) == 1 && expected && sameList(got[0], value):
		default:
			problems = append(problems, fmt.Sprintf("invariant 2: identity header %s of %s is %q at the backend, want %q:\n%s", header, name(who), got, value, r.Head))
		}
	}
	problems = append(problems, assertionProblems(who, r)...)
	if strings.Contains(strings.ToLower(r.Head), strings.ToLower(cookieToken)) {
		problems = append(problems, fmt.Sprintf("invariant 2: a session cookie reached the backend:\n%s", r.Head))
	}
	return problems
}

// assertionProblems looks at the one header that differs each time: signed by us, about the person, for this site, a minute long.
func assertionProblems(who *session, r *received) []string {
	got := r.values("Anteroom-Assertion")
	if who == nil {
		if len(got) > 0 {
			return []string{fmt.Sprintf("invariant 2: identity header Anteroom-Assertion of nobody is %q at the backend", got)}
		}
		return nil
	}
	var header struct{ Typ string }
	var claims struct {
		Aud      string
		Username string `json:"preferred_username"`
		Iat, Exp int64
	}
	parts := strings.Split(strings.Join(got, ","), ".")
	if len(got) != 1 || len(parts) != 3 || decodePart(parts[0], &header) != nil || decodePart(parts[1], &claims) != nil {
		return []string{fmt.Sprintf("invariant 2: identity header Anteroom-Assertion of %s is %q at the backend", name(who), got)}
	}
	host := strings.Join(r.values("Host"), ",")
	if header.Typ != "anteroom-assertion+jwt" || claims.Username != who.user || !strings.HasPrefix(host, claims.Aud) || claims.Aud == "" || claims.Exp-claims.Iat > 60 {
		return []string{fmt.Sprintf("invariant 2: the assertion about %s at %s says %+v %+v", name(who), host, header, claims)}
	}
	return nil
}

func decodePart(part string, into any) error {
	raw, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, into)
}

// sameList compares comma-separated lists without their order.
func sameList(a, b string) bool {
	if a == b {
		return true
	}
	seen := map[string]int{}
	for s := range strings.SplitSeq(a, ",") {
		seen[s]++
	}
	for s := range strings.SplitSeq(b, ",") {
		seen[s]--
	}
	for _, n := range seen {
		if n != 0 {
			return false
		}
	}
	return true
}

// mayReach is the policy of app.test, written a second time and in another way than the product does it: the only paths that
// may arrive are these prefixes on segment borders, in exactly this spelling.
func mayReach(who *session, path string) bool {
	under := func(prefix string) bool { return path == prefix || strings.HasPrefix(path, prefix+"/") }
	is := func(users ...string) bool {
		for _, user := range users {
			if who != nil && who.user == user {
				return true
			}
		}
		return false
	}
	switch {
	case path == "/" || under("/public"):
		return true
	case under("/admin"):
		return is("admin")
	case under("/members"), under("/.well-known"):
		return who != nil
	case under("/records"):
		return is("admin", "dana", "zoe")
	case under("/patients"):
		return who != nil && is("pat") && strings.HasPrefix(path, "/patients/pat/")
	}
	return false
}

func name(s *session) string {
	if s == nil {
		return "nobody signed in"
	}
	return s.user
}

func heads(all []*received) []string {
	var lines []string
	for _, r := range all {
		lines = append(lines, r.Method+" "+r.Target)
	}
	return lines
}
