package integration

import (
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/store/redis/redistest"
)

// Emergency access through running nodes: who gets in, where, for how long, and who hears of it.

// glassConfig opens no patient to anybody; a doctor may break the glass, at both sites.
var glassConfig = "{" + hallGlobals + `
	anteroom {
		store redis $REDIS
		alarm webhook $DESK {
			token {file.$DIR/alarm.token}
		}
		contact "IT service desk, telephone 4711"` + hospital + `
		policy glass {
			allow role admin /admin/**
			allow any /members/**
			allow public GET /public/**
			deny any /patients/*/sealed/**
			require network 203.0.113.0/24 /patients/*/inside/**
			require acr urn:example:mfa /patients/*/strong/**
			break_glass role doctor GET,POST on /patients/{patient}/** for 30m
		}
	}
}

app.test:$PORT {
	tls $CERT $KEY
	anteroom {
		use glass
		expect doctor GET /patients/7/notes emergency
		expect patient:ann GET /patients/7/notes deny
		expect doctor GET /patients/7/sealed/x deny
		expect doctor DELETE /patients/7/notes deny
	}
	reverse_proxy $DUMP
}

wide.test:$PORT {
	tls $CERT $KEY
	anteroom {
		use glass
	}
	reverse_proxy $DUMP
}
`

var (
	formLink  = regexp.MustCompile(`href="(/\.anteroom/emergency\?[^"]*)"`)
	refNumber = regexp.MustCompile(`class="ref">([0-9A-Z]{10})<`)
)

// goodReason is what somebody in a hurry writes.
var goodReason = map[string]string{"reason": "unconscious", "text": "Found on the floor, cannot answer.", "confirm": "yes"}

// emergencyForm opens a page that is refused and follows its link to the form.
func (b *browser) emergencyForm(t testing.TB, rawURL string) page {
	t.Helper()
	refused := b.visit(t, rawURL)
	link := formLink.FindStringSubmatch(refused.Body)
	if refused.Status != http.StatusForbidden || link == nil {
		t.Fatalf("%s is answered %d without a way to emergency access:\n%s", rawURL, refused.Status, refused.Body)
	}
	target, err := refused.URL.Parse(html.UnescapeString(link[1]))
	if err != nil {
		t.Fatal(err)
	}
	form := b.visit(t, target.String())
	if form.Status != http.StatusOK {
		t.Fatalf("the form is answered %d\n%s", form.Status, form.Body)
	}
	return form
}

// breakGlass goes the whole way of somebody who is refused, and returns the reference number.
func (b *browser) breakGlass(t testing.TB, rawURL string) string {
	t.Helper()
	begun := b.submit(t, b.emergencyForm(t, rawURL), goodReason)
	ref := refNumber.FindStringSubmatch(begun.Body)
	if begun.Status != http.StatusOK || ref == nil || !strings.Contains(begun.Body, "You are in emergency access") {
		t.Fatalf("the form of %s ends at %s with %d\n%s", rawURL, begun.URL, begun.Status, begun.Body)
	}
	return ref[1]
}

// person is who a browser is at a site: the halves of the session and, behind them, what opens in an emergency.
func (b *browser) person(t testing.TB, siteURL, user string) *session {
	t.Helper()
	_, cookies := b.cookies(t, siteURL)
	s := &session{user, cookies[cookieToken], cookies[cookieContext]}
	if open := cookies[cookieOpen]; open != "" {
		s.context += "; " + cookieOpen + "=" + open
	}
	return s
}

// sent asks as a program does, with the cookies as they stand.
func (r *rig) sent(t testing.TB, method, host, target string, who *session, headers ...string) page {
	t.Helper()
	if line := who.line(); line != "" {
		headers = append(headers, "Cookie", strings.TrimPrefix(line, "Cookie: "))
	}
	return newBrowser(t).do(t, call(t, method, r.url(host, target), "", headers...))
}

// reviews is the list of emergency accesses of a state, as the operator sees it at a node.
func (r *rig) reviews(t testing.TB, state string) (list []map[string]any) {
	t.Helper()
	res := output(t, r.env(), binary(t, "anteroom"), "review", "--json", "--state", state, "--address", r.adminSocket())
	var answer struct{ Reviews []map[string]any }
	if err := json.Unmarshal([]byte(res.stdout), &answer); err != nil || res.code != 0 {
		t.Fatalf("review: %d %v\n%s%s", res.code, err, res.stdout, res.stderr)
	}
	return answer.Reviews
}

