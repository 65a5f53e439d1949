package envelope

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

// world is several nodes on one store, with one clock, of which each step may take long.
type world struct {
	t         *testing.T
	random    *rand.Rand
	clock     *ticker
	nodes     []*Envelope
	stores    []*memory
	away      []bool               // nodes that do not reach the store
	busy      []bool               // nodes that are in the middle of something
	condemned map[string]time.Time // when Condemn returned
	sealed    int
	late      int // seals later than Lag after a Condemn
	values    [][]byte
}

func newWorld(t *testing.T, seed uint64, n int) *world {
	w := &world{t: t, random: rand.New(rand.NewPCG(seed, 156)), clock: newTicker(), condemned: map[string]time.Time{}, away: make([]bool, n), busy: make([]bool, n)}
	shared := &memory{values: map[string][]byte{}}
	for i := range n {
		s := &memory{values: shared.values}
		s.before = func(string) error {
			w.dawdle()
			if w.away[i] {
				return store.ErrUnavailable
			}
			return nil
		}
		s.after = func(string) error { w.dawdle(); return nil } // what was read grows old on its way
		w.stores = append(w.stores, s)
		w.nodes = append(w.nodes, open(t, s, "own", &dawdling{newFar(t, 1), w.dawdle}, w.clock.at, func(c *Config) { c.CacheAge = 20 * time.Second }))
	}
	return w
}

// dawdling is a master whose answers take time.
type dawdling struct {
	Master
	dawdle func()
}

func (d *dawdling) Unwrap(ctx context.Context, wrapped []byte, about map[string]string) ([]byte, error) {
	d.dawdle()
	plain, err := d.Master.Unwrap(ctx, wrapped, about)
	d.dawdle()
	return plain, err
}

// dawdle lets time go by: mostly none, sometimes more than all limits.
func (w *world) dawdle() {
	switch w.random.IntN(20) {
	case 0:
		w.clock.add(time.Duration(w.random.Int64N(int64(20 * time.Second))))
	case 1, 2, 3:
		w.clock.add(time.Duration(w.random.Int64N(int64(3 * time.Second))))
	}
	// Meanwhile another node condemns the key, and more time goes by.
	if i := w.random.IntN(len(w.nodes) + 8); i < len(w.nodes) && !w.busy[i] && !w.away[i] && slices.Contains(w.busy, true) {
		w.condemn(i)
		w.clock.add(time.Duration(w.random.Int64N(int64(20 * time.Second))))
	}
}

// condemn condemns the primary as node i sees it.
func (w *world) condemn(i int) {
	w.busy[i] = true
	defer func() { w.busy[i] = false }()
	id := primary(w.t, w.nodes[i]).ID
	if _, err := w.nodes[i].Condemn(w.t.Context(), id); err == nil {
		if _, twice := w.condemned[id]; !twice {
			w.condemned[id] = w.clock.now()
		}
	} else if !errors.Is(err, ErrUnavailable) {
		w.t.Fatal(err)
	}
}

func (w *world) step() {
	i := w.random.IntN(len(w.nodes))
	e := w.nodes[i]
	w.busy[i] = true
	defer func() { w.busy[i] = false }()
	switch w.random.IntN(12) {
	case 0:
		w.away[i] = !w.away[i]
	case 1, 2:
		_ = e.core().look(w.t.Context()) // as Follow does
	case 3:
		w.condemn(i)
	case 4:
		w.dawdle()
	case 5:
		_ = e.core().renew(w.t.Context())
	default:
		w.seal(e)
	}
}

func (w *world) seal(e *Envelope) {
	sealed, err := e.Seal(w.t.Context(), testLabel, []byte("x"))
	now := w.clock.now()
	if err != nil {
		if !errors.Is(err, ErrUnavailable) {
			w.t.Fatal(err)
		}
		return
	}
	w.sealed++
	id, _ := KeyOf(sealed)
	if since, bad := w.condemned[id]; bad && now.Sub(since) > e.Lag() {
		w.t.Fatalf("sealed under %s, %s after it was condemned", id, now.Sub(since))
	} else if bad {
		w.late++
	}
	if _, bad := w.condemned[id]; !bad {
		w.values = append(w.values, sealed)
	}
}

