package budget

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/store/redis"
	"github.com/anteroom-proxy/anteroom/store/redis/redistest"
)

// What was never made refuses everything, and so does what makes no sense.
func TestZeroRefuses(t *testing.T) {
	for _, b := range []*Budget{nil, {}} {
		if r, err := b.Count(t.Context(), dana, "7", sixty, time.Time{}); r.Admitted || !errors.Is(err, ErrUnavailable) {
			t.Errorf("%+v %v", r, err)
		}
	}
	if _, err := New(Config{}); err == nil {
		t.Error("New without a store")
	}
	r := newRig(t)
	b := r.node()
	for name, c := range map[string]struct {
		k     Key
		value string
		l     Limit
	}{
		"no line":       {Key{Account: "a"}, "7", sixty},
		"no account":    {Key{ID: "a"}, "7", sixty},
		"no value":      {dana, "", sixty},
		"long value":    {dana, strings.Repeat("7", maxText+1), sixty},
		"no limit":      {dana, "7", Limit{Per: time.Hour}},
		"large limit":   {dana, "7", Limit{Max: MaxLimit + 1, Per: time.Hour}},
		"no time":       {dana, "7", Limit{Max: 1}},
		"long time":     {dana, "7", Limit{Max: 1, Per: MaxPer + 1}},
		"alarm above":   {dana, "7", Limit{Max: 1, Per: time.Hour, Alarm: 2}},
		"alarm negated": {dana, "7", Limit{Max: 1, Per: time.Hour, Alarm: -1}},
	} {
		if got, err := b.Count(t.Context(), c.k, c.value, c.l, time.Time{}); got.Admitted || !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %+v %v", name, got, err)
		}
	}
	if r.store.calls.Load() != 0 {
		t.Error("the store was asked")
	}
}

// Insider look-ups: sixty patients pass and the sixty-first does not; those that count still do; each level is told once.
func TestLimit(t *testing.T) {
	r := newRig(t)
	b := r.node()
	for i := 1; i <= 60; i++ {
		got := r.count(b, dana, fmt.Sprint("p", i), sixty, time.Time{})
		if !got.Admitted || got.Count != i || got.Alarm != (i == 30) || got.Exceeded {
			t.Fatalf("%d: %+v", i, got)
		}
	}
	for i := range 5 {
		if got := r.count(b, dana, fmt.Sprint("q", i), sixty, time.Time{}); got.Admitted || got.Count != 60 || got.Exceeded != (i == 0) || got.Alarm {
			t.Errorf("above the limit: %+v", got)
		}
	}
	for i := 1; i <= 60; i++ {
		if got := r.count(b, dana, fmt.Sprint("p", i), sixty, time.Time{}); !got.Admitted {
			t.Errorf("p%d, which counts, is refused: %+v", i, got)
		}
	}
	for _, other := range []Key{{"line2", dana.Site, dana.Account}, {dana.ID, "other.test", dana.Account}, {dana.ID, dana.Site, "idp/2"}, {"line1app.test", "", dana.Account}} {
		if got := r.count(b, other, "q1", sixty, time.Time{}); !got.Admitted || got.Count != 1 {
			t.Errorf("%v shares dana's window: %+v", other, got)
		}
	}
}

// A value counts until Per after it was seen last, whichever node saw it.
func TestSlides(t *testing.T) {
	r := newRig(t)
	a, b := r.node(), r.node()
	l := Limit{Max: 2, Per: time.Hour}
	r.count(a, dana, "1", l, time.Time{})
	r.clock.add(40 * time.Minute)
	r.count(a, dana, "2", l, time.Time{})
	r.clock.add(15 * time.Minute)
	if got := r.count(b, dana, "1", l, time.Time{}); !got.Admitted { // seen again at 55
		t.Fatalf("%+v", got)
	}
	r.clock.add(7 * time.Minute) // 62: seen first an hour ago, last 7 minutes ago
	if got := r.count(a, dana, "3", l, time.Time{}); got.Admitted {
		t.Errorf("1 was seen 7 minutes ago and does not count: %+v", got)
	}
	r.clock.add(39*time.Minute + time.Second) // 101:01: 2 was seen at 40
	if got := r.count(a, dana, "3", l, time.Time{}); !got.Admitted {
		t.Errorf("2 counts for longer than an hour and a minute: %+v", got)
	}
	if got := r.count(a, dana, "2", l, time.Time{}); got.Admitted {
		t.Errorf("2 fell out and comes in again although 1 and 3 count: %+v", got)
	}
	// What this node knows by itself must not make the window forget it too early: 3 is seen every 50 seconds from the
	// local memory and from the other node's.
	for i := range 80 {
		node := []*Budget{a, b}[i%2]
		if got := r.count(node, dana, "3", l, time.Time{}); !got.Admitted {
			t.Fatalf("3, which is seen all the time, is refused: %+v", got)
		}
		r.clock.add(50 * time.Second)
	}
	r.count(a, dana, "4", l, time.Time{})
	if got := r.count(a, dana, "5", l, time.Time{}); got.Admitted {
		t.Errorf("3 is seen all the time and 4 now: %+v", got)
	}
}

