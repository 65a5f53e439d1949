package integration

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A sign-in before the form, and drills, through a running node and a provider.

// freshConfig is glassConfig on one node: app.test asks for a sign-in of the last hour and offers drills, wide.test does neither.
var freshConfig = strings.NewReplacer(
	"\t\tstore redis $REDIS\n", "",
	" for 30m\n", " for 30m fresh 1h drill\n",
	"\tanteroom {\n\t\tuse glass\n\t}\n", "\tanteroom {\n\t\tallow any /members/**\n\t\tbreak_glass role doctor on /patients/{patient}/** for 30m\n\t}\n",
).Replace(glassConfig)

// longAgo is how old the sign-in is of somebody whose screen was left unlocked, in seconds.
const longAgo = 7200

// reports counts the audit log as `review report` does.
func (r *rig) reports(t testing.TB) map[string]int {
	t.Helper()
	res := output(t, r.env(), binary(t, "anteroom"), "review", "report", "--json", filepath.Join(r.dataDir(), "anteroom", "audit"))
	var answer struct{ Months []map[string]any }
	if err := json.Unmarshal([]byte(res.stdout), &answer); err != nil || res.code != 0 {
		t.Fatalf("review report: %d %v\n%s%s", res.code, err, res.stdout, res.stderr)
	}
	sums := map[string]int{}
	for _, month := range answer.Months { // two, when the month ends meanwhile
		for name, n := range month {
			if n, ok := n.(float64); ok {
				sums[name] += int(n)
			}
		}
	}
	return sums
}

// left is somebody signed in at a site, long ago as the provider says.
func left(t testing.TB, r *rig, host, user string) *browser {
	t.Helper()
	r.op.tell(t, "user", map[string]any{"user": user, "ago": longAgo})
	b := newBrowser(t)
	if p := b.signIn(t, r.url(host, "/members/x"), user, user+"-pw"); p.Status != http.StatusOK {
		t.Fatalf("the sign-in of %s ends at %s with %d", user, p.URL, p.Status)
	}
	r.op.tell(t, "user", map[string]any{"user": user, "ago": 0})
	return b
}

// asked goes to a record that is refused and on to the form, where the provider's page comes first.
func (b *browser) asked(t testing.TB, r *rig, record string) page {
	t.Helper()
	if p := b.visit(t, r.url(appHost, record)); p.Status != http.StatusForbidden || formLink.FindString(p.Body) == "" {
		t.Fatalf("%s is answered %d without a way to emergency access:\n%s", record, p.Status, p.Body)
	}
	p := b.visit(t, r.url(appHost, "/.anteroom/emergency?return_to="+strings.ReplaceAll(record, "/", "%2F")))
	if !strings.HasPrefix(p.URL.String(), r.op.issuer) || !strings.Contains(p.Body, "password") {
		t.Fatalf("with an old sign-in the form is answered %d at %s:\n%s", p.Status, p.URL, p.Body)
	}
	return p
}

// TestEmergencyFreshSignIn, G2: whoever finds an unlocked screen has to prove who they are before the glass is broken, as long as the
// provider answers; when it is dead the person gets in, and everybody who must hears how. G12: a drill is one where the rule offers it,
// and is bound, told and reviewed as any other access.
func TestEmergencyFreshSignIn(t *testing.T) {
	t.Parallel()
	desk := newDesk(t)
	r := prepare(t, freshConfig, "DESK", desk.url)
	write(t, filepath.Join(r.dir, "alarm.token"), deskToken)
	shift := r.hasten(t)
	r.run(t)
	r.op.ready(t)
	r.dump.respond(t, streams)
	const record = "/patients/7/notes"
	alone := left(t, r, appHost, "dana") // signed in once and never again

	t.Run("an old sign-in does not do", func(t *testing.T) { oldSignIn(t, r, record) })
	t.Run("another person half-way", func(t *testing.T) { otherSignIn(t, r, record) })
	if list, told := r.reviews(t, "all"), desk.heard(t, "emergency"); len(list) > 0 || len(told) > 0 {
		t.Fatalf("begun: %v, alarms %+v", list, told)
	}

	b := left(t, r, appHost, "dana")
	before := b.person(t, r.url(appHost, "/"), "dana")
	form := b.submit(t, b.asked(t, r, record), map[string]string{"username": "dana", "password": "dana-pw"})
	if form.Status != http.StatusOK || form.URL.Path != "/.anteroom/emergency" || form.URL.Query().Get("return_to") != record {
		t.Fatalf("after the sign-in the person is at %s (%d), not at the form\n%s", form.URL, form.Status, form.Body)
	}
	begun := b.submit(t, form, goodReason)
	ref := refNumber.FindStringSubmatch(begun.Body)
	if ref == nil {
		t.Fatalf("the form ends at %s with %d\n%s", begun.URL, begun.Status, begun.Body)
	}
	if got := r.status(t, appHost, record, b.person(t, r.url(appHost, "/"), "dana")); got != http.StatusOK {
		t.Errorf("the record is answered %d", got)
	}
	if got := r.status(t, appHost, record, before); got != http.StatusUnauthorized {
		t.Errorf("the session from before the sign-in is answered %d", got)
	}
	r.expectAccess(t, desk, access{ref: ref[1], user: "dana", reason: goodReason["reason"]}, 1)

	t.Run("a drill", func(t *testing.T) { drilled(t, r, b, desk, shift) })
	t.Run("the provider is dead", func(t *testing.T) { unanswered(t, r, alone, desk, shift) })
	if got := r.review(t, "accept", ref[1], "--reviewer", "rita"); got.code != 0 {
		t.Errorf("accepting: %s%s", got.stdout, got.stderr)
	}
	sums := r.reports(t)
	for name, want := range map[string]int{"begun": 3, "drills": 1, "without_fresh_sign_in": 1, "reviewed": 1, "accepted": 1, "rejected": 0} {
		if sums[name] != want {
			t.Errorf("review report counts %d %s, want %d: %v", sums[name], name, want, sums)
		}
	}
}

