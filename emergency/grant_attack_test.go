package emergency

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// G11: a grant is for one session at one site and nobody else's; a changed, planted or foreign cookie is silently none.
func TestG11Bound(t *testing.T) {
	r := newRig(t)
	l := r.with(nil)
	line, _ := r.begin(l, r.grant("7"))
	ctx, now := t.Context(), r.clock.now()
	value, _ := cookieIn([]string{line})
	// Each twice: what the memory of opened cookies says is bound, too.
	for range 2 {
		r.wantActive(l, line, "7")
		if a := l.Active(ctx, []string{line}, sid, "APP.test:443", now); len(a) != 1 {
			t.Error("the same site in another spelling")
		}
		for name, c := range map[string]struct{ lines, sid, site string }{
			"other session":     {line, "another", site},
			"no session":        {line, "", site},
			"other site":        {line, sid, "other.test"},
			"other port":        {line, sid, site + ":8443"},
			"no site":           {line, sid, ""},
			"none":              {"a=b", sid, site},
			"empty":             {CookieName + "=", sid, site},
			"twice":             {line + "; " + CookieName + "=" + value, sid, site},
			"twice, planted":    {CookieName + "=x; " + line, sid, site},
			"odd name":          {CookieName + " =" + value, sid, site},
			"odd name and good": {line + "; " + CookieName + " =" + value, sid, site},
			"other case":        {strings.ToUpper(CookieName) + "=" + value, sid, site},
			"cut":               {CookieName + "=" + value[:len(value)-1], sid, site},
			"longer":            {CookieName + "=" + value + "A", sid, site},
			"quoted":            {CookieName + `="` + value + `"`, sid, site},
			"huge":              {CookieName + "=" + strings.Repeat("A", 5000), sid, site},
		} {
			if a := l.Active(ctx, []string{c.lines}, c.sid, c.site, now); a != nil {
				t.Errorf("%s: %+v", name, a)
			}
		}
		if a := l.Active(ctx, []string{line, line}, sid, site, now); a != nil {
			t.Error("two Cookie lines with one each")
		}
	}
	raw, _ := base64.RawURLEncoding.DecodeString(value)
	for i := range raw {
		changed := slices.Clone(raw)
		changed[i] ^= 1
		if r.active(l, CookieName+"="+base64.RawURLEncoding.EncodeToString(changed)) != nil {
			t.Errorf("byte %d may be changed", i)
		}
	}
	// What was sealed for something else under the same key is no cookie.
	for _, label := range []string{labelCookie, recordKey("0000000000"), hashKey(labelCookie, sid), hashKey(labelCookie, sid+site)} {
		sealed, err := r.sealer.Seal(ctx, label, []byte(`[{"i":"0000000000","r":"r","s":"/","b":0,"u":9999999999}]`))
		if err != nil {
			t.Fatal(err)
		}
		if r.active(l, CookieName+"="+base64.RawURLEncoding.EncodeToString(sealed)) != nil {
			t.Errorf("sealed for %s", label)
		}
	}
}

// G4: half an hour is half an hour; nothing is longer than four hours, whoever asked for it.
func TestG4Time(t *testing.T) {
	r := newRig(t)
	l := r.with(nil)
	line, _ := r.begin(l, r.grant("7"))
	r.clock.add(30*time.Minute - time.Second)
	r.wantActive(l, line, "7")
	r.clock.add(time.Second)
	r.wantActive(l, line)
	g := r.grant("8")
	g.Until = r.clock.now().Add(100 * time.Hour)
	g.Begun = r.clock.now().Add(50 * time.Hour) // is not believed
	long, _ := r.begin(l, g)
	r.clock.add(MaxLife - time.Second)
	r.wantActive(l, long, "8")
	r.clock.add(time.Second)
	r.wantActive(l, long)
}

