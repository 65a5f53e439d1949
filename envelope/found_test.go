package envelope

import (
	"strings"
	"testing"
)

func found(l *Local) func(*Config) { return func(c *Config) { c.Former = []Master{Found{l}} } }

func named(l *Local) func(*Config) { return func(c *Config) { c.Former = []Master{l} } }

// Row 155: whoever puts a master key file beside the data, and whatever into the store, gains nothing: the node takes no ring
// that his key proves, and opens nothing that his key sealed. Each time a key that the operator named shows what would happen.
func TestRow155PlantedMaster(t *testing.T) {
	evil, kms := local(t, 66), newFar(t, 1)
	planted := new(memory)
	his := open(t, planted, "own", evil)
	forged := seal(t, his, testLabel, []byte("forged"))
	old := sealV1(t, evil, testLabel, "forged")

	// A store of his, a node that has seen nothing.
	for name, note := range map[string]Mark{"no mark": nil, "an empty mark": new(paper)} {
		cfg := Config{Name: "own", Master: kms, Store: planted, Mark: note}
		found(evil)(&cfg)
		e, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		err = e.Start(t.Context())
		refused(t, name, err, ErrRefused)
		if !strings.Contains(err.Error(), "former local FILE") {
			t.Errorf("%s: the message does not say what to do: %v", name, err)
		}
		for _, sealed := range [][]byte{forged, old} {
			if _, err := e.Open(t.Context(), testLabel, sealed); err == nil {
				t.Errorf("%s: what he sealed opens", name)
			}
		}
		if _, err := e.Seal(t.Context(), testLabel, nil); err == nil {
			t.Errorf("%s: it seals under his key", name)
		}
	}
	opens(t, open(t, planted, "own", kms, named(evil)), forged, "forged")

	// An empty store, and one with our ring: his file alone.
	ours, note := new(memory), new(paper)
	for range 2 {
		e := open(t, ours, "own", kms, found(evil), marked(note))
		_, err := e.Open(t.Context(), testLabel, old)
		refused(t, "a value of version 1 under his key", err, ErrSealed)
		for _, k := range e.Keys() {
			if k.Master == evil.ID() {
				t.Errorf("his key is listed: %+v", k)
			}
		}
		if strings.Contains(note.text, evil.ID()) {
			t.Errorf("the mark knows his key: %s", note.text)
		}
		if n, err := e.Migrate(t.Context()); n != 0 || err != nil {
			t.Errorf("migrating: %d, %v", n, err)
		}
	}
	opens(t, open(t, ours, "own", kms, named(evil)), old, "forged")

	// His ring takes the place of ours while the node runs, and while it does not.
	e := open(t, ours, "own", kms, found(evil), marked(note))
	ours.restore(planted.snapshot())
	if err := e.core().look(t.Context()); err == nil {
		t.Error("a running node takes his ring")
	}
	_, err := Start(t.Context(), Config{Name: "own", Master: kms, Former: []Master{Found{evil}}, Store: ours, Mark: note})
	refused(t, "a start over his ring", err, ErrRefused)

	// A mark of another file's time does not speak for his.
	with := &paper{text: strings.Replace(note.text, kms.ID(), local(t, 7).ID(), 1)}
	_, err = Start(t.Context(), Config{Name: "own", Master: kms, Former: []Master{Found{evil}}, Store: planted, Mark: with})
	refused(t, "a mark of another file", err, ErrRefused)
}

// Row 155: the one line that goes from a key file to a KMS: the file that this node has worked under is known, also for values
// of version 1, through the migration and the restarts after it.
func TestRow155FoundMasterOfOurs(t *testing.T) {
	file, kms, keys, note := local(t, 1), newFar(t, 2), new(memory), new(paper)
	before := seal(t, open(t, keys, "own", file, marked(note)), testLabel, []byte("before"))
	old := sealV1(t, file, testLabel, "older")
	e := open(t, keys, "own", kms, found(file), marked(note))
	check := func(e *Envelope) {
		t.Helper()
		opens(t, e, before, "before")
		opens(t, e, old, "older")
	}
	check(e)
	if n, err := e.Migrate(t.Context()); n != 1 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	check(e)
	for range 2 {
		check(open(t, keys, "own", kms, found(file), marked(note)))
	}
	// A node that has never worked under the file needs its name for what the file itself sealed.
	other := open(t, keys, "own", kms, found(file), marked(new(paper)))
	opens(t, other, before, "before")
	_, err := other.Open(t.Context(), testLabel, old)
	refused(t, "version 1 on another node", err, ErrSealed)
	if !strings.Contains(err.Error(), "former local FILE") {
		t.Errorf("the message does not say what to do: %v", err)
	}
	check(open(t, keys, "own", kms, named(file), marked(new(paper))))
}
