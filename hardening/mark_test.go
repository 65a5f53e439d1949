package hardening

import (
	"errors"
	"strings"
	"sync"
	"testing"
)

// paper is a Mark that a test can lose.
type paper struct {
	mu    sync.Mutex
	seen  map[string]uint64
	bad   error
	cut   bool   // what is saved gets lost, as by a kill -9 before it
	saved func() // runs in Save
}

func newPaper() *paper { return &paper{seen: map[string]uint64{}} }

func (p *paper) Load(ring string) (uint64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen[ring], p.bad
}

func (p *paper) Save(ring string, epoch uint64) error {
	if p.saved != nil {
		p.saved()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bad == nil && !p.cut {
		p.seen[ring] = max(p.seen[ring], epoch)
	}
	return p.bad
}

func (p *paper) Where(ring string) string { return "the line of " + ring }

func marked(p *paper) func(*RingConfig) { return func(c *RingConfig) { c.Mark = p } }

// Row 165: a ring that was set back while this node did not run is locked, and stays so until the operator removes the mark; a
// pepper that leaked and was closed, and the ban of a TLS key, would be undone by it.
func TestRow165RingSetBackWhileDown(t *testing.T) {
	c, st, note := newClock(), new(memory), newPaper()
	key := testKey(t, c)
	n := newNode(t, st, c, marked(note), key)
	o := n.mustSync(t)
	old := st.raw()
	if _, err := n.Compromise(t.Context(), "p1"); err != nil {
		t.Fatal(err)
	}
	newest := st.raw()
	st.value = old
	if err := newNode(t, st, c, nil, key).Sync(t.Context()); err != nil {
		t.Fatalf("without a mark nobody notices, and this test shows nothing: %v", err)
	}
	st.value = old
	next := newNode(t, st, c, marked(note), key)
	for range 3 {
		err := next.Sync(t.Context())
		if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), "the line of "+o.file.Ring) || !strings.Contains(err.Error(), "restore the newest backup") {
			t.Fatalf("an old ring: %v", err)
		}
	}
	if next.held() != nil || string(st.raw()) != string(old) {
		t.Error("the old ring is in use, or was written to")
	}
	if _, err := next.Rotate(t.Context(), 0); !errors.Is(err, ErrLocked) {
		t.Errorf("the old ring is changed: %v", err)
	}
	// The newest one is back.
	st.value = newest
	next.mustSync(t)
	// Another ring in its place is another matter, and forgets nothing of this one.
	other := new(memory)
	newNode(t, other, c, nil, key).mustSync(t)
	newNode(t, other, c, marked(note), key).mustSync(t)
	st.value = old
	again := newNode(t, st, c, marked(note), key)
	if err := again.Sync(t.Context()); !errors.Is(err, ErrLocked) {
		t.Errorf("after another ring the old one opens: %v", err)
	}
	// A backup that was restored on purpose: the mark is removed, and it opens without a restart.
	delete(note.seen, o.file.Ring)
	again.mustSync(t)
	if note.seen[o.file.Ring] != o.file.Epoch {
		t.Errorf("the mark is %d, want %d", note.seen[o.file.Ring], o.file.Epoch)
	}
}

// Row 165: the mark is written after the store and before the ring is used; killed in between, the node starts with what is in
// the store. A mark that cannot be read locks, one that cannot be written is told of.
func TestRow165KilledBeforeMark(t *testing.T) {
	c, st, note := newClock(), new(memory), newPaper()
	key := testKey(t, c)
	n := newNode(t, st, c, marked(note), key)
	before := n.mustSync(t).file.Epoch
	checked := false
	note.cut = true
	note.saved = func() {
		f, err := readRingFile(st.raw())
		if err != nil || f.Epoch != before+1 || n.held().file.Epoch != before {
			t.Errorf("the mark of epoch %d is written when the store has %d and %d is in use: %v", before+1, f.Epoch, n.held().file.Epoch, err)
		}
		checked = true
	}
	if _, err := n.Rotate(t.Context(), 0); err != nil || !checked {
		t.Fatalf("%v, mark written: %v", err, checked)
	}
	note.cut, note.saved = false, nil
	id := n.held().file.Ring
	if note.seen[id] != before {
		t.Fatal("the mark was not lost")
	}
	if o := newNode(t, st, c, marked(note), key).mustSync(t); o.file.Epoch != before+1 || note.seen[id] != before+1 {
		t.Errorf("epoch %d, mark %d", o.file.Epoch, note.seen[id])
	}
	note.bad = errors.New("read-only file system")
	if err := newNode(t, st, c, marked(note), key).Sync(t.Context()); !errors.Is(err, ErrLocked) {
		t.Errorf("a mark that cannot be read: %v", err)
	}
	if _, err := n.Rotate(t.Context(), 0); err != nil || !strings.Contains(n.log.String(), "cannot note") {
		t.Errorf("a mark that cannot be written: %v\n%s", err, n.log)
	}
}

