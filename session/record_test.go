package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

func TestSessionsAreListed(t *testing.T) {
	w := newShared(t, 2)
	a, b := w.nodes[0], w.nodes[1]
	first, cookies, err := signIn(t, a, Admission{Device: Device{"Firefox", "Windows"}})
	if err != nil {
		t.Fatal(err)
	}
	w.pass(time.Minute)
	second, _ := issue(t, b)
	other, _, err := a.Issue(t.Context(), Grant{Source: "hospital", Subject: "other", Roles: []string{"patient"}}, "care.example", Admission{})
	if err != nil {
		t.Fatal(err)
	}
	infos, err := b.Sessions(t.Context(), "hospital", grant().Subject)
	if err != nil || len(infos) != 2 || infos[0].ID != second.ID || infos[1].ID != first.ID {
		t.Fatalf("%v, %+v", err, infos)
	}
	want := Info{
		ID: first.ID, Source: "hospital", Subject: grant().Subject, Username: "dana", Name: "Dana Doe",
		Roles: []string{"doctor", "finance"}, AMR: []string{"pwd", "otp"}, Sites: []string{"app.example"}, Device: Device{"Firefox", "Windows"},
		Started: first.Started, Seen: first.Started, Expires: first.Expires, Ends: first.Ends,
	}
	if fmt.Sprint(infos[1]) != fmt.Sprint(want) {
		t.Errorf("%+v\nwant %+v", infos[1], want)
	}
	// A renewal and another site move what is seen, on every node.
	w.pass(time.Minute)
	if _, _, err := renew(b, first, lines(cookies), host); err != nil {
		t.Fatal(err)
	}
	w.pass(time.Minute)
	joined, _, err := a.Join(t.Context(), first, "lab.example")
	if err != nil {
		t.Fatal(err)
	}
	infos, err = a.Sessions(t.Context(), "hospital", grant().Subject)
	if err != nil || !infos[1].Seen.Equal(w.clock.now()) || !infos[1].Expires.Equal(joined.Expires) || fmt.Sprint(infos[1].Sites) != "[app.example lab.example]" {
		t.Errorf("%v, %+v", err, infos)
	}
	all, err := a.AllSessions(t.Context())
	if err != nil || len(all) != 3 {
		t.Errorf("%v, %+v", err, all)
	}
	// What was revoked is listed nowhere, even where its record is left.
	a.take(revocation{Kind: labelRevoked, ID: other.ID, Until: w.clock.now().Unix() + 999})
	if all, err = a.AllSessions(t.Context()); err != nil || len(all) != 2 {
		t.Errorf("%v, %+v", err, all)
	}
	w.pass(14 * time.Minute) // second is over by its idle end
	wantListed(t, a, first)
	w.pass(time.Minute)
	wantListed(t, a)
	if all, err := b.AllSessions(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("%v, %+v", err, all)
	}
	w.proxies[0].dead.Store(true)
	if infos, err := a.Sessions(t.Context(), "hospital", "x"); err == nil || infos != nil {
		t.Error("a store that does not answer lists nothing")
	}
	if infos, err := a.AllSessions(t.Context()); err == nil || infos != nil {
		t.Error("a store that does not answer lists everything")
	}
}

// Row 164, row 166: nothing of a person, and no session id, stands in the store in
// clear, in keys or in values; what people are called has no effect on keys.
func TestRow164RecordsAreSealed(t *testing.T) {
	m, c := manager(t)
	g := grant()
	g.Username, g.Name, g.ProviderSession = "anteroom/session/keys/v1", "Dana:Doe/../%00", "op-session-77"
	g.Subject = "a:b/c"
	s, cookies, err := m.Issue(t.Context(), g, host, Admission{Device: Device{"Firefox", "Windows"}})
	if err != nil {
		t.Fatal(err)
	}
	pass(m, c, time.Minute)
	renewed, _, err := renew(m, s, lines(cookies), host)
	if err != nil {
		t.Fatal(err)
	}
	items, err := m.store.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{}
	for _, item := range items {
		for name, secret := range map[string]string{
			"sid": s.ID, "subject": g.Subject, "username": "keys/v1\"", "name": "Dana", "provider session": "op-session", "token": renewed.Value[:40],
			"context": cookies[1].Value, "device": "Firefox", "site": "app.example",
		} {
			if strings.Contains(item.Key, secret) || bytes.Contains(item.Value, []byte(secret)) {
				t.Errorf("%s shows in %s", name, item.Key)
			}
		}
		for _, label := range []string{labelRecord, labelList, labelRenewal} {
			if strings.HasPrefix(item.Key, label+"/") && len(item.Key) == len(label)+44 {
				kinds[label]++
			}
		}
	}
	if len(kinds) != 3 {
		t.Errorf("%v", kinds)
	}
	// Two lists of texts that look alike joined are two keys.
	if accountKey("a:b", "c") == accountKey("a", "b:c") || accountKey("a", "") == accountKey("", "a") || cellKey("x", "a", "b") == cellKey("x", "ab") {
		t.Error("two accounts share a key")
	}
}