// Several at once: eight hold, a ninth drops the oldest; the cookie always fits.
func TestSeveralGrants(t *testing.T) {
	r := newRig(t)
	l := r.with(nil)
	line, want := "", []string(nil)
	for i := range 10 {
		line, _ = r.begin(l, r.grant(fmt.Sprint(i), line))
		want = append(want, fmt.Sprint(i))
		r.wantActive(l, line, want[max(0, len(want)-MaxGrants):]...)
	}
	r.clock.add(29 * time.Minute)
	line, _ = r.begin(l, r.grant("new", line))
	r.clock.add(time.Minute)
	r.wantActive(l, line, "new")
	if len(r.list(l, StateOpen)) != 11 {
		t.Error("one that was dropped waits for no review")
	}

	line = ""
	for i := range 9 {
		g := r.grant(fmt.Sprint("long", i), line)
		g.Scope, g.Rule = "/patients/"+strings.Repeat("é<&>\"", 60), strings.Repeat("r", 300)
		line, _ = r.begin(l, g)
		value, _ := cookieIn([]string{line})
		if n := len(CookieName) + 1 + len(value); n > 4096 {
			t.Fatalf("%d bytes", n)
		}
	}
	if got := r.active(l, line); len(got) < 2 || got[len(got)-1] != "long8" {
		t.Errorf("%q", got)
	}
	// A cookie of another session is not carried over.
	g := r.grant("mine", line)
	g.Session = "another"
	c, _, err := l.Begin(t.Context(), g)
	if err != nil {
		t.Fatal(err)
	}
	if a := l.Active(t.Context(), []string{lineOf(c)}, "another", site, r.clock.now()); len(a) != 1 || a[0].Patient != "mine" {
		t.Errorf("%+v", a)
	}
}

// G11: an end is an end: at once on this node, within a quarter of a minute on the others, for copies of the cookie as well.
func TestG11End(t *testing.T) {
	r := newRig(t)
	a := r.with(nil)
	b := r.with(nil)
	ctx := t.Context()
	first, id := r.begin(a, r.grant("7"))
	both, _ := r.begin(a, r.grant("8", first))
	r.wantActive(b, both, "7", "8")
	r.audit.taken()
	end := End{ID: id, Session: sid, Site: site, Cookies: []string{both}, Who: Who{Username: "dana", Client: "192.0.2.8"}}
	c, err := a.End(ctx, end)
	if err != nil {
		t.Fatal(err)
	}
	if events := r.audit.taken(); len(events) != 1 || events[0].Decision != "ended" || events[0].Reason != "by-person" || events[0].Emergency != id || events[0].Client != "192.0.2.8" {
		t.Errorf("%+v", events)
	}
	r.wantActive(a, lineOf(c), "8")
	r.wantActive(a, both, "8") // the copy
	r.wantActive(a, first)
	r.clock.add(freshFor)
	r.wantActive(b, both, "8")
	if again, err := a.End(ctx, end); !errors.Is(err, ErrNotFound) || lineOf(again) == "" {
		t.Errorf("ended twice: %v", err)
	}
	// An ended one does not come back with the next grant.
	third, _ := r.begin(b, r.grant("9", both))
	r.wantActive(a, third, "8", "9")
	for name, foreign := range map[string]End{
		"session": {Session: "another", Site: site, Cookies: []string{third}},
		"site":    {Session: sid, Site: "other.test", Cookies: []string{third}},
		"id":      {ID: "ZZZZZZZZZZ", Session: sid, Site: site, Cookies: []string{third}},
	} {
		if _, err := a.End(ctx, foreign); !errors.Is(err, ErrNotFound) {
			t.Errorf("another %s: %v", name, err)
		}
	}
	r.wantActive(a, third, "8", "9")
	if c, err = a.End(ctx, End{Session: sid, Site: site, Cookies: []string{third}}); err != nil || c.MaxAge >= 0 || c.Value != "" {
		t.Errorf("all: %+v %v", c, err)
	}
	r.wantActive(a, third)
	for _, v := range r.list(a, StateOpen) {
		if v.Ended.IsZero() {
			t.Errorf("%s has no end", v.Patient)
		}
	}
}

// An end that the store or the audit log cannot take holds here all the same.
func TestEndWithoutStore(t *testing.T) {
	r := newRig(t)
	l := r.with(nil)
	line, _ := r.begin(l, r.grant("7"))
	r.store.failing(func(string, string) bool { return true })
	c, err := l.End(t.Context(), End{Session: sid, Site: site, Cookies: []string{line}})
	if !errors.Is(err, ErrUnavailable) || c == nil || c.MaxAge >= 0 {
		t.Errorf("%+v %v", c, err)
	}
	r.store.failing(nil)
	r.wantActive(l, line)
	r.clock.add(time.Minute)
	r.wantActive(l, line)
}