func (r *rig) review(t testing.TB, args ...string) result {
	t.Helper()
	return output(t, r.env(), append(append([]string{binary(t, "anteroom"), "review"}, args...), "--address", r.adminSocket())...)
}

// everywhere holds a request's answer against want at every node.
func (h *hall) everywhere(t *testing.T, what, method, host, target string, who *session, want int) {
	t.Helper()
	for i, n := range h.nodes {
		if got := n.sent(t, method, host, target, who).Status; got != want {
			t.Errorf("%s: node %d answers %s %s%s with %d, want %d", what, i+1, method, host, target, got, want)
		}
	}
}

// TestEmergency is one night: a doctor who is denied gets in at once, for one patient, at every node, while the identity provider
// is down and a node dies; nobody else does; everybody who must hears of it; and it is over when it has to be.
func TestEmergency(t *testing.T) {
	t.Parallel() // half a minute of waiting
	server := redistest.Standalone(t)
	h, desk := newGuarded(t, 3, server, glassConfig)
	r, night := h.nodes[0], t
	r.dump.respond(t, streams)
	const record = "/patients/7/notes"
	b, pats := newBrowser(t), newBrowser(t)
	b.signIn(t, r.url(appHost, "/members/x"), "dana", "dana-pw")
	pats.signIn(t, r.url(appHost, "/members/x"), "pat", "pat-pw")
	wide, other, zoe := h.nodes[2].person(t, wideHost, "dana"), h.nodes[1].person(t, appHost, "dana"), h.nodes[1].person(t, appHost, "zoe")
	r.op.proc.kill() // from here on nobody can sign in anywhere

	t.Run("before", func(t *testing.T) {
		dana := b.person(t, r.url(appHost, "/"), "dana")
		h.everywhere(t, "before", "GET", appHost, record, dana, 403)
		if got := r.sent(t, "GET", appHost, "/members/x", dana, "Anteroom-Emergency", "AAAAAAAAAA", "anteroom_emergency", "BBBBBBBBBB"); got.Status != 200 {
			t.Fatalf("a page for everybody is answered %d", got.Status)
		}
		for _, got := range r.dump.take() {
			if strings.Contains(strings.ToLower(got.Head), "emergency") {
				t.Errorf("a client tells the application of an emergency:\n%s", got.Head)
			}
		}
	})
	t.Run("nobody else gets the form", func(t *testing.T) { strangersAtTheForm(t, r, pats, desk) })
	t.Run("a form that is not in order begins nothing", func(t *testing.T) { badForms(t, r, b, desk) })

	ref := b.breakGlass(t, r.url(appHost, record))
	dana := b.person(t, r.url(appHost, "/"), "dana")
	t.Run("one patient at every node", func(t *testing.T) { oneOpen(t, h, dana, ref) })
	t.Run("nobody else by the same cookie", func(t *testing.T) {
		_, grant, _ := strings.Cut(dana.context, "; ")
		with := func(s *session) *session { return &session{s.user, s.token, s.context + "; " + grant} }
		h.everywhere(t, "another session of the same person", "GET", appHost, record, with(other), 403)
		h.everywhere(t, "another doctor", "GET", appHost, record, with(zoe), 403)
		h.everywhere(t, "another site", "GET", wideHost, record, with(wide), 403)
		h.everywhere(t, "no session", "GET", appHost, record, &session{"", "none", grant}, 401)
		h.everywhere(t, "the cookie twice", "GET", appHost, record, &session{"dana", dana.token, dana.context + "; " + grant}, 403)
		flipped := []byte(grant)
		flipped[len(flipped)/2] ^= 1
		h.everywhere(t, "the cookie changed", "GET", appHost, record, &session{"dana", dana.token, strings.Replace(dana.context, grant, string(flipped), 1)}, 403)
		if got := r.dump.take(); len(got) > 0 {
			t.Errorf("forwarded: %s", got[0].Head)
		}
	})
	t.Run("told", func(t *testing.T) {
		a := desk.hears(t, "emergency", 1)[0]
		if a.Ref != ref || a.Who != "dana" || a.Subject != "7" || a.Reason != "unconscious" || !strings.HasPrefix(a.Rule, "break_glass role doctor") {
			t.Errorf("the alarm says %+v", a)
		}
		log := r.proc.log()
		if !regexp.MustCompile(`"level":"error"[^\n]*` + ref).MatchString(log) {
			t.Error("no line of the highest level in the log names the access")
		}
		if strings.Contains(log, goodReason["text"]) || strings.Contains(log, deskToken) {
			t.Error("the log has the text of the form, or the token")
		}
		if dump := string(server.Dump()); len(dump) < 1000 || strings.Contains(dump, goodReason["text"]) || strings.Contains(dump, "dana") {
			t.Errorf("Redis' files (%d bytes) have the text of the form in clear", len(dump))
		}
	})
	t.Run("reviewed once", func(t *testing.T) { reviewedOnce(t, h, ref) })
	t.Run("a node dies", func(t *testing.T) {
		r.proc.kill()
		if got := h.nodes[1].status(t, appHost, record, dana); got != 200 {
			t.Errorf("with a dead node another one answers %d", got)
		}
		h.start(night, 0) // until the end of the night
		h.everywhere(t, "after a crash", "GET", appHost, record, dana, 200)
	})
	t.Run("rejected", func(t *testing.T) { rejected(t, h, b) })
	t.Run("signed out", func(t *testing.T) {
		r.dump.respond(t, streams)
		handshake := []string{"Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13",
			"Origin: " + h.nodes[1].url(appHost, "")}
		stream := h.nodes[1].open(t, "/patients/7/ws", dana, handshake, "101 Switching Protocols")
		h.nodes[2].signOut(t, appHost, b.person(t, r.url(appHost, "/"), "dana"))
		ended := startWatch()
		stream.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.Copy(io.Discard, stream); err != nil && strings.Contains(err.Error(), "timeout") || ended.over(ended.elapsed(), 3*time.Second) {
			t.Errorf("a stream of an emergency access is open %v after the sign-out", ended.elapsed())
		}
		h.everywhere(t, "after the sign-out", "GET", appHost, record, dana, 401)
	})
	if got := desk.heard(t, "emergency"); len(got) != 2 {
		t.Errorf("%d alarms came of 2 emergency accesses: %+v", len(got), got)
	}
	auditedEmergency(t, h, ref)
}

