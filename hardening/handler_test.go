package hardening

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

// wantProblem checks an RFC 9457 answer and its event in the audit log.
func wantProblem(t *testing.T, w *world, rec *httptest.ResponseRecorder, status int, kind, reason string) {
	t.Helper()
	var p struct {
		Type, Title, Detail, Ref string
		Status                   int
	}
	if err := json.Unmarshal(rec.Body.Bytes(), &p); err != nil || rec.Header().Get("Content-Type") != "application/problem+json" {
		t.Fatalf("%d %s: not a problem: %s", rec.Code, rec.Header(), rec.Body)
	}
	if rec.Code != status || p.Status != status || p.Type != "urn:anteroom:problem:"+kind || p.Detail == "" || rec.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	e := w.events.last()
	if e.Kind != "hmac-service" || e.Reason != reason || e.Ref != p.Ref || e.Ref == "" || (e.Decision != "denied" && e.Decision != "failed") {
		t.Errorf("the event is %+v; want reason %s, ref %s", e, reason, p.Ref)
	}
}

func TestEndpoints(t *testing.T) {
	w := newWorld(t, nil)
	rec := w.post("protect", `{"items":[{"uid":"u1","secret":"s1","context":"pin"},{"uid":"u2","secret":"s2"}]}`)
	var made struct{ Items []struct{ Record string } }
	if err := json.Unmarshal(rec.Body.Bytes(), &made); err != nil || rec.Code != 200 || len(made.Items) != 2 || rec.Header().Get("Content-Type") != "application/json" || rec.Header().Get("Cache-Control") != "no-store" {
		t.Fatalf("%d %s %v", rec.Code, rec.Body, err)
	}
	verify := func(uid, secret, context, record string) string {
		body, _ := json.Marshal(map[string]string{"uid": uid, "secret": secret, "context": context, "record": record})
		rec := w.post("verify", string(body))
		if rec.Code != 200 {
			t.Fatalf("%d %s", rec.Code, rec.Body)
		}
		return strings.TrimSpace(rec.Body.String())
	}
	if got := verify("u1", "s1", "pin", made.Items[0].Record); got != `{"match":true,"needs_rehash":false,"record":null}` {
		t.Error(got)
	}
	if e := w.events.last(); len(w.events.list) != 2 || e.Decision != "allowed" || e.Reason != "" || e.ClientID != "token" || e.Rule != "p1" || e.Count != 1 || len(e.Subject) < 16 {
		t.Errorf("the events of two successes: %+v", w.events.list)
	}
	if got := verify("u2", "s1", "", made.Items[1].Record); got != `{"match":false,"needs_rehash":false,"record":null}` {
		t.Error(got)
	}
	e := w.events.last()
	if e.Reason != "mismatch" || e.Decision != "denied" || e.Route != "/hmac-service/v1/verify" || e.Method != "POST" || e.Site != "localhost" || e.Client != "127.0.0.1" || len(e.Subject) < 16 || strings.Contains(e.Subject, "u2") {
		t.Errorf("the event is %+v", e)
	}
	rotateNow(t, w)
	if got := verify("u1", "s1", "pin", made.Items[0].Record); !strings.HasPrefix(got, `{"match":true,"needs_rehash":true,"record":"$anteroom$v=1,ring=`) {
		t.Error(got)
	}
}