// Row 165: what a start refuses does not come in as an import or by the recovery key.
func TestRow165OldRingByOtherDoors(t *testing.T) {
	c, st, note := newClock(), new(memory), newPaper()
	secret, pub := recoveryPair(t)
	key := testKey(t, c)
	with := func(r *RingConfig) { r.Mark, r.Recovery, r.NoRecovery = note, pub, false }
	n := newNode(t, st, c, with, key)
	n.mustSync(t)
	old, blob := st.raw(), exported(t, n, pub)
	if _, err := n.Compromise(t.Context(), "p1"); err != nil {
		t.Fatal(err)
	}
	newest := exported(t, n, pub)
	st.value = old
	next := newNode(t, st, c, with, key)
	if err := next.Recover(t.Context(), secret); !errors.Is(err, ErrLocked) {
		t.Errorf("by the recovery key: %v", err)
	}
	if err := next.Import(t.Context(), blob, secret); !errors.Is(err, ErrLocked) {
		t.Errorf("by an import: %v", err)
	}
	st.value = nil
	if err := newNode(t, st, c, with, key).Import(t.Context(), blob, secret); !errors.Is(err, ErrLocked) {
		t.Errorf("by an import into an empty store: %v", err)
	}
	// The newest export heals.
	st.value = old
	if err := next.Import(t.Context(), newest, secret); err != nil {
		t.Fatal(err)
	}
	if got := next.mustSync(t); got.newest(c.Now()) != n.held().newest(c.Now()) {
		t.Errorf("the newest pepper is %s", got.newest(c.Now()))
	}
}

// Row 165: a store that lost the ring while no node ran gets no second one: not one record would verify with it, and what is made
// meanwhile would be lost when the backup comes.
func TestRow165RingGoneWhileDown(t *testing.T) {
	c, st, note := newClock(), new(memory), newPaper()
	secret, pub := recoveryPair(t)
	key := testKey(t, c)
	with := func(r *RingConfig) { r.Mark, r.Recovery, r.NoRecovery = note, pub, false }
	n := newNode(t, st, c, with, key)
	id := n.mustSync(t).file.Ring
	backup, blob := st.raw(), exported(t, n, pub)
	gone := func() *node {
		t.Helper()
		st.value = nil
		next := newNode(t, st, c, with, key)
		for range 3 {
			if err := next.Sync(t.Context()); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), "restore the newest backup") || !strings.Contains(err.Error(), "the line of ") {
				t.Fatalf("a store without the ring: %v", err)
			}
		}
		if next.held() != nil || st.raw() != nil {
			t.Fatal("a second ring was made")
		}
		return next
	}
	next := gone()
	st.value = backup
	if got := next.mustSync(t).file.Ring; got != id {
		t.Errorf("after the restore: ring %s, want %s", got, id)
	}
	next = gone()
	if err := next.Import(t.Context(), blob, secret); err != nil || next.held().file.Ring != id {
		t.Errorf("by an import: %v", err)
	}
	next = gone()
	delete(note.seen, anyRing)
	if got := next.mustSync(t).file.Ring; got == id || note.seen[anyRing] != 1 {
		t.Errorf("begun anew on purpose: ring %s, mark %d", got, note.seen[anyRing])
	}
}