// strangersAtTheForm: a role that no line names sees neither the link nor the form, and cannot post it; nor can who is nobody.
func strangersAtTheForm(t *testing.T, r *rig, pats *browser, desk *desk) {
	if p := pats.visit(t, r.url(appHost, "/patients/7/notes")); p.Status != 403 || strings.Contains(strings.ToLower(p.Body), "emergency") {
		t.Errorf("a patient is answered %d with\n%s", p.Status, p.Body)
	}
	const form = "return_to=%2Fpatients%2F7%2Fnotes&patient=7&reason=life&text=I+really+must+see+this&confirm=yes"
	for who, b := range map[string]*browser{"a patient": pats, "nobody": newBrowser(t)} {
		get := b.do(t, navigation(t, "GET", r.url(appHost, "/.anteroom/emergency?return_to=/patients/7/notes"), ""))
		post := b.do(t, navigation(t, "POST", r.url(appHost, "/.anteroom/emergency"), form))
		for what, p := range map[string]page{"the form": get, "posting it": post} {
			if p.Status == 200 || p.Status == 303 || strings.Contains(p.Header.Get("Set-Cookie"), cookieOpen+"=") || strings.Contains(p.Body, "<textarea") {
				t.Errorf("%s, %s: %d %v", who, what, p.Status, p.Header)
			}
		}
	}
	if got := desk.heard(t, "emergency"); len(got) > 0 {
		t.Errorf("alarms: %+v", got)
	}
}

