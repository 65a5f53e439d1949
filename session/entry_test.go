package session

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// What the feed holds and nobody understands closes the doors; it may be a
// revocation of a newer version.
func TestFeedEntries(t *testing.T) {
	good := newID()
	entry := func(kind, sid string, until any) string {
		return fmt.Sprintf(`{"kind":%q,"sid":%q,"until":%v}`, kind, sid, until)
	}
	for name, c := range map[string]struct {
		value string
		want  error
	}{
		"a revocation":           {entry(labelRevoked, good, 1999999999), nil},
		"one of the past":        {entry(labelRevoked, good, 1), nil},
		"another package's":      {`{"kind":"anteroom/other/thing/v1","x":1}`, nil},
		"a newer kind of ours":   {entry("anteroom/session/revoked-user/v1", good, 1999999999), errFeed},
		"a newer member":         {`{"kind":"` + labelRevoked + `","sid":"` + good + `","until":1999999999,"x":1}`, errFeed},
		"no session id":          {entry(labelRevoked, "x", 1999999999), errFeed},
		"no end":                 {`{"kind":"` + labelRevoked + `","sid":"` + good + `"}`, errFeed},
		"end of another type":    {entry(labelRevoked, good, `"x"`), errFeed},
		"no kind":                {`{}`, errFeed},
		"not JSON":               {"\x00\x01", errFeed},
		"empty":                  {"", errFeed},
		"revocation, cut short":  {entry(labelRevoked, good, 1999999999)[:40], errFeed},
		"format characters":      {`{"kind":"%s%n%x"}`, nil},
		"negative end":           {entry(labelRevoked, good, -1), errFeed},
		"kind of a longer name":  {entry(labelRevoked+"x", good, 1999999999), errFeed},
		"with a reason":          {`{"kind":"` + labelRevoked + `","sid":"` + good + `","reason":"moved","until":1999999999}`, nil},
		"with another reason":    {`{"kind":"` + labelRevoked + `","sid":"` + good + `","reason":"a newer one","until":1999999999}`, nil},
		"a member of another":    {`{"kind":"` + labelRevoked + `","sid":"` + good + `","before":5,"until":1999999999}`, errFeed},
		"an account":             {`{"kind":"` + labelRevokedAccount + `","key":"` + good + `","before":5,"until":1999999999}`, nil},
		"an account, no time":    {`{"kind":"` + labelRevokedAccount + `","key":"` + good + `","until":1999999999}`, errFeed},
		"an account, no hash":    {`{"kind":"` + labelRevokedAccount + `","key":"dana","before":5,"until":1999999999}`, errFeed},
		"an account and a sid":   {`{"kind":"` + labelRevokedAccount + `","key":"` + good + `","sid":"` + good + `","before":5,"until":1999999999}`, errFeed},
		"a username":             {`{"kind":"` + labelRevokedUsername + `","key":"` + good + `","before":5,"until":1999999999}`, nil},
		"a provider's session":   {`{"kind":"` + labelRevokedProvider + `","key":"` + good + `","until":1999999999}`, nil},
		"no provider's session":  {`{"kind":"` + labelRevokedProvider + `","until":1999999999}`, errFeed},
		"everybody":              {`{"kind":"` + labelRevokedAll + `","before":5,"until":1999999999}`, nil},
		"everybody, no time":     {`{"kind":"` + labelRevokedAll + `","until":1999999999}`, errFeed},
		"a time that wraps":      {`{"kind":"` + labelRevokedAll + `","before":4294967296,"until":4294967300}`, errFeed},
		"an end that wraps":      {entry(labelRevoked, good, 4294967295), errFeed},
		"many":                   {`{"kind":"` + labelRevokedMany + `","entries":[` + entry(labelRevoked, good, 1999999999) + `],"until":1999999999}`, nil},
		"many, one not known":    {`{"kind":"` + labelRevokedMany + `","entries":[` + entry("anteroom/session/x/v1", good, 1999999999) + `],"until":1999999999}`, errFeed},
		"many in many":           {`{"kind":"` + labelRevokedMany + `","entries":[{"kind":"` + labelRevokedMany + `","until":5}],"until":1999999999}`, errFeed},
		"many, a newer member":   {`{"kind":"` + labelRevokedMany + `","entries":[` + entry(labelRevoked, good, 1999999999) + `],"until":1999999999,"x":1}`, errFeed},
		"none of many":           {`{"kind":"` + labelRevokedMany + `","entries":[],"until":1999999999}`, errFeed},
		"kind in other spelling": {entry(strings.ToUpper(labelRevoked), good, 1999999999), nil},
	} {
		t.Run(name, func(t *testing.T) {
			dir, clock := t.TempDir(), newClock()
			s, sealer := openStore(t, dir, clock.now), openSealer(t, dir)
			running := start(t, s, sealer, clock.now)
			_, cookies := issue(t, running)
			if _, err := s.Append(context.Background(), []byte(c.value), clock.now().Add(time.Hour)); err != nil {
				t.Fatal(err)
			}
			m, err := New(Config{Store: s, Sealer: sealer, Now: clock.now})
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			if err := m.Start(context.Background()); !errors.Is(err, c.want) {
				t.Errorf("Start: %v, want %v", err, c.want)
			}
			clock.add(31 * time.Second)
			running.follow()
			want := error(nil)
			if c.want != nil {
				want = ErrStale
			}
			if _, err := running.Find(lines(cookies), host); !errors.Is(err, want) {
				t.Errorf("Find: %v, want %v", err, want)
			}
		})
	}
}

// What version 0.1 wrote is obeyed to the letter.
func TestFeedEntryOfVersion01(t *testing.T) {
	w := newShared(t, 1)
	m := w.nodes[0]
	s, cookies := issue(t, m)
	_, others := issue(t, m)
	value := fmt.Sprintf(`{"kind":"anteroom/session/revoked-session/v1","sid":%q,"until":%d}`, s.ID, w.clock.now().Unix()+3600)
	if _, err := w.store.Append(t.Context(), []byte(value), w.clock.now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	w.follow()
	wantNone(t, m, lines(cookies))
	wantFound(t, m, lines(others))
	if m.Ended(lines(cookies), host) != "revoked" {
		t.Error("no reason")
	}
}

// Each cause keeps its word on the way through the feed and its four bits.
func TestCauses(t *testing.T) {
	var r revocations
	r.init()
	for c, word := range causeWords {
		if c == 0 {
			continue
		}
		id := parseID(newID())
		r.end(bySession, id, 1999999999, causeOf(word))
		if r.reason(id) != cause(c) || c > 15 {
			t.Errorf("%s: %d", word, r.reason(id))
		}
		r.end(bySession, id, 2000000999, causeRevoked) // again, for longer: the first cause stays
		if v := r.value(bySession, id); cause(v&15) != cause(c) || v&^15 < 2000000999 {
			t.Errorf("%s: %d", word, v)
		}
	}
}
