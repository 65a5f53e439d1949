package policy

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

// aged is a doctor who signed in some time ago.
func aged(age time.Duration, acr string) *Subject {
	return person("doctor", func(s *Subject) { s.AuthTime, s.ACR = noon.Add(-age), acr })
}

// G2: what only a sign-in lacks is asked for before the glass is broken, and nothing is opened without it.
func TestGlassNeedsASignIn(t *testing.T) {
	p := with(t, Config{}, "allow role doctor /own", "break_glass role doctor on /a/{p}/** for 30m max_age 5m", "break_glass role doctor on /b/{p} for 30m acr mfa", "break_glass role doctor on /c/{p} for 30m",
		"require max_age 1m /c/**", "require acr mfa /a/{p}/secret", "allow role doctor /d/** acr mfa", "break_glass role doctor on /d/{p} for 30m max_age 5m", "break_glass role doctor on /e/{p} for 30m acr low", "require acr high /e/1")
	for _, c := range []struct {
		who  *Subject
		path string
		need *Need
		ok   bool
	}{
		{aged(time.Minute, ""), "/a/7", nil, true},
		{aged(time.Hour, ""), "/a/7", &Need{MaxAge: 5 * time.Minute}, true},
		{person("doctor", func(s *Subject) { s.AuthTime = time.Time{} }), "/a/7", &Need{MaxAge: 5 * time.Minute}, true},
		{aged(time.Hour, ""), "/a/7/secret", &Need{ACR: []string{"mfa"}, MaxAge: 5 * time.Minute}, true},
		{aged(0, ""), "/b/7", &Need{ACR: []string{"mfa"}}, true},
		{aged(0, "mfa"), "/b/7", nil, true},
		{aged(time.Hour, ""), "/c/7", &Need{MaxAge: time.Minute}, true},
		{aged(0, ""), "/d/7", nil, true},             // an allow line asks for a level that this person may not have
		{aged(time.Hour, ""), "/d/7", nil, false},    // a sign-in that shows more opens it without a form
		{aged(time.Hour, "low"), "/e/1", nil, false}, // no sign-in is enough for both
		{person("nurse"), "/a/7", nil, false},
		{nil, "/a/7", nil, false},
	} {
		r := get(t, p, c.who, c.path)
		e, ok := p.Emergency(r)
		if ok != c.ok || !reflect.DeepEqual(e.Need, c.need) {
			t.Errorf("%s %+v: %t %+v, need %+v", c.path, c.who, ok, e, e.Need)
		}
	}
	// The age counts at the beginning. A require line counts always, and so does what the line says of the sign-in besides.
	r := get(t, p, aged(0, ""), "/a/7")
	e, _ := p.Emergency(r)
	if r.Who = aged(time.Hour, ""); !p.Break(r, e) {
		t.Error("an access of half an hour ends with the max_age of its line")
	}
	if r := get(t, p, aged(time.Hour, ""), "/a/7/secret"); p.Break(r, e) {
		t.Error("a grant lifts a require")
	}
	e, _ = p.Emergency(get(t, p, aged(0, "mfa"), "/b/7"))
	if p.Break(get(t, p, aged(0, ""), "/b/7"), e) {
		t.Error("a weaker sign-in goes on with the grant of a stronger one")
	}
	e, _ = p.Emergency(get(t, p, aged(0, ""), "/c/7"))
	if p.Break(get(t, p, aged(time.Hour, ""), "/c/7"), e) {
		t.Error("a grant lifts a require max_age")
	}
}

// G2, G12: the words for a fresh sign-in and for a drill, and what is said of others.
func TestGlassOptions(t *testing.T) {
	for text, want := range map[string]Emergency{
		"for 30m": {}, "for 30m drill": {Drill: true}, "for 30m fresh 5m": {Fresh: 5 * time.Minute}, "for 30m fresh 90s drill acr mfa": {Fresh: 90 * time.Second, Drill: true}, "for 30m drill fresh 5m": {Fresh: 5 * time.Minute, Drill: true},
	} {
		p := with(t, Config{}, "allow any /own", "break_glass role doctor on /a/{p} "+text)
		if e, ok := p.Emergency(get(t, p, aged(0, "mfa"), "/a/7")); !ok || e.Fresh != want.Fresh || e.Drill != want.Drill || e.For != 30*time.Minute {
			t.Errorf("%s: %t %+v", text, ok, e)
		}
	}
	for text, want := range map[string]string{
		"for 30m fresh": "fresh 5m", "for 30m fresh 5": "fresh 5m", "for 30m fresh 5m fresh 6m": "twice", "for 30m drill drill": "twice", "for 30m fresh 10s": "a minute at least", "for 30m fresh 5m max_age 5m": "does not", "for 30m fresh 5m acr mfa max_age 5m": "does not",
		"for 30m drills": "`drill`", "for 30m acr mfa drill": "before the conditions", "for 30m fesh 5m": "`fresh 5m`",
	} {
		_, err := New(Config{Lines: lines("allow any /own", "break_glass role doctor on /a/{p} "+text)})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