func TestOriginalForm(t *testing.T) {
	w := newWorld(t, nil)
	key := w.node.held().key(w.node.held().body.Compat)
	for target, want := range map[string]string{
		"/hmac-service?correct+horse":       original(key, []byte("correct horse"), 1),
		"/hmac-service?correct%20horse&0":   original(key, []byte("correct horse"), 1),
		"/hmac-service?correct+horse&4":     original(key, []byte("correct horse"), 4),
		"/hmac-service?correct+horse%00x&4": original(key, []byte("correct horse"), 4),
	} {
		rec := w.do("GET", target, "", "Authorization", "Bearer whatever")
		if rec.Code != 200 || rec.Body.String() != want || len(want) != 64 || strings.ToUpper(want) != want || rec.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %s", target, rec.Code, rec.Body)
		}
	}
	for _, target := range []string{"/hmac-service", "/hmac-service?", "/hmac-service?a%4", "/hmac-service?a&x", "/hmac-service?a&100001", "/hmac-service?a&999999999999"} {
		wantProblem(t, w, w.do("GET", target, ""), 400, "input", "input")
	}
	w.cfg.Limits.spendOriginal(8182)
	wantProblem(t, w, w.do("GET", "/hmac-service?a&4096", ""), 429, "too-many", "limit")

	off := newWorld(t, func(c *Config) { c.MaxRounds = 0 })
	wantProblem(t, off, off.do("GET", "/hmac-service?secret", ""), 401, "credential", "credential")
	wantProblem(t, off, off.do("GET", "/hmac-service?secret", "", "Authorization", "Bearer "+testToken), 404, "not-found", "not-found")
	if strings.Contains(off.log.String(), "secret") {
		t.Error("the query is in the log")
	}
}

func TestMethodsAndPaths(t *testing.T) {
	w := newWorld(t, nil)
	auth := []string{"Authorization", "Bearer " + testToken}
	for _, c := range []struct {
		method, target, allow string
		status                int
	}{
		{"GET", "/hmac-service/v1/protect", "POST", 405},
		{"GET", "/hmac-service/v1/verify?secret=x", "POST", 405},
		{"PUT", "/hmac-service/v1/verify", "POST", 405},
		{"OPTIONS", "/hmac-service/v1/verify", "POST", 405},
		{"POST", "/hmac-service", "GET", 405},
		{"HEAD", "/hmac-service?x", "GET", 405},
		{"GET", "/hmac-service/", "", 404},
		{"POST", "/hmac-service/v1", "", 404},
		{"POST", "/hmac-service/v1/protect/", "", 404},
		{"POST", "/hmac-service/v1//protect", "", 404},
		{"POST", "/hmac-service/v1/%70rotect", "", 404},
		{"GET", "/%68mac-service?x", "", 404},
		{"POST", "/hmac-service/v1/rotate", "", 404},
		{"GET", "/hmac-service/v1/status", "POST", 405},
	} {
		rec := w.do(c.method, c.target, "{}", auth...)
		if rec.Code != c.status || rec.Header().Get("Allow") != c.allow {
			t.Errorf("%s %s: %d, Allow %q", c.method, c.target, rec.Code, rec.Header().Get("Allow"))
		}
		// Without the credential there is nothing to find out.
		if rec := w.do(c.method, c.target, "{}"); rec.Code != 401 || rec.Header().Get("WWW-Authenticate") != `Bearer realm="hmac-service"` {
			t.Errorf("%s %s without credential: %d", c.method, c.target, rec.Code)
		}
	}
	if rec := w.do("BREW", "/hmac-service/v1/brew", ""); rec.Code != 401 || w.events.last().Method != "other" || w.events.last().Route != "/hmac-service/**" {
		t.Errorf("%+v", w.events.last())
	}
	if rec := w.do("GET", "/patients", ""); rec.Code != 299 {
		t.Error("another path is answered here")
	}
	rec := httptest.NewRecorder()
	if w.ServeHTTP(rec, httptest.NewRequest("GET", "/x", nil)); rec.Code != 404 {
		t.Error(rec.Code)
	}
}