// A record that was moved to another key, or damaged, is not taken for one.
func TestRecordsKeepTheirPlace(t *testing.T) {
	m, _ := manager(t, limited(1, Refuse))
	mine, _ := issue(t, m)
	other, _, err := m.Issue(t.Context(), Grant{Source: "hospital", Subject: "x"}, host, Admission{})
	if err != nil {
		t.Fatal(err)
	}
	stolen, err := m.store.Get(t.Context(), recordKey(other.ID))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string][]byte{"another's": stolen, "damaged": []byte("x"), "empty": {}} {
		if err := m.store.Put(t.Context(), recordKey(mine.ID), value, time.Time{}); err != nil {
			t.Fatal(err)
		}
		if r, _, err := m.readRecord(t.Context(), mine.ID); r != nil || err == nil {
			t.Errorf("%s: %+v", name, r)
		}
		if _, _, err := signIn(t, m, Admission{}); err == nil {
			t.Errorf("%s: the limit does not hold any more", name)
		}
		// One that cannot be read hides no other.
		if all, err := m.AllSessions(t.Context()); err != nil || len(all) != 1 || all[0].ID != other.ID {
			t.Errorf("%s: %v, %+v", name, err, all)
		}
	}
}

// A list has its end, and what falls out still ends with its account.
func TestListIsBounded(t *testing.T) {
	m, c := manager(t)
	ends := c.now().Add(time.Hour)
	var list account
	for range maxListed {
		list.Sessions = append(list.Sessions, listed{newID(), ends.Unix()})
	}
	first := list.Sessions[0].ID
	list.Sessions = append(list.Sessions, listed{newID(), c.now().Unix()}) // over
	key := accountKey(grant().Source, grant().Subject)
	if _, err := m.writeCell(t.Context(), key, nil, list, ends); err != nil {
		t.Fatal(err)
	}
	s, _ := issue(t, m)
	var now account
	if _, err := m.readCell(t.Context(), key, &now); err != nil || len(now.Sessions) != maxListed || now.Sessions[0].ID == first || now.Sessions[maxListed-1].ID != s.ID {
		t.Errorf("%v, %d", err, len(now.Sessions))
	}
}

// A store that lost a record, or was silent while the session went on, gets it back
// with the next renewal.
func TestRecordComesBack(t *testing.T) {
	w := newShared(t, 1)
	m := w.nodes[0]
	s, cookies := issue(t, m)
	for _, key := range []string{recordKey(s.ID), accountKey(s.Source, s.Subject)} {
		if err := w.store.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	wantListed(t, m)
	w.pass(time.Minute)
	if _, _, err := renew(m, s, lines(cookies), host); err != nil {
		t.Fatal(err)
	}
	wantListed(t, m, s)
}

// Who lost the record and finds the place taken does not get it back: the sign-on
// ends with its token.
func TestRecordDoesNotComeBackOverTheLimit(t *testing.T) {
	w := newShared(t, 2, limited(1, Refuse))
	a, b := w.nodes[0], w.nodes[1]
	lost, cookies := issue(t, a)
	if err := w.store.Delete(t.Context(), recordKey(lost.ID)); err != nil {
		t.Fatal(err)
	}
	w.pass(time.Minute)
	second, _ := issue(t, b)
	if cookie, _, err := renew(a, lost, lines(cookies), host); cookie != nil || !errors.Is(err, ErrLimit) {
		t.Errorf("%v", err)
	}
	wantListed(t, b, second)
	wantFound(t, a, lines(cookies))
	w.pass(14 * time.Minute)
	wantNone(t, a, lines(cookies))
}

// A sign-in that the store does not take is none.
func TestIssueNeedsTheStore(t *testing.T) {
	w := newShared(t, 1)
	for _, failing := range []string{labelRecord, labelList} {
		w.proxies[0].hook(func(_ context.Context, op, key string) error {
			if op == "swap" && strings.HasPrefix(key, failing) {
				return store.ErrUnavailable
			}
			return nil
		})
		if s, cookies, err := signIn(t, w.nodes[0], Admission{}); err == nil || s != nil || cookies != nil {
			t.Errorf("%s: %v", failing, err)
		}
	}
	w.proxies[0].hook(nil)
	if all, err := w.nodes[0].AllSessions(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("%v, %+v", err, all)
	}
}

// One label, one purpose; each says its package and its version.
func TestAllLabelsDiffer(t *testing.T) {
	seen := map[string]bool{}
	for _, label := range []string{
		labelSealKeys, labelStoreKeys, labelSealAssertionKeys, labelStoreAssertionKeys, labelRevoked, labelKilledKey, labelAssertionID,
		labelRevokedProvider, labelRevokedAccount, labelRevokedUsername, labelRevokedAll, labelRevokedMany,
		labelRecord, labelList, labelRenewal, labelProvider, labelAccount, labelUsername,
	} {
		if seen[label] || !strings.HasPrefix(label, labelFamily) || !strings.HasSuffix(label, "/v1") {
			t.Errorf("%q", label)
		}
		seen[label] = true
	}
}
