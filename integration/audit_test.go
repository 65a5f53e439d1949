package integration

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A word that stands for a patient's data in a path or a query.
const inPath, inQuery = "p4711-in-the-path", "q4711-in-the-query"

// TestAudit: one record for each decision, and no secret in anything that is written, at the chattiest log level.
func TestAudit(t *testing.T) {
	r := newRig(t, strings.Replace(standard, "app.test:$PORT {\n", "app.test:$PORT {\n\tlog\n", 1))
	r.op.ready(t)
	b := newBrowser(t)
	b.signIn(t, r.url(appHost, "/.anteroom/login?return_to=/members/x%3Fy="+inQuery), "pat", "pat-pw")
	trace := b.trace
	_, cookies := b.cookies(t, r.url(appHost, "/"))
	before := len(r.audit(t))
	for _, step := range []struct {
		target, decision, route, rule string
		status                        int
	}{
		{"/members/x?y=" + inQuery, "allowed", "/members/**", "allow any /members/**", 200},
		{"/patients/pat/" + inPath, "allowed", "/patients/{user}/*", "allow role patient GET /patients/{user}/*", 200},
		{"/patients/dana/" + inPath, "denied", "", "", 403},
		{"/admin/x?y=" + inQuery, "denied", "", "", 403},
		{"/nothing-here", "denied", "", "", 403},
	} {
		if p := b.do(t, call(t, "GET", r.url(appHost, step.target), "")); p.Status != step.status {
			t.Fatalf("%s: %d, want %d", step.target, p.Status, step.status)
		}
		records := r.audit(t)
		if len(records) != before+1 {
			t.Fatalf("%s made %d records", step.target, len(records)-before)
		}
		before++
		rec := records[len(records)-1]
		for name, want := range map[string]string{"kind": "request", "source": "hospital", "subject": "u-1002", "name": "pat", "site": appHost,
			"method": "GET", "decision": step.decision, "client": "127.0.0.1"} {
			if rec.str(name) != want && !(name == "site" && strings.HasPrefix(rec.str(name), want)) {
				t.Errorf("%s: %s is %q, want %q: %v", step.target, name, rec.str(name), want, rec)
			}
		}
		if step.route != "" && rec.str("route") != step.route || !strings.HasPrefix(rec.str("rule"), step.rule) {
			t.Errorf("%s: route %q, rule %q", step.target, rec.str("route"), rec.str("rule"))
		}
		for _, name := range []string{"time", "ref", "session", "reason"} {
			if rec.str(name) == "" {
				t.Errorf("%s: no %s: %v", step.target, name, rec)
			}
		}
		if fmt.Sprint(rec["roles"]) != "[patient]" {
			t.Errorf("%s: roles %v", step.target, rec["roles"])
		}
	}
	// Without a session: a protected path makes a record with nobody in it, too.
	newBrowser(t).do(t, call(t, "GET", r.url(appHost, "/members/x"), ""))
	records := r.audit(t)
	if len(records) != before+1 || records[before].str("decision") != "denied" || records[before].str("subject") != "" {
		t.Errorf("a request without session made the records %v", records[before:])
	}
	b.follow(t, b.do(t, navigation(t, "POST", r.url(appHost, "/.anteroom/logout"), "")))
	kinds := map[string]int{}
	for _, rec := range r.audit(t) {
		kinds[rec.str("kind")]++
	}
	if kinds["sign-in"] != 1 || kinds["sign-out"] != 1 {
		t.Errorf("the kinds of records are %v", kinds)
	}
	r.chain(t)

	secrets := map[string]string{"the password": "pat-pw", "the client secret": clientSecret, "the token": cookies[cookieToken], "the context": cookies[cookieContext]}
	for _, step := range trace {
		u, err := url.Parse(strings.Fields(step)[1])
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"code", "state", "nonce", "code_challenge"} {
			if v := u.Query().Get(name); v != "" {
				secrets[name] = v
			}
		}
	}
	if len(secrets) != 8 {
		t.Fatalf("only these secrets were seen on the way: %v", secrets)
	}
	var claims struct{ Sid, Jti string }
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(cookies[cookieToken], ".")[1])
	if err != nil || json.Unmarshal(payload, &claims) != nil || claims.Sid == "" {
		t.Fatalf("the token's claims: %s, %v", payload, err)
	}
	for what, secret := range secrets {
		if where := r.grep(t, secret, "oidc.secret", "Caddyfile"); where != "" {
			t.Errorf("%s stands in %s", what, where)
		}
	}
	folder := filepath.Join(r.dataDir(), "anteroom", "audit")
	for what, word := range map[string]string{"a query": inQuery, "a path behind a variable": inPath, "the session's id": claims.Sid, "the token's id": claims.Jti} {
		if where := grepFiles(t, folder, word); where != "" {
			t.Errorf("%s stands in %s", what, where)
		}
	}
	if grepFiles(t, folder, `"pat"`) == "" {
		t.Error("the search finds nothing at all")
	}
	files, err := filepath.Glob(filepath.Join(folder, "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no audit files: %v", err)
	}
	for _, file := range append(files, folder) {
		if info, err := os.Stat(file); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has the mode %v", file, info.Mode())
		}
	}
}

