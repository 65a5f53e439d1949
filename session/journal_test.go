package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

// memory is a journal that outlives managers.
type memory struct {
	mu         sync.Mutex
	text       []byte
	load, save error
}

func (j *memory) Load() ([]byte, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return bytes.Clone(j.text), j.load
}

func (j *memory) Save(text []byte) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.save == nil {
		j.text = bytes.Clone(text)
		if len(text) == 0 {
			j.text = nil
		}
	}
	return j.save
}

func (j *memory) isEmpty() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text == nil
}

func entriesOf(t *testing.T, s store.Store) int {
	t.Helper()
	entries, err := s.After(t.Context(), "", 0)
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// B26: the store is away when a provider ends a session, or a user. The caller hears an
// error; it holds here at once, streams included; it is written as soon as the store is
// back, also when this node was restarted meanwhile; and what is kept goes with it.
func TestB26Journal(t *testing.T) {
	for what, end := range map[string]func(m *Manager) error{
		"session":             func(m *Manager) error { return m.RevokeProviderSession(t.Context(), "hospital", "op", "") },
		"session and subject": func(m *Manager) error { return m.RevokeProviderSession(t.Context(), "hospital", "op", "1") },
		"subject": func(m *Manager) error {
			_, err := m.RevokeUser(t.Context(), User{Source: "hospital", Subject: "1"})
			return err
		},
		"username": func(m *Manager) error {
			_, err := m.RevokeUser(t.Context(), User{Username: "user-1"})
			return err
		},
	} {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprint(what, restart), func(t *testing.T) {
				w := newShared(t, 2)
				j, b := &memory{}, w.nodes[1]
				withJournal := func(c *Config) { c.Journal = j }
				p := newProxy(w.store)
				a := start(t, p, w.sealer, w.clock.now, withJournal)
				s, cookies := keeping(t, a, Admission{Keep: []byte("secret")}, ofProvider("1", "op"))
				_, bystander := keeping(t, a, Admission{}, ofProvider("2", "op2"))
				wantFound(t, b, lines(cookies))
				told := make(chan error, 1)
				a.Watch(s.ID, 0, func(err error) { told <- err })
				w.pass(time.Second)
				p.dead.Store(true)
				for range 2 { // the provider tries again
					if err := end(a); !errors.Is(err, store.ErrUnavailable) {
						t.Fatalf("%v", err)
					}
				}
				if err := <-told; !errors.Is(err, ErrNone) {
					t.Errorf("%v", err)
				}
				wantNone(t, a, lines(cookies))
				wantFound(t, a, lines(bystander))
				wantFound(t, b, lines(cookies))
				if text := string(j.text); j.isEmpty() || strings.Contains(text, "user-1") || strings.Contains(text, `"op"`) || strings.Contains(text, s.ID) {
					t.Errorf("%s", text)
				}
				if restart {
					a.Close()
					m, err := New(Config{Store: p, Sealer: w.sealer, Now: w.clock.now, Journal: j})
					if err != nil {
						t.Fatal(err)
					}
					defer m.Close()
					if err := m.Start(t.Context()); err == nil {
						t.Fatal("started without a store")
					}
					if j.isEmpty() {
						t.Fatal("forgotten")
					}
					p.dead.Store(false)
					if err := m.Start(t.Context()); err != nil {
						t.Fatal(err)
					}
					wantNone(t, m, lines(cookies))
					a = m
				} else {
					p.dead.Store(false)
					a.follow()
				}
				eventually(t, "the journal", j.isEmpty)
				b.follow()
				wantNone(t, b, lines(cookies))
				wantFound(t, b, lines(bystander))
				eventually(t, "the erasure", func() bool {
					_, err := w.store.Get(t.Context(), keptKey(s.ID))
					return errors.Is(err, store.ErrNotFound)
				})
				// Once, and not of what begins afterwards.
				if n := entriesOf(t, w.store); n != 1 {
					t.Errorf("%d entries", n)
				}
				if what == "subject" || what == "username" {
					w.pass(time.Second)
					_, later := keeping(t, b, Admission{}, ofProvider("1", "op3"))
					a.follow()
					wantFound(t, a, lines(later))
				}
			})
		}
	}
}