// Invariant 10: requests ask the store once in a quarter of a minute, those without a cookie of ours and strangers never.
func TestHotPath(t *testing.T) {
	r := newRig(t)
	l := r.with(nil)
	other := r.with(nil)
	line, _ := r.begin(l, r.grant("7"))
	r.store.taken()
	for range 100 {
		r.wantActive(l, line, "7")
		l.Active(t.Context(), []string{line}, "another", site, r.clock.now())
		l.Active(t.Context(), []string{"a=b", CookieName + "=AAAA"}, sid, site, r.clock.now())
	}
	if n := r.store.taken(); n != 0 {
		t.Errorf("%d calls", n)
	}
	for range 100 {
		r.wantActive(other, line, "7")
	}
	if n := r.store.taken(); n != 1 {
		t.Errorf("another node: %d calls", n)
	}
	r.clock.add(freshFor)
	for range 100 {
		r.wantActive(l, line, "7")
	}
	if n := r.store.taken(); n != 1 {
		t.Errorf("a quarter of a minute later: %d calls", n)
	}
	lines := []string{line}
	now := r.clock.now()
	if n := testing.AllocsPerRun(100, func() { l.Active(context.Background(), []string(lines), sid, site, now) }); n > 6 {
		t.Errorf("%v allocations", n)
	}
	lines[0] = "a=b; c=d"
	if n := testing.AllocsPerRun(100, func() { l.Active(context.Background(), lines, sid, site, now) }); n != 0 {
		t.Errorf("without a cookie: %v allocations", n)
	}
}

// A silent store: what it said last counts for five minutes; a node that never heard of a grant gives nothing; each request
// does not ask again.
func TestSilentStore(t *testing.T) {
	r := newRig(t)
	l := r.with(nil)
	other := r.with(nil)
	line, _ := r.begin(l, r.grant("7"))
	r.store.failing(func(string, string) bool { return true })
	r.wantActive(other, line)
	r.clock.add(4 * time.Minute)
	r.store.taken()
	for range 50 {
		r.wantActive(l, line, "7")
	}
	if n := r.store.taken(); n != 1 {
		t.Errorf("%d calls", n)
	}
	r.clock.add(time.Minute)
	r.wantActive(l, line)
	r.store.failing(nil)
	r.clock.add(askAgain)
	r.wantActive(l, line, "7")
	r.wantActive(other, line, "7")
}

// A record that is gone, that does not open or that was exchanged is no access.
func TestRecordDecides(t *testing.T) {
	r := newRig(t)
	a := r.with(nil)
	b := r.with(nil)
	ctx := t.Context()
	line, id := r.begin(a, r.grant("7"))
	line2, id2 := r.begin(a, r.grant("8"))
	sealed, err := r.store.Get(ctx, recordKey(id))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.store.Put(ctx, recordKey(id2), sealed, time.Time{}); err != nil {
		t.Fatal(err)
	}
	r.wantActive(b, line2)
	if err := r.store.Delete(ctx, recordKey(id)); err != nil {
		t.Fatal(err)
	}
	r.wantActive(b, line)
	r.clock.add(freshFor)
	r.wantActive(a, line)
}

// Whatever a browser sends gives nothing that was not sealed for it, and never ends the program.
func FuzzActive(f *testing.F) {
	f.Add(CookieName+"=AAAA", "a=b")
	f.Add(" "+CookieName+"=;"+CookieName, "")
	f.Add("x="+CookieName+"=y; \t"+CookieName+"\t=z", CookieName)
	l := &Ledger{cookies: newRecent[[32]byte, opened](8), standings: newRecent[string, standing](8)}
	f.Fuzz(func(t *testing.T, one, two string) {
		value, ok := cookieIn([]string{one, two})
		if ok && (value == "" || strings.Contains(value, ";") || len(value) > maxCookie) {
			t.Errorf("%q", value)
		}
		if l.Active(context.Background(), []string{one, two}, sid, site, time.Now()) != nil {
			t.Error("access")
		}
	})
}
