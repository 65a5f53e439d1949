package integration

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/store/redis/redistest"
)

// View budgets over several nodes: how many different records one person opens, wherever, and in whatever spelling.

// budgetConfig: six patients an hour at one site, then no more; four at the other, then a new sign-in.
var budgetConfig = "{" + hallGlobals + `
	anteroom {
		store redis $REDIS
		alarm webhook $DESK {
			token {file.$DIR/alarm.token}
		}` + hospital + `
	}
}

app.test:$PORT {
	tls $CERT $KEY
	anteroom {
		allow role doctor /patients/{patient}/**
		allow any /members/**
		budget role doctor 6 distinct {patient} per 1h alarm 3 on /patients/{patient}/**
	}
	reverse_proxy $DUMP
}

wide.test:$PORT {
	tls $CERT $KEY
	anteroom {
		allow role doctor /patients/{patient}/**
		budget role doctor 4 distinct {patient} per 1h then step_up on /patients/{patient}/**
		on_store_loss running_sessions 10m
	}
	reverse_proxy $DUMP
}
`

// TestBudgetOverNodes: a value counts once over all nodes, methods and spellings; each level is told once; at the limit what is new is
// refused at every node and what was opened before is not; another person has a budget of their own.
func TestBudgetOverNodes(t *testing.T) {
	server := redistest.Standalone(t)
	h, desk := newGuarded(t, 3, server, budgetConfig)
	r := h.nodes[0]
	dana, again, zoe := r.person(t, appHost, "dana"), h.nodes[1].person(t, appHost, "dana"), h.nodes[2].person(t, appHost, "zoe")
	opened := []string{"4711", "a%20b", "%34712", "x+y", "Z%C3%AB", "six"}
	for i, patient := range opened {
		for k, target := range []string{"/patients/" + patient + "/notes", "/patients/" + patient, "/patients/" + patient + "/a/b?c=d", "/patients/" + respelled(patient) + "/notes"} {
			for _, method := range []string{"GET", "HEAD", "POST"} {
				who := dana
				if k == 1 {
					who = again // the same person, signed in elsewhere
				}
				h.everywhere(t, fmt.Sprintf("record %d of 6", i+1), method, appHost, target, who, 200)
			}
		}
		alarms := 0
		if i >= 2 {
			alarms = 1
		}
		if got := desk.hears(t, "budget", alarms); alarms == 1 && (got[0].Count != 3 || got[0].Who != "dana" || got[0].Subject != "") {
			t.Errorf("the alarm says %+v", got[0])
		}
	}
	r.dump.take()
	for k, patient := range []string{"seven", "eight", "%73even", "SIX", "sixty"} {
		for i, n := range h.nodes {
			who := []*session{dana, again}[(i+k)%2]
			p := n.sent(t, "GET", appHost, "/patients/"+patient+"/notes", who)
			if p.Status != 403 || !strings.Contains(p.Body, "urn:anteroom:problem:budget") {
				t.Errorf("above the limit node %d answers %s with %d %s", i+1, patient, p.Status, p.Body)
			}
		}
	}
	if got := r.dump.take(); len(got) > 0 {
		t.Errorf("above the limit the application saw %s", got[0].Head)
	}
	if a := desk.hears(t, "budget-limit", 1)[0]; a.Limit != 6 || a.Who != "dana" {
		t.Errorf("the alarm says %+v", a)
	}
	for _, patient := range opened {
		h.everywhere(t, "opened before", "GET", appHost, "/patients/"+patient+"/notes", dana, 200)
	}
	h.everywhere(t, "what no budget is about", "GET", appHost, "/members/x", dana, 200)
	h.everywhere(t, "somebody else", "GET", appHost, "/patients/seven/notes", zoe, 200)
	p := navigationAs(t, r, appHost, "/patients/nine/notes", dana)
	if p.Status != 403 || !strings.Contains(p.Body, "unusually many records") {
		t.Errorf("a person is shown %d\n%s", p.Status, p.Body)
	}
	r.proc.kill()
	h.start(t, 0)
	if got := r.status(t, appHost, "/patients/ten/notes", dana); got != 403 {
		t.Errorf("after a crash the budget is answered %d", got)
	}
	levels := map[string]int{}
	for _, n := range h.nodes {
		for _, rec := range n.audit(t) {
			if rec.str("kind") == "budget" {
				levels[rec.str("reason")]++
			}
		}
		if where := grepFiles(t, filepath.Join(n.dataDir(), "anteroom", "audit"), "4711"); where != "" {
			t.Errorf("%s names a patient", where)
		}
	}
	if levels["budget.alarm"] != 1 || levels["budget.limit"] != 1 || len(levels) != 2 {
		t.Errorf("the audit logs have these levels: %v", levels)
	}
	if dump := string(server.Dump()); strings.Contains(dump, "4711") || len(dump) < 1000 {
		t.Errorf("Redis' files (%d bytes) name a patient", len(dump))
	}
	desk.hears(t, "budget", 1)
	desk.hears(t, "budget-limit", 1)
}

// respelled writes the first character of a segment as an escape, or the escape as a character.
func respelled(segment string) string {
	if strings.HasPrefix(segment, "%34") {
		return "4" + segment[3:]
	}
	return fmt.Sprintf("%%%02X%s", segment[0], segment[1:])
}