func TestCredentials(t *testing.T) {
	w := newWorld(t, nil)
	const body = `{"items":[{"uid":"u","secret":"s"}]}`
	for name, lines := range map[string][]string{
		"none":            nil,
		"wrong":           {"Bearer " + strings.Repeat("x", 45)},
		"empty":           {"Bearer "},
		"scheme alone":    {"Bearer"},
		"Basic":           {"Basic " + testToken},
		"token alone":     {testToken},
		"two":             {"Bearer " + testToken, "Bearer " + testToken},
		"two blanks":      {"Bearer  " + testToken},
		"beginning of it": {"Bearer " + testToken[:32]},
	} {
		r := httptest.NewRequest("POST", pathProtect, strings.NewReader(body))
		r.Header["Authorization"] = lines
		r.Header.Set("Content-Type", "application/json")
		rec := httptest.NewRecorder()
		w.ServeHTTP(rec, r)
		if rec.Code != 401 {
			t.Errorf("%s: %d", name, rec.Code)
		}
	}
	if rec := w.do("POST", pathProtect, body, "Authorization", "bEaReR "+testToken); rec.Code != 200 {
		t.Errorf("the scheme's case: %d", rec.Code) // RFC 9110 section 11.1
	}
	compatOnly := newWorld(t, func(c *Config) { c.Callers.Token = nil })
	for _, target := range []string{pathProtect, pathVerify, Path, Path + "/x"} {
		if rec := compatOnly.post("protect", body); rec.Code != 401 {
			t.Errorf("POST %s with compat alone: %d", target, rec.Code)
		}
	}
	os.Remove(strings.TrimPrefix(w.cfg.Callers.Token.String(), "token file "))
	// Whatever token comes that is not known from the last second: nobody can say whether it is right.
	rec := w.do("POST", pathProtect, body, "Authorization", "Bearer "+strings.Repeat("n", 40), "Content-Type", "application/json")
	wantProblem(t, w, rec, 503, "unavailable", "token-file")
	if !strings.Contains(w.log.String(), "cannot read its token file") {
		t.Error("the operator did not hear of it")
	}
}

func TestBodies(t *testing.T) {
	w := newWorld(t, nil)
	auth := []string{"Authorization", "Bearer " + testToken}
	for _, kind := range []string{"", "text/html", "text/plain; charset=latin1", "application/x-www-form-urlencoded", "application/json; charset=latin1", "application/jsonx", ";;"} {
		r := httptest.NewRequest("POST", pathProtect, strings.NewReader(`{"items":[{"uid":"u","secret":"s"}]}`))
		r.Header.Set("Authorization", auth[1])
		r.Header.Set("Content-Type", kind)
		rec := httptest.NewRecorder()
		w.ServeHTTP(rec, r)
		wantProblem(t, w, rec, 415, "content-type", "content-type")
	}
	wantProblem(t, w, w.do("POST", pathVerify, "x", append(auth, "Content-Encoding", "gzip")...), 415, "content-type", "content-type")
	wantProblem(t, w, w.post("protect", strings.Repeat(" ", maxBody+1)), 413, "too-large", "too-large")
	wantProblem(t, w, w.post("protect", items(65)), 413, "too-large", "too-large")
	wantProblem(t, w, w.post("protect", `{"items":[{"uid":"u","secret":"planted-secret","x":1}]}`), 400, "input", "input")
	wantProblem(t, w, w.post("verify", `{"uid":"u","secret":"planted-secret","record":"planted-record"}`), 400, "input", "input")
	wantProblem(t, w, w.post("verify", `{"uid":"planted"}`), 400, "input", "input")
	if strings.Contains(w.log.String(), "planted") {
		t.Error("the log repeats a request")
	}
	r := httptest.NewRequest("POST", pathVerify, iotest.ErrReader(errors.New("reset")))
	r.Header.Set("Authorization", auth[1])
	r.Header.Set("Content-Type", "application/json; charset=UTF-8")
	rec := httptest.NewRecorder()
	w.ServeHTTP(rec, r)
	wantProblem(t, w, rec, 400, "input", "input")
}