// access is what everybody has to be told of one emergency access.
type access struct {
	ref, user, reason string
	drill, stale      bool
}

// expectAccess: the review list, the alarm (the nth) and the audit log say the same of an access.
func (r *rig) expectAccess(t *testing.T, desk *desk, want access, nth int) {
	t.Helper()
	var inList, inLog []access
	for _, rev := range r.reviews(t, "open") {
		if rev["id"] == want.ref {
			inList = append(inList, access{want.ref, rev["user"].(string), rev["reason"].(string), rev["drill"] == true, rev["without_fresh_sign_in"] == true})
		}
	}
	if len(inList) != 1 || inList[0] != want {
		t.Errorf("the review list has %+v, want %+v", inList, want)
	}
	if a := desk.hears(t, "emergency", nth)[nth-1]; (access{a.Ref, a.Who, a.Reason, a.Drill, a.Stale}) != want {
		t.Errorf("the alarm says %+v, want %+v", a, want)
	}
	under := 0
	for _, rec := range r.audit(t) {
		if rec.str("emergency") != want.ref {
			continue
		}
		switch rec.str("kind") {
		case "emergency":
			if rec.str("decision") == "allowed" {
				inLog = append(inLog, access{want.ref, rec.str("name"), rec.str("reason"), rec["drill"] == true, rec.str("degraded") == "fresh-sign-in"})
			}
		case "request":
			if under++; (rec["drill"] == true) != want.drill {
				t.Errorf("a request under %+v: %v", want, rec)
			}
		}
	}
	if len(inLog) != 1 || inLog[0] != want || under == 0 {
		t.Errorf("the audit log has %+v and %d requests, want %+v", inLog, under, want)
	}
}

// oldSignIn: the form that was there before, one that is made up, and a provider that vouches for what was long ago begin nothing.
func oldSignIn(t *testing.T, r *rig, record string) {
	b := left(t, r, appHost, "dana")
	const form = "return_to=%2Fpatients%2F7%2Fnotes&patient=7&reason=life&text=I+really+must+see+this&confirm=yes"
	sent := b.do(t, navigation(t, "POST", r.url(appHost, "/.anteroom/emergency"), form))
	if to := sent.Header.Get("Location"); sent.Status != http.StatusSeeOther || !strings.HasPrefix(to, "/.anteroom/login?") {
		t.Errorf("a form that is sent with an old sign-in is answered %d %q", sent.Status, to)
	}
	if p := r.sent(t, "POST", appHost, "/.anteroom/emergency", b.person(t, r.url(appHost, "/"), "dana"), "Content-Type", "application/x-www-form-urlencoded"); p.Status < 400 {
		t.Errorf("a program is answered %d", p.Status)
	}
	r.op.tell(t, "user", map[string]any{"user": "dana", "ago": longAgo})
	p := b.submit(t, b.asked(t, r, record), map[string]string{"username": "dana", "password": "dana-pw"})
	r.op.tell(t, "user", map[string]any{"user": "dana", "ago": 0})
	if p.Status < 400 || p.URL.Host != r.authority(appHost) || strings.Contains(p.Body, "<textarea") {
		t.Errorf("a proof of long ago ends at %s with %d:\n%s", p.URL, p.Status, p.Body)
	}
	who := b.person(t, r.url(appHost, "/"), "dana")
	for path, want := range map[string]int{"/members/x": http.StatusOK, record: http.StatusForbidden} {
		if got := r.status(t, appHost, path, who); got != want {
			t.Errorf("after a sign-in that did not do %s is answered %d, want %d", path, got, want)
		}
	}
}