// badForms: what a page of another site, a mistake or a made-up form sends.
func badForms(t *testing.T, r *rig, b *browser, desk *desk) {
	p := b.emergencyForm(t, r.url(appHost, "/patients/7/notes"))
	_, whole := formWith(t, p, goodReason)
	for what, c := range map[string]struct {
		field, value string
		header       []string
		want         int
	}{
		"another patient":         {"patient", "8", nil, 422},
		"another page":            {"return_to", "/patients/8/notes", nil, 422},
		"an allowed page":         {"return_to", "/members/x", nil, 403},
		"a page of others":        {"return_to", "/admin/x", nil, 403},
		"a denied page":           {"return_to", "/patients/7/sealed/x", nil, 403},
		"a page for inside":       {"return_to", "/patients/7/inside/x", nil, 403},
		"another site":            {"return_to", "//evil.test/patients/7", nil, 403},
		"no reason of the list":   {"reason", "curious", nil, 422},
		"no words":                {"text", "..............", nil, 422},
		"not confirmed":           {"confirm", "", nil, 422},
		"from another site":       {"confirm", "yes", []string{"Origin", "https://evil.test", "Sec-Fetch-Site", "cross-site"}, 403},
		"from the neighbour":      {"confirm", "yes", []string{"Origin", r.url(wideHost, ""), "Sec-Fetch-Site", "same-site"}, 403},
		"a field that is unknown": {"scope", "/", nil, 400},
	} {
		values := map[string][]string{}
		for name, list := range whole {
			values[name] = list
		}
		values[c.field] = []string{c.value}
		body := strings.Builder{}
		for name, list := range values {
			fmt.Fprintf(&body, "&%s=%s", name, strings.NewReplacer("%", "%25", "/", "%2F", " ", "+", ",", "%2C").Replace(list[0]))
		}
		got := b.do(t, navigation(t, "POST", r.url(appHost, "/.anteroom/emergency"), body.String()[1:], c.header...))
		if got.Status != c.want || strings.Contains(strings.Join(got.Header.Values("Set-Cookie"), " "), cookieOpen+"=") {
			t.Errorf("%s: %d, want %d: %v", what, got.Status, c.want, got.Header)
		}
	}
	if _, cookies := b.cookies(t, r.url(appHost, "/")); cookies[cookieOpen] != "" {
		t.Error("a form that was refused left a cookie")
	}
	if got := desk.heard(t, "emergency"); len(got) > 0 {
		t.Errorf("alarms: %+v", got)
	}
}

// oneOpen: what one access opens and what it does not, at every node; and what the application is told.
func oneOpen(t *testing.T, h *hall, dana *session, ref string) {
	r := h.nodes[0]
	r.dump.take()
	for _, c := range []struct {
		method, target string
		want           int
	}{
		{"GET", "/patients/7/notes", 200}, {"HEAD", "/patients/7/notes", 200}, {"POST", "/patients/7/notes", 200}, {"GET", "/patients/7/a/b/c?d=e", 200},
		{"GET", "/members/x", 200}, {"DELETE", "/patients/7/notes", 403}, {"PUT", "/patients/7/notes", 403}, {"GET", "/patients/8/notes", 403},
		{"GET", "/patients/70/notes", 403}, {"GET", "/patients/%37/notes", 403}, {"GET", "/Patients/7/notes", 403}, {"GET", "/patients", 403}, {"GET", "/admin/x", 403},
		{"GET", "/patients/7/sealed/x", 403}, {"GET", "/patients/7/SEALED/x", 403}, {"GET", "/patients/7/%73ealed/x", 403},
		{"GET", "/patients/7/inside/x", 403}, {"GET", "/patients/7;v=8/notes", 400}, {"GET", "/patients/7%2F..%2F8/notes", 400},
	} {
		h.everywhere(t, "emergency", c.method, appHost, c.target, dana, c.want)
		for _, got := range r.dump.take() {
			said, expected := strings.Join(got.values("Anteroom-Emergency"), " "), ref
			if c.target == "/members/x" {
				expected = "" // a line allows it: no emergency is needed
			}
			if c.want != 200 || got.Target != c.target || said != expected {
				t.Errorf("%s %s: the application is told %q of %s", c.method, c.target, said, got.Head)
			}
			if strings.Contains(got.Head, "__Host-anteroom") {
				t.Errorf("the application sees a cookie of ours:\n%s", got.Head)
			}
		}
	}
	if got := r.sent(t, "GET", appHost, "/patients/7/strong/x", dana); got.Status == 200 || len(r.dump.take()) > 0 {
		t.Errorf("a level that is asked for is lifted: %d", got.Status)
	}
	if got := r.sent(t, "GET", appHost, "/patients/7/notes", dana); got.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("what an emergency shows may be kept: %q", got.Header.Get("Cache-Control"))
	}
	r.dump.take()
}