// Never more than Max different values within Per, whatever the order of seeing them: against a plain list of what was let
// through.
func TestNeverMoreWithinPer(t *testing.T) {
	r := newRig(t)
	nodes := []*Budget{r.node(), r.node(), r.node()}
	l := Limit{Max: 5, Per: 10 * time.Minute}
	random := rand.New(rand.NewPCG(1, 2))
	type pass struct {
		value string
		at    time.Time
	}
	var passed []pass
	refused := 0
	for range 4000 {
		r.clock.add(time.Duration(random.IntN(40_000)) * time.Millisecond)
		value, now := fmt.Sprint(random.IntN(12)), r.clock.now()
		if !r.count(nodes[random.IntN(3)], dana, value, l, time.Time{}).Admitted {
			refused++
			continue
		}
		passed = append(passed, pass{value, now})
		distinct := map[string]bool{}
		for i := len(passed) - 1; i >= 0 && now.Sub(passed[i].at) < l.Per; i-- {
			distinct[passed[i].value] = true
		}
		if len(distinct) > l.Max {
			t.Fatalf("%d different values within %v", len(distinct), l.Per)
		}
	}
	if refused < 400 || len(passed) < 400 {
		t.Errorf("%d passed, %d refused: too few to mean something", len(passed), refused)
	}
}

// Three nodes with one store, everybody at once: exactly Max pass, each level is told exactly once.
func TestExactOverNodes(t *testing.T) {
	r := newRig(t)
	wantExact(t, []*Budget{r.node(), r.node(), r.node()})
}

