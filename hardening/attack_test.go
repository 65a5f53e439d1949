package hardening

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/loopback"
)

// TestA136OnlyTheSocketCounts: a stranger, and a browser or proxy on this host, send everything right but where they are.
// A stranger's request goes on like any path; one from this host ends here, because its query may hold a password.
func TestA136OnlyTheSocketCounts(t *testing.T) {
	w := newWorld(t, nil)
	good := w.facts
	for name, c := range map[string]struct {
		change func(*loopback.Facts)
		header []string
		want   int
	}{
		"remote client":        {func(f *loopback.Facts) { f.KernelRemote = netip.MustParseAddr("192.0.2.2") }, nil, 299},
		"remote, XFF":          {func(f *loopback.Facts) { f.KernelRemote = netip.MustParseAddr("192.0.2.2") }, []string{"X-Forwarded-For", "127.0.0.1"}, 299},
		"SSRF through a proxy": {func(*loopback.Facts) {}, []string{"Via", "1.1 x"}, 404},
		"local, XFF 127.0.0.1": {func(*loopback.Facts) {}, []string{"X-Forwarded-For", "127.0.0.1"}, 404},
		"foreign Host":         {func(f *loopback.Facts) { f.Host = "evil.test" }, nil, 404},
		"service mesh":         {func(f *loopback.Facts) { f.KernelRemote = netip.MustParseAddr("127.0.0.6") }, nil, 404},
		"rebinding page":       {func(f *loopback.Facts) { f.Host, f.SNI = "evil.test", "evil.test" }, []string{"Origin", "https://evil.test"}, 404},
		"image in a page":      {func(*loopback.Facts) {}, []string{"Sec-Fetch-Dest", "image"}, 404},
	} {
		t.Run(name, func(t *testing.T) {
			w.facts = good
			c.change(&w.facts)
			for _, target := range []string{pathProtect, Path + "?planted-password", Path + "/x", "//hmac-service?planted-password"} {
				rec := w.do("POST", target, `{"items":[{"uid":"u","secret":"s"}]}`, append(c.header, "Authorization", "Bearer "+testToken)...)
				if rec.Code != c.want {
					t.Errorf("%s: %d", target, rec.Code)
				}
				if rec = w.do("GET", target, "", c.header...); rec.Code != c.want {
					t.Errorf("GET %s: %d", target, rec.Code)
				}
				if c.want == 404 && !strings.HasPrefix(w.events.last().Reason, "guard.") {
					t.Errorf("the event is %+v", w.events.last())
				}
			}
		})
	}
	if strings.Contains(w.log.String(), "planted") {
		t.Error("the log repeats a query")
	}
	for _, e := range w.events.list {
		if e.Site != "localhost" {
			t.Errorf("a caller's host is in the audit log: %q", e.Site)
		}
	}
}

// TestA137CallerNeedsCredential: curl on the same host, without the token.
func TestA137CallerNeedsCredential(t *testing.T) {
	w := newWorld(t, nil)
	for _, endpoint := range []string{"protect", "verify", "status", ""} {
		if rec := w.do("POST", Path+"/v1/"+endpoint, "{}"); rec.Code != 401 {
			t.Errorf("%s: %d", endpoint, rec.Code)
		}
	}
}

// TestA138SecretNotInURL: a caller that puts the secret into the URL of a v1 endpoint is refused, and nobody logs it.
func TestA138SecretNotInURL(t *testing.T) {
	w := newWorld(t, nil)
	for _, method := range []string{"GET", "HEAD"} {
		if rec := w.do(method, pathProtect+"?secret=planted-secret", "", "Authorization", "Bearer "+testToken); rec.Code != 405 {
			t.Errorf("%s: %d", method, rec.Code)
		}
	}
	all, err := json.Marshal(w.events.list)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(w.log.String()+string(all), "planted") {
		t.Error("the secret was recorded")
	}
}

// TestA139BoundedWork: requests that ask for more work than is allowed are refused before any of it is done.
func TestA139BoundedWork(t *testing.T) {
	w := newWorld(t, nil)
	began := time.AfterFunc(time.Minute, func() { panic("unbounded work") })
	defer began.Stop()
	if rec := w.do("GET", "/hmac-service?a&1000000000", ""); rec.Code != 400 {
		t.Error(rec.Code)
	}
	if rec := w.post("protect", items(65)); rec.Code != 413 {
		t.Error(rec.Code)
	}
	hungry := strings.Replace(goodRecord, "m=19456,t=2", "m=4194304,t=2", 1)
	if rec := w.post("verify", `{"uid":"u","secret":"s","record":"`+hungry+`"}`); rec.Code != 400 {
		t.Error(rec.Code)
	}
	if l := w.cfg.Limits; l.callers.tokens != l.burst || l.original.tokens != l.burst {
		t.Error("refused requests cost units")
	}
}

