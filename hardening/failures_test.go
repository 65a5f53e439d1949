package hardening

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

// tryOf is a try of a uid from nowhere in particular.
func tryOf(uid byte) *try { return &try{uid: uidKey{uid}} }

func (l *Limits) testBegin(ctx context.Context, t *try) error { return l.begin(ctx, t, nil, "") }

func (l *Limits) testEnd(t *try, o outcome) { l.end(context.Background(), t, o, nil, "") }

// TestFailures: ten free, then doubling pauses up to 15 minutes, then one try a day; a success ends it.
func TestFailures(t *testing.T) {
	l, c := newLimits(t, 1, 1)
	ctx := t.Context()
	fail := func() {
		t.Helper()
		one := tryOf(1)
		if err := l.testBegin(ctx, one); err != nil {
			t.Fatal(err)
		}
		l.testEnd(one, wrong)
	}
	for range 9 {
		fail()
	}
	for i, want := range []time.Duration{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900} {
		fail()
		want *= time.Second
		wantDelay(t, l.testBegin(ctx, tryOf(1)), want)
		c.add(want - time.Second)
		wantDelay(t, l.testBegin(ctx, tryOf(1)), time.Second)
		c.add(time.Second)
		if i == 3 { // an evaluation that did not happen neither counts nor forgives
			one := tryOf(1)
			if err := l.testBegin(ctx, one); err != nil {
				t.Fatal(err)
			}
			l.testEnd(one, notTried)
		}
	}
	for range hardStop - 10 - 12 {
		fail()
		c.add(longDelay)
	}
	fail()
	wantDelay(t, l.testBegin(ctx, tryOf(1)), 24*time.Hour)
	other := tryOf(2)
	if err := l.testBegin(ctx, other); err != nil {
		t.Error("another uid is stopped too")
	}
	l.testEnd(other, right)
	c.add(24 * time.Hour)
	one := tryOf(1)
	if err := l.testBegin(ctx, one); err != nil {
		t.Fatal("locked out for good:", err)
	}
	l.testEnd(one, right)
	fail()
	if err := l.testBegin(ctx, one); err != nil {
		t.Error("the success did not forgive")
	}
	l.testEnd(one, notTried)
	if len(l.failures) != 1 {
		t.Errorf("%d entries are kept", len(l.failures))
	}
}

// TestParallelGuesses: a hundred guesses at once are no more than a hundred in a row: ten are evaluated. Right secrets in
// parallel are all answered.
func TestParallelGuesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, err := NewLimits(1, 1, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		var evaluated, stopped atomic.Int32
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				one := tryOf(1)
				if l.testBegin(t.Context(), one) != nil {
					stopped.Add(1)
					return
				}
				<-time.After(time.Second)
				evaluated.Add(1)
				l.testEnd(one, wrong)
			})
		}
		wg.Wait()
		if evaluated.Load() != freeFailures || stopped.Load() != 100-freeFailures {
			t.Errorf("%d evaluated, %d stopped", evaluated.Load(), stopped.Load())
		}
		evaluated.Store(0)
		for range 100 {
			wg.Go(func() {
				one := tryOf(2)
				if err := l.testBegin(t.Context(), one); err != nil {
					t.Error(err)
					return
				}
				evaluated.Add(1)
				l.testEnd(one, right)
			})
		}
		wg.Wait()
		if evaluated.Load() != 100 {
			t.Errorf("%d of 100 right secrets were answered", evaluated.Load())
		}
		for range freeFailures {
			if err := l.testBegin(t.Context(), tryOf(3)); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := l.testBegin(ctx, tryOf(3)); !errors.Is(err, ErrBusy) {
			t.Errorf("after waiting: %v", err)
		}
	})
}

