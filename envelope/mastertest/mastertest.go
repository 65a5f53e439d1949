// Package mastertest is the suite that every envelope.Master passes, and an envelope.Envelope on top of it.
//
// Call Run and RunEnvelope from the tests of a master. A master that can be made to fail says how in its Backend; the suite
// then shows what callers meet while it is slow, throttled, down, or its key is disabled or gone: an error that says so, in
// bounded time, and never another key. It trusts nothing of the master but its answers.
package mastertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/envelope"
)

// Backend is a master to be tested. Open gives handles of one and the same master. Of the other functions, nil ones are left
// out: not every master can be cut, and not every double can do everything.
type Backend struct {
	Open  func(t *testing.T) envelope.Master
	Limit time.Duration // within which every call ends, whatever happens
	Joins bool          // it joins the names and values of a context without their lengths, as an emulator may

	Slow     func(d time.Duration) // delays answers
	Down     func()                // nothing answers
	Hang     func()                // it takes calls and answers none
	Throttle func()
	Break    func() // it answers with errors of its own
	Deny     func() // we may not use it
	Disable  func() // the key is disabled
	Delete   func() // the key is pending deletion, or gone
	Heal     func() // undoes all of these; required when one of them is there
	Rotate   func() // new material for the same key
}

// faults are the ways in which a master does not do what it should, and which error each must give.
func (b Backend) faults() []fault {
	all := []fault{
		{"down", b.Down, envelope.ErrUnavailable}, {"hanging", b.Hang, envelope.ErrUnavailable}, {"throttled", b.Throttle, envelope.ErrUnavailable},
		{"broken", b.Break, envelope.ErrUnavailable}, {"denied", b.Deny, envelope.ErrRefused}, {"disabled", b.Disable, envelope.ErrRefused},
		{"deleted", b.Delete, envelope.ErrRefused},
	}
	var there []fault
	for _, f := range all {
		if f.begin != nil {
			there = append(there, f)
		}
	}
	return there
}

type fault struct {
	name  string
	begin func()
	want  error
}

func about(key string) map[string]string {
	return map[string]string{"service": "anteroom", "purpose": "data-key", "ring": "own", "key": key}
}

// Run is the suite of a master.
func Run(t *testing.T, b Backend) {
	for name, test := range map[string]func(*testing.T, Backend){
		"Id": testID, "GenerateAndUnwrap": testGenerate, "WrapAndUnwrap": testWrap, "Row154OtherContext": testContext,
		"ChangedBytes": testChanged, "Row155Rewrap": testRewrap, "Concurrent": testConcurrent, "Cancelled": testCancelled,
	} {
		t.Run(name, func(t *testing.T) { test(t, b) })
	}
	for _, f := range b.faults() {
		t.Run("Row157"+f.name, func(t *testing.T) { testFault(t, b, f) })
	}
	if b.Slow != nil {
		t.Run("Row157slow", func(t *testing.T) { testSlow(t, b) })
	}
}

func testID(t *testing.T, b Backend) {
	one, two := b.Open(t), b.Open(t)
	kind, rest, ok := strings.Cut(one.ID(), ":")
	if one.ID() != two.ID() || !ok || kind == "" || rest == "" {
		t.Errorf("ids %q and %q, want one of the form kind:name", one.ID(), two.ID())
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		if shown := fmt.Sprintf(verb, one); len(shown) > 200 {
			t.Errorf("%s shows %d characters", verb, len(shown))
		}
	}
}

func generate(t *testing.T, m envelope.Master, key string) (plain, wrapped []byte) {
	t.Helper()
	plain, wrapped, err := m.Generate(t.Context(), about(key))
	if err != nil {
		t.Fatal(err)
	}
	if len(plain) != 32 || bytes.Contains(wrapped, plain) || bytes.Equal(plain, make([]byte, 32)) {
		t.Fatalf("a key of %d bytes wrapped into %d", len(plain), len(wrapped))
	}
	return plain, wrapped
}

// opens checks that a fresh handle opens it.
func opens(t *testing.T, m envelope.Master, key string, wrapped, want []byte) {
	t.Helper()
	if got, err := m.Unwrap(t.Context(), wrapped, about(key)); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("unwrapping gives %d bytes (the right ones: %v), %v", len(got), bytes.Equal(got, want), err)
	}
}