func TestFailuresAnswered(t *testing.T) {
	w := newWorld(t, nil)
	const body = `{"items":[{"uid":"u","secret":"s"}]}`
	foreign := strings.Replace(goodRecord, ",c=portal-pin", "", 1)
	wantProblem(t, w, w.post("verify", `{"uid":"u","secret":"s","record":"`+foreign+`"}`), 400, "foreign-ring", "foreign-ring")
	w.cfg.Limits.spend(8192)
	rec := w.post("protect", body)
	wantProblem(t, w, rec, 429, "too-many", "limit")
	if rec.Header().Get("Retry-After") != "1" {
		t.Errorf("Retry-After %q", rec.Header().Get("Retry-After"))
	}
	wantProblem(t, w, w.post("verify", `{"uid":"u","secret":"s","record":"-"}`), 429, "too-many", "limit")
	w.clock.add(time.Hour)
	w.slots = newSlots(1, 0)
	w.slots.free <- struct{}{}
	rec = w.post("protect", body)
	wantProblem(t, w, rec, 503, "unavailable", "busy")
	if rec.Header().Get("Retry-After") != "1" {
		t.Error("no Retry-After")
	}
	w.slots.give()
	for i := range freeFailures + 1 {
		rec = w.post("verify", `{"uid":"u","secret":"s","record":"-"}`)
		if i < freeFailures && rec.Code != 200 {
			t.Fatalf("try %d: %d", i, rec.Code)
		}
	}
	wantProblem(t, w, rec, 429, "too-many", "limit")

	locked := newWorld(t, func(c *Config) {
		st := openBolt(t)
		newNode(t, st, newClock(), nil, testKey(t, newClock())).mustSync(t)
		n := newNode(t, st, newClock(), func(r *RingConfig) { r.Compat = true }, testKey(t, newClock()))
		if err := n.Sync(t.Context()); !errors.Is(err, ErrLocked) {
			t.Fatal(err)
		}
		c.Ring = n.Ring
	})
	wantProblem(t, locked, locked.post("protect", body), 503, "locked", "ring.locked")
	wantProblem(t, locked, locked.do("GET", "/hmac-service?x", ""), 503, "locked", "ring.locked")
	wantProblem(t, locked, locked.post("verify", `{"uid":"u","secret":"s","record":"-"}`), 503, "locked", "ring.locked")
}

// TestNoRecordNoAnswer: a failure that the audit log does not take is answered 503, a wrong secret too: otherwise a full
// disk would make guessing invisible.
func TestNoRecordNoAnswer(t *testing.T) {
	w := newWorld(t, nil)
	w.events.err = store.ErrUnavailable
	for _, rec := range []*httptest.ResponseRecorder{
		w.post("verify", `{"uid":"u","secret":"s","record":"-"}`),
		w.do("POST", pathProtect, "{}"),
	} {
		if rec.Code != 503 || !strings.Contains(rec.Body.String(), errAudit.Error()) || strings.Contains(rec.Body.String(), "match") {
			t.Errorf("%d %s", rec.Code, rec.Body)
		}
	}
}

// TestRefusalTable names every error that the handler can meet, so that a new one does not become a success.
func TestRefusalTable(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
	}{
		{errNotFound, 404}, {errCredential, 401}, {errNoToken, 503}, {errMethod, 405}, {errContentType, 415}, {errTooLarge, 413}, {errAudit, 503},
		{ErrLocked, 503}, {ErrWaiting, 503}, {errNoKey, 503}, {ErrInput, 400}, {ErrForeign, 400}, {ErrLimited, 429}, {ErrBusy, 503},
		{errors.New("something new"), 503}, {nil, 503},
	} {
		r := refusalFor(c.err)
		if r.status != c.status || r.kind == "" || r.reason == "" || (r.status == http.StatusServiceUnavailable) != (r.status >= 500) || r.status >= 500 && r.after == 0 {
			t.Errorf("%v: %+v", c.err, r)
		}
		if c.err != nil && strings.Contains(detailFor(c.err), "something new") {
			t.Error("an unknown error reaches the caller")
		}
	}
}

func TestWriteJSONFails(t *testing.T) {
	if _, err := encode(func() {}); err == nil || refusalFor(err).status != 503 {
		t.Error(err)
	}
}