// TestRow156Nodes: whatever the nodes do and however slow store, master and machine are,
// after Condemn and Lag no node hands out anything that it sealed under the condemned key.
func TestRow156Nodes(t *testing.T) {
	sealed, late, condemned := 0, 0, 0
	for seed := range uint64(25) {
		w := newWorld(t, seed, 3)
		for range 150 {
			w.step()
		}
		for i := range w.away {
			w.away[i] = false
		}
		// All nodes end with the same ring, and every value opens or can be resealed.
		w.clock.add(time.Hour)
		for _, e := range w.nodes {
			for tries := 0; e.core().look(t.Context()) != nil; tries++ {
				if tries > 100 {
					t.Fatal("a node does not come back")
				}
			}
			for _, v := range w.values {
				if plain, err := e.core().open(t.Context(), testLabel, v, true); err != nil || string(plain) != "x" {
					t.Fatalf("%q, %v", plain, err)
				}
			}
		}
		sealed, late, condemned = sealed+w.sealed, late+w.late, condemned+len(w.condemned)
	}
	if sealed < 500 || condemned < 200 || late == 0 {
		t.Errorf("the test tests too little: %d seals, %d within the lag, %d condemned", sealed, late, condemned)
	}
}

// TestRow156Asleep: a machine that slept wakes up with a ring that looks fresh to the
// monotonic clock, which stood still. A clock that was set back hides the age too.
func TestRow156Asleep(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		since, now time.Time
		old        bool
	}{
		"a moment":                {now, now.Add(time.Second), false},
		"just":                    {now, now.Add(10 * time.Second), false},
		"over":                    {now, now.Add(11 * time.Second), true},
		"asleep":                  {now, now.Round(0).Add(time.Hour), true},
		"set back":                {now.Round(0), now.Round(0).Add(-time.Hour), true},
		"corrected by a bit":      {now.Round(0), now.Round(0).Add(-500 * time.Millisecond), false},
		"set back, monotonic old": {now.Add(-time.Minute), now, true},
	} {
		if got := older(c.since, c.now, freshFor); got != c.old {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestTogether: seals, opens and changes at the same moment on two nodes; for the race detector.
func TestTogether(t *testing.T) {
	keys := new(memory)
	nodes := []*Envelope{open(t, keys, "own", newFar(t, 1)), open(t, keys, "own", newFar(t, 1))}
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			for range 60 {
				sealed, err := nodes[i%2].Seal(t.Context(), testLabel, []byte("x"))
				if err != nil {
					t.Error(err)
					return
				}
				opens(t, nodes[(i+1)%2], sealed, "x")
				if _, _, err := nodes[i%2].Reseal(t.Context(), testLabel, sealed); err != nil {
					t.Error(err)
				}
				_ = nodes[i%2].Keys()
			}
		})
	}
	for i := range 2 {
		wg.Go(func() {
			for range 10 {
				_, err1 := nodes[i].Rotate(t.Context())
				_, err2 := nodes[i].RewrapAll(t.Context())
				if err := errors.Join(err1, err2, nodes[i].core().renew(t.Context())); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// TestOtherNodesKey: what another node sealed a moment ago under a key that is new opens
// here, and a made-up key id costs one look and says so.
func TestOtherNodesKey(t *testing.T) {
	keys := new(memory)
	a, b := open(t, keys, "own", local(t, 1)), open(t, keys, "own", local(t, 1))
	if _, err := a.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	sealed := seal(t, a, testLabel, []byte("x"))
	opens(t, b, sealed, "x")
	looks := b.core().looks.Load()
	made := append([]byte{version2, 1, 2, 3, 4, 5, 6, 7, 8}, sealed[headerLen:]...)
	_, err := b.Open(t.Context(), testLabel, made)
	refused(t, "a made-up key id", err, ErrSealed)
	if n := b.core().looks.Load() - looks; n != 1 {
		t.Errorf("%d looks", n)
	}
	keys.before = func(string) error { return store.ErrUnavailable }
	_, err = b.Open(t.Context(), testLabel, made)
	if !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrSealed) {
		t.Errorf("the store is away: unknown is not never: %v", err)
	}
	opens(t, b, sealed, "x")
}