func testGenerate(t *testing.T, b Backend) {
	m := b.Open(t)
	seen := map[string]bool{}
	for range 8 {
		plain, wrapped := generate(t, m, "k1")
		if seen[string(plain)] || seen[string(wrapped)] {
			t.Fatal("a key came twice")
		}
		seen[string(plain)], seen[string(wrapped)] = true, true
		opens(t, b.Open(t), "k1", wrapped, plain)
	}
}

func testWrap(t *testing.T, b Backend) {
	m := b.Open(t)
	plain := bytes.Repeat([]byte{7}, 32)
	kept := bytes.Clone(plain)
	one, err1 := m.Wrap(t.Context(), plain, about("k1"))
	two, err2 := m.Wrap(t.Context(), plain, about("k1"))
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(plain, kept) {
		t.Error("wrapping changed the caller's bytes")
	}
	if bytes.Equal(one, two) {
		t.Error("two wraps of one content are alike: it shows that the content is")
	}
	opens(t, b.Open(t), "k1", one, plain)
	opens(t, b.Open(t), "k1", two, plain)
	for _, bad := range [][]byte{nil, {}, make([]byte, 64<<10)} {
		if wrapped, err := m.Wrap(t.Context(), bad, about("k1")); err == nil {
			t.Errorf("%d bytes were wrapped into %d", len(bad), len(wrapped))
		}
	}
}

// testContext: what was wrapped for one key of one ring opens for that one only.
func testContext(t *testing.T, b Backend) {
	m := b.Open(t)
	_, wrapped := generate(t, m, "k1")
	changed := func(change func(map[string]string)) map[string]string {
		c := maps.Clone(about("k1"))
		change(c)
		return c
	}
	for name, context := range map[string]map[string]string{
		"another key":     about("k2"),
		"another ring":    changed(func(c map[string]string) { c["ring"] = "apps" }),
		"another purpose": changed(func(c map[string]string) { c["purpose"] = "hardening-ring" }),
		"one too many":    changed(func(c map[string]string) { c["more"] = "x" }),
		"one too few":     changed(func(c map[string]string) { delete(c, "key") }),
		"names and values shifted": changed(func(c map[string]string) {
			delete(c, "key")
			delete(c, "ring")
			c["ke"], c["ring"] = "yk1", "own"
		}),
	} {
		if b.Joins && strings.HasSuffix(name, "shifted") {
			continue
		}
		if plain, err := m.Unwrap(t.Context(), wrapped, context); !errors.Is(err, envelope.ErrSealed) || plain != nil {
			t.Errorf("%s: unwrap gives %d bytes, %v", name, len(plain), err)
		}
		if again, err := m.Rewrap(t.Context(), wrapped, context); !errors.Is(err, envelope.ErrSealed) || again != nil {
			t.Errorf("%s: rewrap gives %d bytes, %v", name, len(again), err)
		}
	}
}

func testChanged(t *testing.T, b Backend) {
	m := b.Open(t)
	plain, wrapped := generate(t, m, "k1")
	step := max(1, len(wrapped)/24)
	refused := func(what string, bad []byte) {
		t.Helper()
		// Bytes in which a service looks up the key may name one that is not there.
		if got, err := m.Unwrap(t.Context(), bad, about("k1")); err == nil || bytes.Equal(got, plain) || got != nil ||
			!errors.Is(err, envelope.ErrSealed) && !errors.Is(err, envelope.ErrRefused) {
			t.Errorf("%s: %d bytes, %v", what, len(got), err)
		}
	}
	for i := 0; i < len(wrapped); i += step {
		bad := bytes.Clone(wrapped)
		bad[i] ^= 1
		refused(fmt.Sprintf("bit of byte %d", i), bad)
	}
	for _, n := range []int{0, 1, len(wrapped) / 2, len(wrapped) - 1} {
		refused(fmt.Sprintf("the first %d bytes", n), wrapped[:n])
	}
	refused("one more byte", append(bytes.Clone(wrapped), 0))
	refused("too large", bytes.Repeat(wrapped, 64<<10/len(wrapped)))
	opens(t, m, "k1", wrapped, plain)
}