// Who signs in on another node after a revocation that waits is not ended by it when it
// is written: it says until when.
func TestB26NotWhatBeganLater(t *testing.T) {
	j := &memory{}
	w := newShared(t, 2, func(c *Config) { c.Journal = j })
	a, b := w.nodes[0], w.nodes[1]
	_, before := keeping(t, b, Admission{}, ofProvider("1", "op"))
	w.pass(time.Second)
	w.proxies[0].dead.Store(true)
	if _, err := a.RevokeUser(t.Context(), User{Source: "hospital", Subject: "1"}); err == nil {
		t.Fatal("no error")
	}
	w.clock.add(2 * time.Second)
	b.follow()
	s, later := keeping(t, b, Admission{Keep: []byte("secret")}, ofProvider("1", "op4"))
	w.proxies[0].dead.Store(false)
	w.follow()
	eventually(t, "the journal", j.isEmpty)
	w.follow()
	for _, m := range w.nodes {
		wantNone(t, m, lines(before))
		wantFound(t, m, lines(later))
		wantKept(t, m, s.ID, "secret")
	}
}

// B18 again: what could not be checked without the store is checked before it is written.
func TestB26ThenB18(t *testing.T) {
	j := &memory{}
	w := newShared(t, 2, func(c *Config) { c.Journal = j })
	a, b := w.nodes[0], w.nodes[1]
	_, cookies := keeping(t, b, Admission{}, ofProvider("1", "op"))
	w.proxies[0].dead.Store(true)
	if err := a.RevokeProviderSession(t.Context(), "hospital", "op", "2"); err == nil {
		t.Fatal("no error")
	}
	w.proxies[0].dead.Store(false)
	w.follow()
	eventually(t, "the journal", j.isEmpty)
	b.follow()
	wantFound(t, b, lines(cookies))
}

// A journal that is damaged, anywhere, keeps the node from starting: what it held is not
// known. So does one that cannot be read.
func TestJournalIsDamaged(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	s, sealer := openStore(t, dir, c.now), openSealer(t, dir)
	good, err := encodeJournal([]owed{
		{revocation{Kind: labelRevokedProvider, Key: providerSession("hospital", "op"), Until: c.now().Unix() + 1000}, "list"},
		{revocation{Kind: labelRevokedAccount, Key: accountID("hospital", "1").String(), Before: c.now().Unix(), Until: c.now().Unix() + 1000}, ""},
	})
	if err != nil {
		t.Fatal(err)
	}
	starts := func(j *memory) error {
		m, err := New(Config{Store: s, Sealer: sealer, Now: c.now, Journal: j})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		if err := m.loadJournal(); err != nil { // what Start does first
			return err
		}
		if got := len(m.arrears.owed); got != 2 && j.text != nil {
			t.Errorf("%d entries", got)
		}
		return nil
	}
	for _, text := range [][]byte{nil, good} {
		if err := starts(&memory{text: text}); err != nil {
			t.Errorf("%v", err)
		}
	}
	for i := range good {
		for _, text := range [][]byte{
			good[:i], append(bytes.Clone(good[:i]), good[i+1:]...),
			append(append(bytes.Clone(good[:i]), good[i]^1), good[i+1:]...), append(append(bytes.Clone(good[:i]), ' '), good[i:]...),
		} {
			if err := starts(&memory{text: append([]byte{}, text...)}); !errors.Is(err, errJournal) {
				t.Fatalf("%v with %q", err, text)
			}
		}
	}
	for _, entries := range []string{
		"null", "[]x", "{}", `[{"entry":{"kind":"other","until":1}}]`, `[{"entry":{"kind":"` + labelRevoked + `","sid":"x","until":5}}]`,
		`[{"entry":{"kind":"` + labelRevoked + `","sid":"AAAAAAAAAAAAAAAAAAAAAA","until":5,"more":1}}]`, `[{"list":"x"}]`, "",
	} {
		text := append(journalLine([]byte(entries)), entries...)
		if _, err := decodeJournal(text); !errors.Is(err, errJournal) {
			t.Errorf("%s: %v", entries, err)
		}
	}
	broken := &memory{text: good[1:]}
	m, err := New(Config{Store: s, Sealer: sealer, Now: c.now, Journal: broken})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.Start(t.Context()); !errors.Is(err, errJournal) || !bytes.Equal(broken.text, good[1:]) {
		t.Errorf("%v", err)
	}
	broken.text = nil
	if err := m.Start(t.Context()); err != nil {
		t.Errorf("%v", err)
	}
	if err := starts(&memory{load: errors.New("disk")}); err == nil {
		t.Error("one that cannot be read")
	}
}