// TestFailureTableIsBounded: somebody fails with uids of his own making until the table is full.
func TestFailureTableIsBounded(t *testing.T) {
	l, c := newLimits(t, 1, 1)
	key := func(i int) uidKey { return uidKey{byte(i), byte(i >> 8), byte(i >> 16), 1} }
	entry := func(until time.Time) *failures {
		return &failures{account: account{Failed: freeFailures, Sources: []source{{Failed: freeFailures, Until: until}}}, done: make(chan struct{})}
	}
	l.failures[uidKey{0xff}] = entry(c.Now().Add(longDelay))
	for i := range maxUIDs {
		l.failures[key(i)] = entry(c.Now().Add(time.Minute))
	}
	one := tryOf(0xfe)
	if err := l.testBegin(t.Context(), one); err != nil {
		t.Fatal(err)
	}
	l.testEnd(one, wrong)
	if len(l.failures) > maxUIDs+1 {
		t.Errorf("%d entries", len(l.failures))
	}
	if l.testBegin(t.Context(), tryOf(0xff)) == nil {
		t.Error("the longest delay was dropped first")
	}
	c.add(2 * time.Minute)
	for i := range maxUIDs {
		l.failures[key(i)] = entry(c.Now())
	}
	if err := l.testBegin(t.Context(), tryOf(0xfd)); err != nil || len(l.failures) > 3 {
		t.Errorf("%d entries whose delay is over are kept, %v", len(l.failures), err)
	}
}

// services are several nodes with one ring in one store.
func services(t *testing.T, n int) (*world, []*Service) {
	t.Helper()
	w := newWorld(t, nil)
	list := []*Service{w.Service}
	for len(list) < n {
		other := newNode(t, w.node.cfg.Store, w.clock, func(r *RingConfig) { r.Compat = true }, w.node.live...)
		other.mustSync(t)
		cfg := w.cfg
		cfg.Ring = other.Ring
		var err error
		if cfg.Limits, err = NewLimits(200, 8192, w.clock.Now); err != nil {
			t.Fatal(err)
		}
		s, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, s)
	}
	return w, list
}

func fastRecord(t *testing.T, s *Service, uid, secret string) string {
	t.Helper()
	records, err := s.Protect(t.Context(), []Item{{UID: uid, Secret: secret, Fast: true}})
	if err != nil {
		t.Fatal(err)
	}
	return records[0]
}