// testRewrap: the content stays, the bytes change, and the old ones still open.
func testRewrap(t *testing.T, b Backend) {
	m := b.Open(t)
	plain, wrapped := generate(t, m, "k1")
	if b.Rotate != nil {
		b.Rotate()
	}
	again, err := m.Rewrap(t.Context(), wrapped, about("k1"))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(again, wrapped) {
		t.Error("nothing was re-wrapped")
	}
	opens(t, b.Open(t), "k1", again, plain)
	opens(t, b.Open(t), "k1", wrapped, plain)
	bad := bytes.Clone(wrapped)
	bad[len(bad)-1] ^= 1
	if got, err := m.Rewrap(t.Context(), bad, about("k1")); !errors.Is(err, envelope.ErrSealed) {
		t.Errorf("changed bytes were re-wrapped into %d, %v", len(got), err)
	}
}

func testConcurrent(t *testing.T, b Backend) {
	m := b.Open(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			key := fmt.Sprint("k", i)
			for range 4 {
				plain, wrapped, err := m.Generate(t.Context(), about(key))
				if err == nil {
					wrapped, err = m.Rewrap(t.Context(), wrapped, about(key))
				}
				var got []byte
				if err == nil {
					got, err = m.Unwrap(t.Context(), wrapped, about(key))
				}
				if err != nil || !bytes.Equal(got, plain) {
					t.Errorf("%s: %v", key, err)
				}
			}
		})
	}
	wg.Wait()
}

// calls does each operation once, and returns the errors by name.
func calls(ctx context.Context, m envelope.Master, wrapped []byte) map[string]error {
	_, _, err1 := m.Generate(ctx, about("k1"))
	_, err2 := m.Wrap(ctx, make([]byte, 32), about("k1"))
	_, err3 := m.Unwrap(ctx, wrapped, about("k1"))
	_, err4 := m.Rewrap(ctx, wrapped, about("k1"))
	return map[string]error{"generate": err1, "wrap": err2, "unwrap": err3, "rewrap": err4}
}

func testCancelled(t *testing.T, b Backend) {
	m := b.Open(t)
	_, wrapped := generate(t, m, "k1")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, err := range calls(ctx, m, wrapped) {
		if !errors.Is(err, context.Canceled) || errors.Is(err, envelope.ErrSealed) || errors.Is(err, envelope.ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	opens(t, m, "k1", wrapped, func() []byte { p, _ := m.Unwrap(t.Context(), wrapped, about("k1")); return p }())
}

// testFault: each call ends in time with the right error, which says something to an operator, and all is well afterwards.
func testFault(t *testing.T, b Backend, f fault) {
	m := b.Open(t)
	plain, wrapped := generate(t, m, "k1")
	f.begin()
	defer b.Heal() // in case of a failure below
	began := time.Now()
	errs := calls(t.Context(), m, wrapped)
	if took := time.Since(began); took > 4*b.Limit+time.Second {
		t.Errorf("four calls took %s, each may take %s", took, b.Limit)
	}
	for name, err := range errs {
		if !errors.Is(err, f.want) {
			t.Errorf("%s: %v, want %v", name, err, f.want)
		} else if len(err.Error()) < len(f.want.Error())+40 || strings.Contains(err.Error(), string(plain)) {
			t.Errorf("%s: no remedy in %q", name, err)
		}
	}
	b.Heal()
	opens(t, m, "k1", wrapped, plain)
	generate(t, m, "k1")
}

// testSlow: an answer within the time counts; one that comes later does not, and nobody waits for it.
func testSlow(t *testing.T, b Backend) {
	m := b.Open(t)
	plain, wrapped := generate(t, m, "k1")
	defer b.Slow(0)
	b.Slow(b.Limit / 10)
	opens(t, m, "k1", wrapped, plain)
	b.Slow(4 * b.Limit)
	began := time.Now()
	_, err := m.Unwrap(t.Context(), wrapped, about("k1"))
	if took := time.Since(began); !errors.Is(err, envelope.ErrUnavailable) || took > b.Limit+time.Second {
		t.Errorf("after %s: %v", took, err)
	}
	b.Slow(0)
	opens(t, m, "k1", wrapped, plain)
}