// What waits is bounded, and does not wait longer than it matters. A journal that cannot
// be written is no reason not to obey, nor not to tell the store.
func TestJournalBounds(t *testing.T) {
	j := &memory{}
	w := newShared(t, 1, func(c *Config) { c.Journal = j })
	m := w.nodes[0]
	var many []owed
	for i := range maxOwed + 10 {
		many = append(many, owed{Entry: revocation{Kind: labelRevokedProvider, Key: providerSession("hospital", fmt.Sprint(i)), Until: m.until().Unix()}})
	}
	alone := func(so bool) { // nobody pays besides
		m.arrears.mu.Lock()
		defer m.arrears.mu.Unlock()
		m.arrears.busy = so
	}
	alone(true)
	m.owe(many...)
	if n := len(m.arrears.owed); n != maxOwed {
		t.Errorf("%d wait", n)
	}
	if all, err := decodeJournal(j.text); err != nil || len(all) != maxOwed {
		t.Errorf("%d, %v", len(all), err)
	}
	w.pass(1000 * time.Hour)
	m.settleArrears(t.Context())
	if len(m.arrears.owed) != 0 || !j.isEmpty() || entriesOf(t, w.store) != 0 {
		t.Error("what is over was told, or is still owed")
	}
	_, cookies := keeping(t, m, Admission{}, ofProvider("1", "op"))
	j.save = errors.New("disk full")
	w.proxies[0].dead.Store(true)
	if err := m.RevokeProviderSession(t.Context(), "hospital", "op", ""); err == nil {
		t.Error("no error")
	}
	wantNone(t, m, lines(cookies))
	alone(false)
	w.proxies[0].dead.Store(false)
	m.follow()
	eventually(t, "the entry", func() bool { return entriesOf(t, w.store) == 1 })
}

// While the store takes only some, those are not owed any more, and the others are.
func TestJournalHalfway(t *testing.T) {
	j := &memory{}
	w := newShared(t, 1, func(c *Config) { c.Journal = j })
	m := w.nodes[0]
	m.arrears.mu.Lock()
	m.arrears.busy = true // nobody pays besides
	m.arrears.mu.Unlock()
	w.proxies[0].hook(func(_ context.Context, op, _ string) error {
		if op == "append" {
			return store.ErrUnavailable
		}
		return nil
	})
	for i := range 4 {
		if err := m.RevokeProviderSession(t.Context(), "hospital", fmt.Sprint(i), "x"); err == nil {
			t.Fatal("no error")
		}
	}
	left := 2
	w.proxies[0].hook(func(_ context.Context, op, _ string) error {
		if op != "append" {
			return nil
		}
		if left--; left < 0 {
			return store.ErrUnavailable
		}
		return nil
	})
	m.settleArrears(t.Context())
	all, err := decodeJournal(j.text)
	if err != nil || len(all) != 2 || all[0].Entry.Key != providerSession("hospital", "2") || entriesOf(t, w.store) != 2 {
		t.Errorf("%v, %+v", err, all)
	}
	w.proxies[0].hook(nil)
	m.settleArrears(t.Context())
	if !j.isEmpty() || entriesOf(t, w.store) != 4 {
		t.Error("still owed")
	}
}