// navigationAs opens a page with the cookies of a session.
func navigationAs(t testing.TB, r *rig, host, target string, who *session) page {
	t.Helper()
	return newBrowser(t).do(t, navigation(t, "GET", r.url(host, target), "", "Cookie", strings.TrimPrefix(who.line(), "Cookie: ")))
}

// TestBudgetStepUp: at the limit a program gets the challenge and a person goes through a new sign-in, once; the sign-in of another
// browser does not help the first one for ever.
func TestBudgetStepUp(t *testing.T) {
	t.Parallel() // four seconds of waiting
	h, desk := newGuarded(t, 2, redistest.Standalone(t), budgetConfig)
	r := h.nodes[0]
	b := newBrowser(t)
	b.signIn(t, r.url(wideHost, "/patients/1/x"), "dana", "dana-pw")
	old := b.person(t, r.url(wideHost, "/"), "dana")
	for patient := 1; patient <= 4; patient++ {
		h.everywhere(t, "within the budget", "GET", wideHost, fmt.Sprintf("/patients/%d/x", patient), old, 200)
	}
	for i, n := range h.nodes {
		p := n.sent(t, "GET", wideHost, "/patients/5/x", old)
		if challenge := strings.Join(p.Header.Values("WWW-Authenticate"), "\n"); p.Status != 401 || !strings.Contains(challenge, "insufficient_user_authentication") || !strings.Contains(challenge, "max_age=") {
			t.Errorf("node %d answers %d\n%s", i+1, p.Status, challenge)
		}
	}
	desk.hears(t, "budget-limit", 1)
	h.everywhere(t, "opened before", "GET", wideHost, "/patients/2/x", old, 200)
	time.Sleep(3500 * time.Millisecond) // providers count in whole seconds, and the challenge asks for less than what has passed
	form := b.visit(t, r.url(wideHost, "/patients/5/x?bed=2"))
	if !strings.HasPrefix(form.URL.String(), r.op.issuer) || !strings.Contains(form.Body, "password") {
		t.Fatalf("a person is led to %s:\n%s", form.URL, form.Body)
	}
	if got := b.submit(t, form, map[string]string{"username": "dana", "password": "dana-pw"}); got.Status != http.StatusOK || got.URL.RequestURI() != "/patients/5/x?bed=2" {
		t.Fatalf("after a new sign-in the way ends at %s with %d:\n%s", got.URL, got.Status, got.Body)
	}
	dana := b.person(t, r.url(wideHost, "/"), "dana")
	for patient := 5; patient <= 8; patient++ {
		h.everywhere(t, "the next budget", "GET", wideHost, fmt.Sprintf("/patients/%d/x", patient), dana, 200)
	}
	h.everywhere(t, "the next limit", "GET", wideHost, "/patients/9/x", dana, 401)
}

// TestBudgetWithoutStore: with a store that is gone nothing new opens; where running sessions go on, each node lets one more budget
// through and not more, and says so in the audit log.
func TestBudgetWithoutStore(t *testing.T) {
	t.Parallel() // half a minute of waiting
	server := redistest.Standalone(t)
	h, _ := newGuarded(t, 1, server, budgetConfig)
	r := h.nodes[0]
	dana, wide := r.person(t, appHost, "dana"), r.person(t, wideHost, "dana")
	for _, patient := range []string{"1", "2"} {
		h.everywhere(t, "before", "GET", appHost, "/patients/"+patient+"/x", dana, 200)
	}
	h.everywhere(t, "before", "GET", wideHost, "/patients/1/x", wide, 200)
	r.hear(t) // after the sessions were seen
	server.Kill()
	killed := time.Now()
	r.dump.take()
	for _, patient := range []string{"3", "4", "5"} {
		if p := r.sent(t, "GET", appHost, "/patients/"+patient+"/x", dana); p.Status != 503 {
			t.Errorf("%v after the store went, a new record is answered %d", time.Since(killed), p.Status)
		}
	}
	if got := r.dump.take(); len(got) > 0 {
		t.Errorf("without a store the application saw %s", got[0].Head)
	}
	time.Sleep(time.Until(killed.Add(33 * time.Second)))
	if got := r.status(t, appHost, "/patients/1/x", dana); got != 503 {
		t.Errorf("half a minute after the store went, the site that denies answers %d", got)
	}
	passed := 0
	for patient := range 12 {
		if got := r.status(t, wideHost, fmt.Sprintf("/patients/w%d/x", patient), wide); got == 200 {
			passed++
		} else if got != 401 && got != 403 && got != 503 {
			t.Errorf("a running session above its budget is answered %d", got)
		}
	}
	if passed == 0 || passed > 4 {
		t.Errorf("%d different records pass without a store, the budget is 4", passed)
	}
	server.Start()
	eventually(t, patience, func() error {
		if got := r.status(t, appHost, "/patients/1/x", dana); got != 200 {
			return fmt.Errorf("with the store back: %d", got)
		}
		return nil
	})
	for patient := 3; patient <= 6; patient++ {
		h.everywhere(t, "after", "GET", appHost, fmt.Sprintf("/patients/%d/x", patient), dana, 200)
	}
	h.everywhere(t, "after", "GET", appHost, "/patients/7/x", dana, 403)
}