// The same with a real Redis between three nodes, each with a client of its own.
func TestExactOnRedis(t *testing.T) {
	server := redistest.Standalone(t)
	r := newRig(t)
	var nodes []*Budget
	for range 3 {
		s, err := redis.Open(t.Context(), redis.Config{Addresses: server.Addresses, Sealer: r.sealer, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		b, err := New(Config{Store: s, Sealer: r.sealer})
		if err != nil {
			t.Fatal(err)
		}
		nodes = append(nodes, b)
	}
	wantExact(t, nodes)
}

// wantExact lets everybody look at a hundred patients at once.
func wantExact(t *testing.T, nodes []*Budget) {
	t.Helper()
	var admitted, alarms, exceeded atomic.Int64
	values := make([]atomic.Bool, 100)
	var all sync.WaitGroup
	for w := range 12 {
		all.Go(func() {
			random := rand.New(rand.NewPCG(uint64(w), 3))
			for _, i := range random.Perm(len(values)) {
				got, err := nodes[w%3].Count(context.Background(), dana, fmt.Sprint("p", i), sixty, time.Time{})
				if err != nil {
					t.Error(err)
					return
				}
				if got.Admitted && values[i].CompareAndSwap(false, true) {
					admitted.Add(1)
				}
				if got.Alarm {
					alarms.Add(1)
				}
				if got.Exceeded {
					exceeded.Add(1)
				}
			}
		})
	}
	all.Wait()
	if admitted.Load() != 60 || alarms.Load() != 1 || exceeded.Load() != 1 {
		t.Errorf("%d values passed, %d alarms, %d times told of the limit", admitted.Load(), alarms.Load(), exceeded.Load())
	}
}

// Told once in Per, and again in the next.
func TestToldOnceInPer(t *testing.T) {
	r := newRig(t)
	nodes := []*Budget{r.node(), r.node()}
	l := Limit{Max: 4, Alarm: 2, Per: time.Hour}
	for round := range 3 {
		alarms, exceeded := 0, 0
		for i := range 30 {
			got := r.count(nodes[i%2], dana, fmt.Sprint(round, i%10), l, time.Time{})
			if got.Alarm {
				alarms++
			}
			if got.Exceeded {
				exceeded++
			}
			r.clock.add(time.Minute)
		}
		if alarms != 1 || exceeded != 1 {
			t.Errorf("round %d: %d alarms, %d times told of the limit", round, alarms, exceeded)
		}
		r.clock.add(2 * time.Hour)
	}
}

// A sign-in after the refusal begins anew, on every node; one before it, a second use of one, or one of tomorrow do not.
func TestStepUp(t *testing.T) {
	r := newRig(t)
	a, b := r.node(), r.node()
	l := Limit{Max: 2, Per: time.Hour}
	before := r.clock.now().Add(-time.Minute)
	full := func(n *Budget, since time.Time) bool {
		r.clock.add(2 * time.Second) // beyond what a node remembers of a refusal
		return !r.count(n, dana, fmt.Sprint(rand.Int64()), l, since).Admitted
	}
	fill := func(since time.Time) {
		for !full(a, since) {
		}
	}
	fill(before)
	if !full(a, before) || !full(b, before) || !full(b, time.Time{}) {
		t.Error("an old sign-in resets")
	}
	if !full(a, r.clock.now().Add(time.Hour)) {
		t.Error("a sign-in of the future resets")
	}
	r.clock.add(10 * time.Second)
	again := r.clock.now()
	if full(b, again) {
		t.Error("a new sign-in does not reset")
	}
	fill(again)
	if !full(a, again) || !full(b, again) {
		t.Error("one sign-in resets twice")
	}
	if !full(a, before) {
		t.Error("an old session resets")
	}
	third := r.clock.now().Add(time.Second)
	r.clock.add(time.Minute)
	if full(a, third) {
		t.Error("the next sign-in does not reset")
	}
	// A refusal that time mended asks for nothing any more: a sign-in after it is not one that it asked for.
	fill(third)
	r.clock.add(30 * time.Minute)
	idle := r.clock.now()
	r.clock.add(40 * time.Minute)
	fill(idle)
	if !full(a, idle) {
		t.Error("a sign-in after an old refusal lifts a new one")
	}
}

// A sign-in counts from the first refusal on: whoever tries again in another tab meanwhile does not undo it. One of a provider
// whose clock is ahead works once, too. And it works at once.
func TestStepUpTimes(t *testing.T) {
	r := newRig(t)
	b := r.node()
	l := Limit{Max: 1, Per: time.Hour}
	try := func(value string, since time.Time) bool {
		return r.count(b, dana, value, l, since).Admitted
	}
	if !try("1", time.Time{}) || try("2", time.Time{}) {
		t.Fatal("the limit is not 1")
	}
	r.clock.add(10 * time.Second)
	signIn := r.clock.now()
	r.clock.add(10 * time.Second)
	if try("2", time.Time{}) {
		t.Error("an old session passes")
	}
	if !try("2", signIn) { // within the second in which this node believes that there is no room
		t.Error("a sign-in after the first refusal does not count")
	}
	r.clock.add(2 * time.Second)
	if try("3", signIn) {
		t.Error("it counts twice")
	}
	ahead := r.clock.now().Add(50 * time.Second)
	if !try("3", ahead) {
		t.Error("a clock that is a little ahead")
	}
	for range 5 {
		r.clock.add(2 * time.Second)
		if try("4", ahead) {
			t.Error("it counts again and again")
		}
	}
	// What counts already passes also while this node believes that there is no room.
	r.clock.add(2 * time.Minute)
	if try("5", time.Time{}) || !try("3", time.Time{}) {
		t.Error("a value that counts is refused after another one was")
	}
}

// A refusal that time mended asks for nothing any more: a sign-in after it lifts no later one.
func TestMendedByTime(t *testing.T) {
	r := newRig(t)
	b := r.node()
	l := Limit{Max: 2, Per: time.Hour}
	r.count(b, dana, "1", l, time.Time{})
	r.clock.add(40 * time.Minute)
	r.count(b, dana, "2", l, time.Time{})
	if r.count(b, dana, "3", l, time.Time{}).Admitted {
		t.Error("above the limit")
	}
	r.clock.add(22 * time.Minute) // 1 is out
	if !r.count(b, dana, "3", l, time.Time{}).Admitted {
		t.Error("there is room")
	}
	r.clock.add(time.Minute)
	signIn := r.clock.now()
	r.clock.add(time.Minute)
	if r.count(b, dana, "4", l, signIn).Admitted {
		t.Error("a sign-in that nobody asked for lifts the limit")
	}
}

// What one node remembers is no longer than what the window says, whoever wrote that.
func TestMemoryOfAnothersTime(t *testing.T) {
	r := newRig(t)
	a, b := r.node(), r.node()
	l := Limit{Max: 1, Per: time.Hour}
	r.count(a, dana, "1", l, time.Time{})
	for _, later := range []time.Duration{50 * time.Second, 55 * time.Second} {
		r.clock.add(later)
		r.count(b, dana, "1", l, time.Time{})
	}
	r.clock.add(time.Hour - 10*time.Second)
	if r.count(a, dana, "2", l, time.Time{}).Admitted {
		t.Error("1 was seen less than an hour ago")
	}
}