// grepFiles returns the first file of a folder that contains a word.
func grepFiles(t testing.TB, dir, word string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if b, err := os.ReadFile(file); err == nil && strings.Contains(string(b), word) {
			return file
		}
	}
	return ""
}

// TestNoRecordNoAccess: when an event cannot be written the request does not go on, and later it does again. The size limit of
// the process stands for a full disk.
func TestNoRecordNoAccess(t *testing.T) {
	r := prepare(t, strings.Replace(standard, "level DEBUG", "level ERROR", 1))
	r.limitKiB = 512
	r.run(t)
	dana := r.person(t, appHost, "dana")
	b := newBrowser(t)
	ask := func(target string) int {
		req := call(t, "GET", r.url(appHost, target), "")
		req.Header.Set("Cookie", strings.TrimPrefix(dana.line(), "Cookie: "))
		return b.do(t, req).Status
	}
	if status := ask("/members/x"); status != http.StatusOK {
		t.Fatalf("with room: %d", status)
	}
	passed := 0
	for passed < 5000 && ask("/members/x") == http.StatusOK {
		passed++
	}
	if passed == 5000 {
		t.Fatal("5000 records fit into 512 KiB: the limit is none")
	}
	r.dump.take()
	for range 5 {
		if status := ask("/members/x"); status != http.StatusServiceUnavailable {
			t.Errorf("without a record the request is answered %d, want 503", status)
		}
	}
	if got := r.dump.take(); len(got) > 0 {
		t.Errorf("the application saw %v", heads(got))
	}
	// Somebody makes room. The record that was torn is not left between whole ones.
	r.proc.stop(t)
	r.limitKiB = 0
	r.run(t)
	if status := ask("/members/x"); status != http.StatusOK {
		t.Errorf("with room again: %d", status)
	}
	r.chain(t)
}

// TestAuditOff is explicit and warns.
func TestAuditOff(t *testing.T) {
	r := newRig(t, strings.Replace(standard, "anteroom {", "anteroom {\n\t\taudit off", 1))
	if status := r.status(t, appHost, "/members/x", r.person(t, appHost, "dana")); status != http.StatusOK {
		t.Errorf("answered %d", status)
	}
	if records := r.audit(t); len(records) != 0 {
		t.Errorf("%d records", len(records))
	}
	warned := false
	for line := range strings.Lines(r.proc.log()) {
		warned = warned || strings.Contains(line, `"level":"warn"`) && strings.Contains(line, "audit")
	}
	if !warned {
		t.Error("no warning in the log")
	}
}
