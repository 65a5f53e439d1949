package session

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
)

// showing is a sealer whose values show their label.
type showing struct{}

const shown = "sealed as "

func (showing) Seal(_ context.Context, label string, plain []byte) ([]byte, error) {
	return append([]byte(shown+label+"\n"), plain...), nil
}

func (showing) Open(_ context.Context, label string, sealed []byte) ([]byte, error) {
	if rest, ok := bytes.CutPrefix(sealed, []byte(shown+label+"\n")); ok {
		return rest, nil
	}
	return nil, errors.New("does not open")
}

// Row 156: every value that this package seals in the store can be sealed anew by whoever asks SealedAt for its label, and nothing
// else is taken for one.
func TestRow156SealedAtKnowsAll(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	st := openStore(t, dir, c.now)
	m := start(t, st, showing{}, c.now, func(c *Config) {
		c.Refresh = func(_ context.Context, s *Session, _ Kept) (Verdict, error) { return Verdict{Grant: s.Grant}, nil }
	})
	g := grant()
	g.ProviderSession = "provider-session"
	s, cookies, err := m.Issue(t.Context(), g, host, Admission{Keep: []byte("token"), Verify: true})
	if err != nil {
		t.Fatal(err)
	}
	c.add(2 * 60 * 1e9)
	m.follow()
	if _, _, err := renew(m, s, lines(cookies), host); err != nil {
		t.Fatal(err)
	}
	items, err := st.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]bool{}
	for _, item := range items {
		text, sealed := strings.CutPrefix(string(item.Value), shown)
		want, _, _ := strings.Cut(text, "\n")
		label, ok := SealedAt(item.Key)
		if ok != sealed || ok && label != want {
			t.Errorf("%s: %q, %v; it is sealed as %q, %v", item.Key, label, ok, want, sealed)
		}
		kind, _, _ := strings.Cut(strings.TrimPrefix(item.Key, labelFamily), "/")
		kinds[kind] = true
	}
	for _, kind := range []string{"keys", "assertion-keys", "record", "account-list", "renewal", "kept", "provider-accounts"} {
		if !kinds[kind] {
			t.Errorf("nothing of %s was written: %v", kind, kinds)
		}
	}
	for _, key := range []string{"", labelRecord, labelRecord + "x/y", labelStoreKeys + "/x", labelRevoked, "anteroom/session/", "anteroom/portal/consumed/v1/x"} {
		if label, ok := SealedAt(key); ok || label != "" {
			t.Errorf("%q is sealed as %q", key, label)
		}
	}
	for _, key := range SealedFirst() {
		if _, ok := SealedAt(key); !ok {
			t.Errorf("%s is not sealed", key)
		}
	}
}

// EndAll ends everybody's sessions on every node, and nobody's who signs in later.
func TestEndAll(t *testing.T) {
	w := newShared(t, 2)
	_, before := issue(t, w.nodes[0])
	if err := w.nodes[1].EndAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantNone(t, w.nodes[1], lines(before))
	w.pass(2e9)
	for _, m := range w.nodes {
		wantNone(t, m, lines(before))
	}
	_, after := issue(t, w.nodes[0])
	w.follow()
	for _, m := range w.nodes {
		wantFound(t, m, lines(after))
	}
	if err := w.nodes[0].EndAll(t.Context()); err != nil { // once more is no error
		t.Fatal(err)
	}
	w.nodes[0].Close()
	if err := w.nodes[0].EndAll(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}