// TestA104ParallelGuessesOnThreeNodes: row 104: 100 wrong tries at once on three services over one store evaluate no more
// than the free ones, and no restart forgets them.
func TestA104ParallelGuessesOnThreeNodes(t *testing.T) {
	w, nodes := services(t, 3)
	record := fastRecord(t, w.Service, "alice", "right")
	var evaluated atomic.Int32
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			got, err := nodes[i%3].Verify(t.Context(), Verification{Item: Item{UID: "alice", Secret: "guess"}, Record: record})
			switch {
			case err == nil && !got.Match:
				evaluated.Add(1)
			case !errors.Is(err, ErrLimited) && !errors.Is(err, ErrBusy):
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
	wg.Wait()
	if n := evaluated.Load(); n != freeFailures {
		t.Errorf("%d of 100 guesses were evaluated, want %d", n, freeFailures)
	}
	_, again := services(t, 1)
	again[0].cfg.Ring = w.node.Ring // a restarted node with an empty table
	if _, err := again[0].Verify(t.Context(), Verification{Item: Item{UID: "alice", Secret: "right"}, Record: record}); !errors.Is(err, ErrLimited) {
		t.Errorf("a restart forgot the failures: %v", err)
	}
	w.clock.add(2 * time.Second)
	for _, s := range nodes {
		if got, err := s.Verify(t.Context(), Verification{Item: Item{UID: "alice", Secret: "right"}, Record: record}); err != nil || !got.Match {
			t.Errorf("after the pause: %+v, %v", got, err)
		}
	}
}

// TestA105StrangerLocksNobodyOut: row 105: somebody guesses from elsewhere, with as many sources as he likes, until the
// account is stopped. The owner's own source is known and goes on; the guesser does not profit from the owner's success.
func TestA105StrangerLocksNobodyOut(t *testing.T) {
	w, nodes := services(t, 2)
	record := fastRecord(t, w.Service, "alice", "right")
	verify := func(s *Service, secret, source string) (Result, error) {
		return s.Verify(t.Context(), Verification{Item: Item{UID: "alice", Secret: secret}, Record: record, Source: source})
	}
	if got, err := verify(nodes[0], "right", "home"); err != nil || !got.Match {
		t.Fatal(got, err)
	}
	evaluated := 0
	for i := range 300 { // each source twice, so that no pause of its own holds it
		if _, err := verify(nodes[i%2], "guess", fmt.Sprint("x", i/2)); err == nil {
			evaluated++
		}
	}
	if evaluated != hardStop {
		t.Errorf("%d guesses from many sources were evaluated, want %d", evaluated, hardStop)
	}
	if _, err := verify(nodes[1], "right", "new place"); !errors.Is(err, ErrLimited) {
		t.Errorf("a stranger after the hard stop: %v", err)
	}
	for _, s := range nodes {
		if got, err := verify(s, "right", "home"); err != nil || !got.Match {
			t.Errorf("the owner is locked out: %+v, %v", got, err)
		}
	}
	if _, err := verify(nodes[0], "guess", "x-more"); !errors.Is(err, ErrLimited) {
		t.Errorf("the owner's success made guessing free again: %v", err)
	}
	// A known source is no way around the limit of its own.
	evaluated = 0
	for range 30 {
		if _, err := verify(nodes[0], "guess", "home"); err == nil {
			evaluated++
		}
	}
	if evaluated != freeFailures {
		t.Errorf("a known source had %d guesses", evaluated)
	}
	// Never for good.
	w.clock.add(25 * time.Hour)
	if got, err := verify(nodes[0], "right", "new place"); err != nil || !got.Match {
		t.Errorf("a day later: %+v, %v", got, err)
	}
	// A source is known for 30 days.
	w.clock.add(31 * 24 * time.Hour)
	for i := range 2 * hardStop {
		_, _ = verify(nodes[0], "guess", fmt.Sprint("y", i))
	}
	if _, err := verify(nodes[0], "right", "home"); !errors.Is(err, ErrLimited) {
		t.Errorf("a source of last month is still known: %v", err)
	}
}

// TestStoreAway: without the store each node counts by itself, and nobody gets a try more than that.
func TestStoreAway(t *testing.T) {
	w, nodes := services(t, 2)
	record := fastRecord(t, w.Service, "alice", "right")
	st := w.node.cfg.Store.(*faults)
	st.mu.Lock()
	st.get = store.ErrUnavailable
	st.mu.Unlock()
	for i, s := range nodes {
		evaluated := 0
		for range 30 {
			if _, err := s.Verify(t.Context(), Verification{Item: Item{UID: "alice", Secret: "guess"}, Record: record}); err == nil {
				evaluated++
			}
		}
		if evaluated != freeFailures {
			t.Errorf("node %d evaluated %d", i, evaluated)
		}
	}
	if s := nodes[0].Stats(); s.StoreAway == 0 || s.Mismatches != freeFailures {
		t.Errorf("%+v", s)
	}
	st.mu.Lock()
	st.get = nil
	st.mu.Unlock()
	w.clock.add(2 * time.Second)
	if got, err := nodes[0].Verify(t.Context(), Verification{Item: Item{UID: "alice", Secret: "right"}, Record: record}); err != nil || !got.Match {
		t.Errorf("with the store back: %+v, %v", got, err)
	}
}

// TestUntriedTriesAreTakenBack: what was refused before the secret was compared does not count.
func TestUntriedTriesAreTakenBack(t *testing.T) {
	w := newWorld(t, nil)
	record := fastRecord(t, w.Service, "alice", "right")
	w.cfg.Limits.spend(8191)
	for range 3 * freeFailures {
		if _, err := w.Verify(t.Context(), Verification{Item: Item{UID: "alice", Secret: "guess"}, Record: record}); !errors.Is(err, ErrLimited) {
			t.Fatal(err)
		}
	}
	w.clock.add(time.Hour)
	if got, err := w.Verify(t.Context(), Verification{Item: Item{UID: "alice", Secret: "right"}, Record: record}); err != nil || !got.Match {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestDamagedEntryStops: an entry that cannot be read is no way around the limits.
func TestDamagedEntryStops(t *testing.T) {
	w := newWorld(t, nil)
	ring := w.node.held()
	record := fastRecord(t, w.Service, "alice", "right")
	rec, err := parseRecord(record)
	if err != nil {
		t.Fatal(err)
	}
	_, key := w.ledger(ring, ring.tryKey([]byte("alice"), &rec))
	if err := w.node.cfg.Store.CompareAndSwap(t.Context(), key, nil, []byte("{"), time.Time{}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Verify(t.Context(), Verification{Item: Item{UID: "alice", Secret: "right"}, Record: record}); !errors.Is(err, ErrLimited) {
		t.Error(err)
	}
}

// TestNobodysNamesAreBounded: names that do not exist share a bounded number of entries, and are slowed down as others.
func TestNobodysNamesAreBounded(t *testing.T) {
	w := newWorld(t, nil)
	codes := map[int]int{}
	for range freeFailures + 5 {
		codes[w.post("verify", `{"uid":"nobody","secret":"s","record":"-none"}`).Code]++
	}
	if codes[200] != freeFailures || codes[429] != 5 {
		t.Error(codes)
	}
	items, err := w.node.cfg.Store.(*faults).List(t.Context(), labelFailures+"/")
	if err != nil || len(items) != 1 || !strings.HasSuffix(items[0].Key, strings.Repeat("A", 17)) {
		t.Errorf("%d entries, %v: %v", len(items), err, items)
	}
	if strings.Contains(items[0].Key+string(items[0].Value), "nobody") {
		t.Error("the entry names somebody")
	}
}

// TestSourcesAreBounded: whoever changes his source all the time fills no entry and pushes out no known source.
func TestSourcesAreBounded(t *testing.T) {
	var a account
	now := newClock().Now()
	a.succeed(sourceKey{1}, now)
	for i := range 1000 {
		a.fail(sourceKey{2, byte(i), byte(i >> 8)}, now)
	}
	if len(a.Sources) > maxKnown+maxStrangers || a.Failed != 1000 || a.wait(sourceKey{1}, now) != 0 || a.wait(sourceKey{9}, now) != stopDelay {
		t.Errorf("%d sources, %d failures, waits %v and %v", len(a.Sources), a.Failed, a.wait(sourceKey{1}, now), a.wait(sourceKey{9}, now))
	}
	for i := range 100 {
		a.succeed(sourceKey{3, byte(i)}, now.Add(time.Duration(i)*time.Second))
	}
	if len(a.Sources) > maxKnown+maxStrangers || a.wait(sourceKey{3, 99}, now.Add(time.Hour)) != 0 {
		t.Errorf("%d sources", len(a.Sources))
	}
}

// TestBurst: more than fifty wrong secrets in a minute alarm, once a minute.
func TestBurst(t *testing.T) {
	var bursts []Burst
	w := newWorld(t, func(c *Config) { c.Alarm = func(b Burst) { bursts = append(bursts, b) } })
	guess := func(i int) *httptest.ResponseRecorder {
		return w.post("verify", fmt.Sprintf(`{"uid":"u%d","secret":"s","record":"-none"}`, i))
	}
	for i := range 50 {
		guess(i)
		w.clock.add(time.Second)
	}
	if len(bursts) != 0 {
		t.Fatal("fifty are an alarm")
	}
	guess(50)
	if len(bursts) != 1 || bursts[0].Ring != "passwords" || bursts[0].Failures != 51 {
		t.Fatalf("%+v", bursts)
	}
	for i := range 100 {
		guess(100 + i)
	}
	if len(bursts) != 1 {
		t.Errorf("%d alarms in one minute", len(bursts))
	}
	w.clock.add(59 * time.Second)
	guess(300)
	w.clock.add(2 * time.Second)
	for i := range 51 {
		guess(400 + i)
	}
	if len(bursts) != 2 {
		t.Errorf("%d alarms", len(bursts))
	}
}

// FuzzFailures: whatever stands in the store, nothing panics, and nobody gets more than the free tries from it.
func FuzzFailures(f *testing.F) {
	f.Fuzz(func(t *testing.T, text []byte) {
		c := newClock()
		l := ledger{&oneValue{text: text}, c.Now}
		evaluated := 0
		for range 2 * freeFailures {
			if _, err := l.begin(canceled, "k", sourceKey{7}); err == nil {
				evaluated++
			}
		}
		if evaluated > freeFailures && !strings.Contains(string(text), "-") { // a negative count is not one we write
			t.Errorf("%d tries", evaluated)
		}
	})
}

var canceled = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// oneValue is a store of one key.
type oneValue struct{ text []byte }

func (o *oneValue) Get(context.Context, string) ([]byte, error) { return o.text, nil }

func (o *oneValue) CompareAndSwap(_ context.Context, _ string, _, new []byte, _ time.Time) error {
	o.text = new
	return nil
}