// reviewedOnce: the list is that of all nodes; a verdict is given once, and not by the person.
func reviewedOnce(t *testing.T, h *hall, ref string) {
	open := h.nodes[1].reviews(t, "open")
	if len(open) != 1 || open[0]["id"] != ref || open[0]["user"] != "dana" || open[0]["patient"] != "7" || open[0]["text"] != goodReason["text"] ||
		open[0]["scope"] != "/patients/7" || open[0]["alarm"] != "delivered" {
		t.Fatalf("the list of reviews is %v", open)
	}
	if own := h.nodes[1].review(t, "accept", ref, "--reviewer", "dana"); own.code == 0 {
		t.Error("dana accepts her own emergency access")
	}
	if unknown := h.nodes[1].review(t, "accept", "0000000000", "--reviewer", "rita"); unknown.code == 0 {
		t.Error("an access that never was is accepted")
	}
	if got := h.nodes[2].review(t, "accept", strings.ToLower(ref), "--reviewer", "rita", "--comment", "on call that night"); got.code != 0 {
		t.Errorf("accepting: %s%s", got.stdout, got.stderr)
	}
	for _, verdict := range []string{"accept", "reject"} {
		if got := h.nodes[0].review(t, verdict, ref, "--reviewer", "sam", "--comment", "second thoughts"); got.code == 0 || !strings.Contains(got.stderr, "reviewed") {
			t.Errorf("a second verdict (%s) ends with %d: %s%s", verdict, got.code, got.stdout, got.stderr)
		}
	}
	if open := h.nodes[0].reviews(t, "open"); len(open) != 0 {
		t.Errorf("still open: %v", open)
	}
	accepted := h.nodes[0].reviews(t, "accepted")
	if len(accepted) != 1 || accepted[0]["reviewer"] != "rita" || accepted[0]["comment"] != "on call that night" {
		t.Errorf("accepted: %v", accepted)
	}
}

// rejected: a second access beside the first; a rejection needs words, and ends the access on every node while the other goes on.
func rejected(t *testing.T, h *hall, b *browser) {
	r := h.nodes[1]
	ref := b.breakGlass(t, r.url(appHost, "/patients/8/notes"))
	dana := b.person(t, r.url(appHost, "/"), "dana")
	for _, record := range []string{"/patients/7/notes", "/patients/8/notes"} {
		h.everywhere(t, "two at once", "GET", appHost, record, dana, 200)
	}
	if got := r.review(t, "reject", ref, "--reviewer", "rita"); got.code == 0 {
		t.Error("a rejection needs no words")
	}
	if got := r.review(t, "reject", ref, "--reviewer", "rita", "--comment", "no treatment relation"); got.code != 0 {
		t.Fatalf("rejecting: %s%s", got.stdout, got.stderr)
	}
	if got := r.status(t, appHost, "/patients/8/notes", dana); got != 403 {
		t.Errorf("where it was rejected it goes on: %d", got)
	}
	at := startWatch()
	for i, n := range h.nodes {
		for n.status(t, appHost, "/patients/8/notes", dana) != 403 {
			if at.over(at.elapsed(), 20*time.Second) {
				t.Fatalf("node %d lets somebody in 20 s after the access was rejected", i+1)
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	t.Logf("over on every node %v after it was rejected", at.elapsed().Round(100*time.Millisecond))
	h.everywhere(t, "the other access", "GET", appHost, "/patients/7/notes", dana, 200)
}

// auditedEmergency reads the audit logs of all nodes: what happened under an access is marked, and nothing else is.
func auditedEmergency(t *testing.T, h *hall, ref string) {
	t.Helper()
	kinds := map[string]int{}
	for _, n := range h.nodes {
		for _, rec := range n.audit(t) {
			id := rec.str("emergency")
			if (id != "") != (rec.str("purpose") == "ETREAT") {
				t.Errorf("emergency and purpose do not go together: %v", rec)
			}
			switch {
			case rec.str("kind") == "request" && rec.str("decision") == "allowed" && strings.HasPrefix(rec.str("rule"), "break_glass"):
				if id == "" || rec.str("name") != "dana" {
					t.Errorf("an emergency that has no number: %v", rec)
				}
				kinds["under it"]++
			case rec.str("kind") == "request" && id != "":
				t.Errorf("marked as emergency: %v", rec)
			case id == ref:
				kinds[rec.str("kind")+" "+rec.str("decision")]++
			}
		}
		if where := grepFiles(t, filepath.Join(n.dataDir(), "anteroom", "audit"), "/patients/7"); where != "" {
			t.Errorf("the audit log %s says whose record it was", where)
		}
	}
	for _, kind := range []string{"emergency allowed", "emergency ended", "review allowed"} {
		if kinds[kind] != 1 {
			t.Errorf("the audit logs have %d records %q of the first access: %v", kinds[kind], kind, kinds)
		}
	}
	if kinds["under it"] < 20 {
		t.Errorf("%d requests are marked", kinds["under it"])
	}
}