// otherSignIn: somebody else proves who they are at the screen of a doctor. They are who they are afterwards, and no doctor.
func otherSignIn(t *testing.T, r *rig, record string) {
	b := left(t, r, appHost, "dana")
	doctor := b.person(t, r.url(appHost, "/"), "dana")
	p := b.submit(t, b.asked(t, r, record), map[string]string{"username": "pat", "password": "pat-pw"})
	if p.URL.Host != r.authority(appHost) { // the provider asks whether the other one is to be signed out there
		p = b.submit(t, p, map[string]string{"logout": "yes"})
	}
	if p.URL.Host != r.authority(appHost) || p.Status != http.StatusForbidden || strings.Contains(p.Body, "<textarea") {
		t.Errorf("another person's sign-in ends at %s with %d:\n%s", p.URL, p.Status, p.Body)
	}
	now := b.person(t, r.url(appHost, "/"), "pat")
	if claims := tokenClaims(t, now); claims["preferred_username"] != "pat" {
		t.Errorf("the session is that of %v", claims)
	}
	for who, s := range map[string]*session{"the other person": now, "the doctor": doctor} {
		if got := r.status(t, appHost, record, s); got == http.StatusOK {
			t.Errorf("%s reads the record", who)
		}
	}
}

// drilled: a drill is offered where the rule says so; it opens as much as any other access and for as long.
func drilled(t *testing.T, r *rig, b *browser, desk *desk, shift func(time.Duration)) {
	drill := map[string]string{"reason": "drill", "text": "We try this twice a year.", "confirm": "yes"}
	plain := left(t, r, wideHost, "zoe")
	form := plain.emergencyForm(t, r.url(wideHost, "/patients/8/notes"))
	if strings.Contains(strings.ToLower(form.Body), "drill") {
		t.Errorf("a drill is offered where no rule does:\n%s", form.Body)
	}
	if p := plain.submit(t, form, drill); p.Status != http.StatusUnprocessableEntity {
		t.Errorf("a drill where no rule offers it is answered %d", p.Status)
	}
	form = b.emergencyForm(t, r.url(appHost, "/patients/8/notes"))
	if !strings.Contains(form.Body, "This is a drill") {
		t.Fatalf("no drill is offered:\n%s", form.Body)
	}
	begun := b.submit(t, form, drill)
	ref := refNumber.FindStringSubmatch(begun.Body)
	if ref == nil || !strings.Contains(begun.Body, "<strong>drill</strong>") {
		t.Fatalf("the form ends at %s with %d\n%s", begun.URL, begun.Status, begun.Body)
	}
	who := b.person(t, r.url(appHost, "/"), "dana")
	for path, want := range map[string]int{"/patients/8/notes": 200, "/patients/8/a/b": 200, "/patients/9/notes": 403, "/patients/8/sealed/x": 403, "/patients/8/inside/x": 403} {
		if got := r.status(t, appHost, path, who); got != want {
			t.Errorf("in a drill %s is answered %d, want %d", path, got, want)
		}
	}
	r.expectAccess(t, desk, access{ref: ref[1], user: "dana", reason: "drill", drill: true}, 2)
	shift(30*time.Minute + time.Second)
	for _, path := range []string{"/patients/7/notes", "/patients/8/notes"} {
		if got := r.status(t, appHost, path, who); got != http.StatusForbidden {
			t.Errorf("after 30 minutes %s is answered %d", path, got)
		}
	}
}

// unanswered: with a dead provider a person with a running session is let in; when it lives again the next one is asked.
func unanswered(t *testing.T, r *rig, b *browser, desk *desk, shift func(time.Duration)) {
	r.op.proc.kill()
	shift(31 * time.Minute) // what it said lately is forgotten
	form := b.emergencyForm(t, r.url(appHost, "/patients/7/notes"))
	if !strings.Contains(form.Body, "The sign-in service does not answer") {
		t.Errorf("the form does not say how the person gets in:\n%s", form.Body)
	}
	begun := b.submit(t, form, goodReason)
	ref := refNumber.FindStringSubmatch(begun.Body)
	if ref == nil {
		t.Fatalf("with a dead provider the form ends at %s with %d\n%s", begun.URL, begun.Status, begun.Body)
	}
	if got := r.status(t, appHost, "/patients/7/notes", b.person(t, r.url(appHost, "/"), "dana")); got != http.StatusOK {
		t.Errorf("the record is answered %d", got)
	}
	r.expectAccess(t, desk, access{ref: ref[1], user: "dana", reason: goodReason["reason"], stale: true}, 3)
	r.op.run(t)
	r.op.ready(t)
	shift(32 * time.Minute)
	b.asked(t, r, "/patients/9/notes")
}