// TestA140BinarySafe: "a" and "a\x00b" are two secrets. Only the original form cuts, as its C string did.
func TestA140BinarySafe(t *testing.T) {
	w := newWorld(t, nil)
	records, err := w.Protect(t.Context(), []Item{{UID: "u", Secret: "a"}})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := w.Verify(t.Context(), Verification{Item: Item{UID: "u", Secret: "a\x00b"}, Record: records[0]}); err != nil || got.Match {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestA141KeySeparation: the TLS key makes no record and no record key; one TLS key wraps two rings under two keys.
func TestA141KeySeparation(t *testing.T) {
	c := newClock()
	k := testKey(t, c)
	a := newNode(t, openBolt(t), c, nil, k).mustSync(t)
	b := newNode(t, openBolt(t), c, nil, k).mustSync(t)
	if a.file.Ring == b.file.Ring || string(a.key("p1")) == string(b.key("p1")) || string(a.fileKey) == string(b.fileKey) {
		t.Error("two rings of one TLS key share a key")
	}
	wa, err := k.wrapKey(a.file.Ring)
	if err != nil {
		t.Fatal(err)
	}
	wb, err := k.wrapKey(b.file.Ring)
	if err != nil || string(wa) == string(wb) {
		t.Error("two rings share a wrapping key")
	}
	a.file.Stanzas = b.file.Stanzas
	if unwrap(a.file, []TLSKey{k}, nil) != nil {
		t.Error("a stanza of another ring opens")
	}
}

// TestA142RenewalLocksNobodyOut: three renewals and a restart between the record and its verification.
func TestA142RenewalLocksNobodyOut(t *testing.T) {
	w := newWorld(t, nil)
	item := Item{UID: "u", Secret: "correct horse"}
	records, err := w.Protect(t.Context(), []Item{item})
	if err != nil {
		t.Fatal(err)
	}
	digest, err := w.Original(t.Context(), []byte("correct horse"), 3)
	if err != nil {
		t.Fatal(err)
	}
	var last TLSKey
	for range 3 {
		last = testKey(t, w.clock)
		w.node.mustSync(t, last)
		w.node.serve(last)
	}
	restarted := newNode(t, w.node.cfg.Store, w.clock, func(r *RingConfig) { r.Compat = true }, last)
	restarted.mustSync(t)
	w.cfg.Ring = restarted.Ring
	if got, err := w.Verify(t.Context(), Verification{Item: item, Record: records[0]}); err != nil || !got.Match {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := w.Original(t.Context(), []byte("correct horse"), 3); err != nil || got != digest {
		t.Errorf("the original form says %s, %v", got, err)
	}
}

// TestA143PepperIsNotTheHash: each record carries the slow step, and none is accepted without.
func TestA143PepperIsNotTheHash(t *testing.T) {
	w := newWorld(t, nil)
	records, err := w.Protect(t.Context(), []Item{{UID: "u", Secret: "s"}})
	if err != nil || !strings.Contains(records[0], ",s=argon2id:m=19456,t=2,p=1$") {
		t.Fatal(records, err)
	}
	fast := strings.Replace(records[0], ",s=argon2id:m=19456,t=2,p=1", "", 1)
	if rec := w.post("verify", `{"uid":"u","secret":"s","record":"`+fast+`"}`); rec.Code != 400 {
		t.Error(rec.Code)
	}
}

// TestA104FailuresAreCounted, A105: guessing one account stops after ten tries, another account is not touched, and the
// right secret is accepted again once the pause is over.
func TestA104FailuresAreCounted(t *testing.T) {
	w := newWorld(t, nil)
	records, err := w.Protect(t.Context(), []Item{{UID: "alice", Secret: "right"}, {UID: "bob", Secret: "right"}})
	if err != nil {
		t.Fatal(err)
	}
	verify := func(uid, secret, record string) int {
		return w.post("verify", `{"uid":"`+uid+`","secret":"`+secret+`","record":"`+record+`"}`).Code
	}
	evaluated := 0
	for range 30 {
		if verify("alice", "guess", records[0]) == 200 {
			evaluated++
		}
	}
	if evaluated != freeFailures {
		t.Errorf("%d guesses were evaluated", evaluated)
	}
	if verify("alice", "right", records[0]) != 429 || verify("bob", "right", records[1]) != 200 {
		t.Error("the pause holds for the wrong account")
	}
	w.clock.add(2 * time.Second)
	for range 2 {
		if verify("alice", "right", records[0]) != 200 {
			t.Error("A105: the account stays locked out")
		}
	}
}
