package envelope

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// told is the events that were recorded, as "reason rule count".
func told(t *testing.T, r *recorder) map[string]int {
	t.Helper()
	all := map[string]int{}
	for _, e := range r.take() {
		if e.Kind != "envelope" || e.Decision != "denied" || e.Ref == "" {
			t.Errorf("event %+v", e)
		}
		all[e.Reason+" "+e.Rule] += e.Count
	}
	return all
}

// Row 154: what does not open under its label stands in the audit log, with ring and key and never the value, once in ten
// seconds however many there are.
func TestRow154RefusedValue(t *testing.T) {
	now, log := time.Now(), new(recorder)
	e := open(t, new(memory), "own", local(t, 1), func(c *Config) { c.Audit, c.Now = log, func() time.Time { return now } })
	key := primary(t, e).ID
	sealed := seal(t, e, testLabel, []byte("x"))
	opens(t, e, sealed, "x")
	if got := told(t, log); len(got) != 0 {
		t.Errorf("what opens is recorded: %v", got)
	}
	for range 1000 {
		_, err := e.Open(t.Context(), "anteroom/test/other/v1", sealed)
		refused(t, "another label", err, ErrSealed)
	}
	if got := told(t, log); len(got) != 1 || got["sealed ring own key "+key] != 1 {
		t.Errorf("a thousand refusals are %v", got)
	}
	now = now.Add(refusedEvery + time.Second)
	e.core().flushRefused(t.Context())
	if got := told(t, log); got["sealed ring own key "+key] != 999 {
		t.Errorf("the rest is %v", got)
	}
	now = now.Add(refusedEvery + time.Second)
	e.core().flushRefused(t.Context())
	_, _ = e.Open(t.Context(), testLabel, []byte("<script>, and never sealed at all, by nobody; but long enough"))
	if got := told(t, log); len(got) != 1 || got["sealed ring own"] != 1 {
		t.Errorf("no sealed value: %v", got)
	}
	// The service names its callers itself.
	_, _ = e.Open(t.Context(), subject{"a", "b", "c"}.label(labelItem), sealed)
	now = now.Add(refusedEvery + time.Second)
	e.core().flushRefused(t.Context())
	if got := told(t, log); len(got) != 0 {
		t.Errorf("a value of the service: %v", got)
	}
	if _, err := e.Condemn(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	_, err := e.Open(t.Context(), testLabel, sealed)
	refused(t, "a condemned key", err, ErrCondemned)
	if got := told(t, log); len(got) != 1 || got["condemned ring own key "+key] != 1 {
		t.Errorf("a condemned key: %v", got)
	}
}

// Row 154: a data key whose wrapped bytes do not open, because they are another key's and so is their context, stands in the
// audit log; and so does a ring that somebody changed. A master that is away is none of it.
func TestRow154RefusedKey(t *testing.T) {
	log, keys := new(recorder), new(memory)
	with := func(c *Config) { c.Audit = log }
	e := open(t, keys, "own", local(t, 1), with)
	key := primary(t, e).ID
	m := e.core().cfg.Master.(*Local)
	entry := *e.core().view.Load().ring.key(key)
	wrapped, err := m.Wrap(t.Context(), make([]byte, keyLen), about("apps", key))
	if err != nil {
		t.Fatal(err)
	}
	entry.wrap(m, wrapped, time.Now())
	_, err = e.core().load(t.Context(), &entry, e.core().keys[key])
	refused(t, "another context", err, ErrSealed)
	if got := told(t, log); len(got) != 1 || got["unwrap ring own key "+key] != 1 {
		t.Errorf("another context: %v", got)
	}
	// The proof is another ring's.
	record, err := keys.Get(t.Context(), storeKeyRing+"/own")
	if err != nil {
		t.Fatal(err)
	}
	forged := strings.Replace(string(record), `"epoch":1`, `"epoch":2`, 1)
	keys.values[storeKeyRing+"/own"] = []byte(forged)
	if err := e.core().look(t.Context()); !errors.Is(err, ErrSealed) {
		t.Fatal(err)
	}
	if got := told(t, log); len(got) != 1 || got["ring ring own"] != 1 {
		t.Errorf("a forged ring: %v", got)
	}
	away := new(recorder)
	gone := newFar(t, 1)
	gone.fail(ErrUnavailable)
	n, err := New(Config{Name: "other", Master: gone, Store: keys, Audit: away})
	if err != nil {
		t.Fatal(err)
	}
	refused(t, "a master that is away", n.Start(t.Context()), ErrUnavailable)
	if got := told(t, away); len(got) != 0 {
		t.Errorf("a master that is away: %v", got)
	}
}
