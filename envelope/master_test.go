package envelope

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"testing"
	"time"
)

// TestRow154Context: what a master wrapped for one purpose, ring and key opens for no other.
func TestRow154Context(t *testing.T) {
	l := local(t, 1)
	plain, wrapped, err := l.Generate(t.Context(), about("own", "k1"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := l.Unwrap(t.Context(), wrapped, about("own", "k1")); err != nil || !bytes.Equal(got, plain) {
		t.Fatal(err)
	}
	less, more, moved := about("own", "k1"), about("own", "k1"), about("own", "k1")
	delete(less, "key")
	more["x"] = ""
	moved["ring"], moved["key"] = "ownk", "1"
	for name, wrong := range map[string]map[string]string{
		"none": nil, "another ring": about("apps", "k1"), "another key": about("own", "k2"), "the ring's proof": about("own", provesRing),
		"one less": less, "one more": more, "moved": moved,
	} {
		_, err := l.Unwrap(t.Context(), wrapped, wrong)
		refused(t, name, err, ErrSealed)
		_, err = l.Rewrap(t.Context(), wrapped, wrong)
		refused(t, name+", Rewrap", err, ErrSealed)
	}
	for i := range wrapped {
		bad := bytes.Clone(wrapped)
		bad[i] ^= 1
		_, err := l.Unwrap(t.Context(), bad, about("own", "k1"))
		refused(t, "a changed byte", err, ErrSealed)
	}
}

// TestRow154AsksWithContext: every call names service, purpose, ring and key.
func TestRow154AsksWithContext(t *testing.T) {
	seen := map[string]bool{}
	spy := &spyMaster{far: newFar(t, 1), saw: func(about map[string]string) {
		if about["service"] != "anteroom" || about["purpose"] != "data-key" || about["ring"] != "own" || about["key"] == "" || len(about) != 4 {
			t.Errorf("context %v", about)
		}
		seen[about["key"]] = true
	}}
	e := open(t, new(memory), "own", spy)
	id := primary(t, e).ID
	if _, err := e.RewrapAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(seen, map[string]bool{id: true, provesRing: true}) {
		t.Errorf("keys named: %v", seen)
	}
}

type spyMaster struct {
	*far
	saw func(map[string]string)
}

func (s *spyMaster) Generate(ctx context.Context, about map[string]string) ([]byte, []byte, error) {
	s.saw(about)
	return s.far.Generate(ctx, about)
}

func (s *spyMaster) Wrap(ctx context.Context, plain []byte, about map[string]string) ([]byte, error) {
	s.saw(about)
	return s.far.Wrap(ctx, plain, about)
}

func (s *spyMaster) Unwrap(ctx context.Context, wrapped []byte, about map[string]string) ([]byte, error) {
	s.saw(about)
	return s.far.Unwrap(ctx, wrapped, about)
}

func (s *spyMaster) Rewrap(ctx context.Context, wrapped []byte, about map[string]string) ([]byte, error) {
	s.saw(about)
	return s.far.Rewrap(ctx, wrapped, about)
}

// TestRow155MasterAndDataRotation: rotating the master wraps the keys anew and touches no
// value; rotating the data key leaves old values under the old one until Reseal.
func TestRow155MasterAndDataRotation(t *testing.T) {
	keys, kms := new(memory), newFar(t, 2)
	old := open(t, keys, "own", local(t, 1))
	a := seal(t, old, testLabel, []byte("a"))
	if _, err := old.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	b, seals := seal(t, old, testLabel, []byte("b")), primary(t, old).ID
	both := open(t, keys, "own", kms, func(c *Config) { c.Former = []Master{local(t, 1)} })
	opens(t, both, a, "a")
	if n, err := both.Migrate(t.Context()); err != nil || n != 2 || !under(both, kms.ID()) || primary(t, both).ID != seals {
		t.Fatal(n, err, both.Keys())
	}
	if n, err := both.Migrate(t.Context()); err != nil || n != 0 {
		t.Errorf("again: %d, %v", n, err)
	}
	alone := open(t, keys, "own", kms)
	for _, e := range []*Envelope{both, alone} {
		opens(t, e, a, "a")
		opens(t, e, b, "b")
	}
	_, err := Start(t.Context(), Config{Name: "own", Master: local(t, 1), Store: keys})
	refused(t, "the former master alone", err, ErrRefused)
	// A node that still has the former master alone goes on reading, and does not seal.
	opens(t, old, a, "a")
	refused(t, "the former master, running", old.core().look(t.Context()), ErrRefused)
	opens(t, old, b, "b")
	before := both.core().view.Load().ring
	if n, err := both.RewrapAll(t.Context()); err != nil || n != 2 {
		t.Fatal(n, err)
	}
	for i, k := range both.core().view.Load().ring.Keys {
		if k.Data == before.Keys[i].Data || k.Check != before.Keys[i].Check {
			t.Error("not wrapped anew, or another key")
		}
	}
	opens(t, alone, seal(t, both, testLabel, []byte("c")), "c")
	// Not all or nothing would lose a key: one that does not open stops the migration.
	broken := open(t, keys, "own", local(t, 3), func(c *Config) { c.Former = []Master{kms} })
	kms.fail(ErrRefused)
	if n, err := broken.Migrate(t.Context()); !errors.Is(err, ErrRefused) || n != 0 {
		t.Errorf("a former master that refuses: %d, %v", n, err)
	}
	if !under(both, kms.ID()) {
		t.Error("half migrated")
	}
}

// TestRow155Limits: after a change of master the limits of the new one hold on all nodes.
func TestRow155Limits(t *testing.T) {
	keys, kms, clock := new(memory), newFar(t, 2), newTicker()
	former := func(c *Config) { c.Former = []Master{local(t, 1)} }
	_ = open(t, keys, "own", local(t, 1))
	a, b := open(t, keys, "own", kms, clock.at, former), open(t, keys, "own", kms, clock.at, former)
	sealed := seal(t, b, testLabel, []byte("x"))
	if _, err := a.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.core().look(t.Context()); err != nil {
		t.Fatal(err)
	}
	opens(t, b, sealed, "x")
	kms.fail(ErrUnavailable)
	clock.add(16 * time.Minute)
	for _, e := range []*Envelope{a, b} {
		_, err := e.Open(t.Context(), testLabel, sealed)
		refused(t, "past the limit of the new master", err, ErrUnavailable)
	}
}

// TestLyingMaster: a master that answers with something else does not decide what we seal
// with, and nothing is stored.
func TestLyingMaster(t *testing.T) {
	same := bytes.Repeat([]byte{7}, 32)
	for name, lie := range map[string]func([]byte) []byte{
		"nothing":       func([]byte) []byte { return nil },
		"a short key":   func(p []byte) []byte { return p[:31] },
		"a long key":    func(p []byte) []byte { return append(p, 1) },
		"an AES-128":    func(p []byte) []byte { return p[:16] },
		"zeros":         func([]byte) []byte { return make([]byte, 32) },
		"always one":    func([]byte) []byte { return bytes.Clone(same) },
		"the key moved": func(p []byte) []byte { p[0]++; return p },
	} {
		kms, keys := newFar(t, 1), new(memory)
		kms.lie = lie
		if _, err := Start(t.Context(), Config{Name: "own", Master: kms, Store: keys}); !errors.Is(err, ErrRefused) && !errors.Is(err, ErrSealed) {
			t.Errorf("%s: %v", name, err)
		}
		kms.lie = nil
		keys = new(memory)
		e := open(t, keys, "own", kms)
		sealed, before := seal(t, e, testLabel, []byte("x")), keys.snapshot()
		kms.lie = lie
		if _, err := e.Rotate(t.Context()); err == nil {
			t.Errorf("%s: rotated", name)
		}
		if _, err := e.RewrapAll(t.Context()); err == nil {
			t.Errorf("%s: wrapped anew", name)
		}
		if string(keys.values[ringAt]) != string(before[ringAt]) {
			t.Errorf("%s: the ring was changed", name)
		}
		kms.lie = nil
		opens(t, e, sealed, "x")
	}
}

// TestSameKeyTwice: a master without randomness makes the same key again.
func TestSameKeyTwice(t *testing.T) {
	m := &stuck{far: newFar(t, 1), plain: bytes.Repeat([]byte{7}, 32)}
	e := open(t, new(memory), "own", m)
	_, err := e.Rotate(t.Context())
	refused(t, "the same key", err, ErrRefused)
	_, err = e.Condemn(t.Context(), primary(t, e).ID)
	refused(t, "the same key as the new primary", err, ErrRefused)
}

type stuck struct {
	*far
	plain []byte
}

func (s *stuck) Generate(ctx context.Context, about map[string]string) ([]byte, []byte, error) {
	wrapped, err := s.Wrap(ctx, s.plain, about)
	return bytes.Clone(s.plain), wrapped, err
}

// TestGarbageMaster: wrapped bytes that are none, too many, or not what was asked for.
func TestGarbageMaster(t *testing.T) {
	for name, out := range map[string][]byte{"none": nil, "too many": make([]byte, maxWrapped+1), "zeros": make([]byte, 73)} {
		kms, keys := newFar(t, 1), new(memory)
		e := open(t, keys, "own", kms)
		before := keys.snapshot()
		g := &garbage{kms, out}
		if _, err := Start(t.Context(), Config{Name: "own", Master: g, Store: new(memory)}); err == nil {
			t.Errorf("%s: started", name)
		}
		bad := open(t, keys, "own", g)
		for verb, do := range map[string]func() error{
			"Rotate": func() error { _, err := bad.Rotate(t.Context()); return err }, "RewrapAll": func() error { _, err := bad.RewrapAll(t.Context()); return err },
		} {
			if do() == nil {
				t.Errorf("%s: %s", name, verb)
			}
		}
		if string(keys.values[ringAt]) != string(before[ringAt]) {
			t.Errorf("%s: the ring was changed", name)
		}
		_ = seal(t, e, testLabel, nil)
		// Migrate to it must not skip a key.
		other := new(memory)
		_ = open(t, other, "own", local(t, 5))
		m := open(t, other, "own", g, func(c *Config) { c.Former = []Master{local(t, 5)} })
		if n, err := m.Migrate(t.Context()); err == nil || n != 0 {
			t.Errorf("%s: migrated %d", name, n)
		}
	}
}

// TestLossyMaster: a master that gives the ring back and loses data keys. Each key is tried
// before the ring that has it is stored.
func TestLossyMaster(t *testing.T) {
	l := &lossy{newFar(t, 1)}
	if _, err := Start(t.Context(), Config{Name: "own", Master: l, Store: new(memory)}); !errors.Is(err, ErrSealed) {
		t.Errorf("started: %v", err)
	}
	keys := new(memory)
	e := open(t, keys, "own", local(t, 5))
	sealed, before := seal(t, e, testLabel, []byte("x")), keys.snapshot()
	m := open(t, keys, "own", l, func(c *Config) { c.Former = []Master{local(t, 5)} })
	for verb, do := range map[string]func() error{
		"Rotate":  func() error { _, err := m.Rotate(t.Context()); return err },
		"Condemn": func() error { _, err := m.Condemn(t.Context(), primary(t, e).ID); return err },
		"Migrate": func() error { _, err := m.Migrate(t.Context()); return err },
	} {
		refused(t, verb, do(), ErrSealed)
	}
	if string(keys.values[ringAt]) != string(before[ringAt]) {
		t.Error("the ring was changed")
	}
	opens(t, open(t, keys, "own", local(t, 5)), sealed, "x")
}

type lossy struct{ *far }

func (l *lossy) Generate(ctx context.Context, about map[string]string) ([]byte, []byte, error) {
	plain, wrapped, err := l.far.Generate(ctx, about)
	wrapped[40] ^= 1
	return plain, wrapped, err
}

func (l *lossy) Wrap(ctx context.Context, plain []byte, about map[string]string) ([]byte, error) {
	wrapped, err := l.far.Wrap(ctx, plain, about)
	if about["key"] != provesRing {
		wrapped[40] ^= 1
	}
	return wrapped, err
}

// TestOtherKeyAnswered: a master that suddenly answers with another data key. Nothing is
// sealed under that: nobody could open it later.
func TestOtherKeyAnswered(t *testing.T) {
	clock, m, keys := newTicker(), &turncoat{far: newFar(t, 1)}, new(memory)
	e := open(t, keys, "own", m, clock.at)
	sealed := seal(t, e, testLabel, []byte("x"))
	m.turned = true
	clock.add(time.Hour)
	_, err := e.Seal(t.Context(), testLabel, nil)
	refused(t, "Seal", err, ErrSealed)
	_, err = e.Open(t.Context(), testLabel, sealed)
	refused(t, "Open", err, ErrSealed)
	_, err = Start(t.Context(), Config{Name: "own", Master: m, Store: keys})
	refused(t, "Start", err, ErrSealed)
	m.turned = false
	clock.add(time.Hour)
	opens(t, e, sealed, "x")
}

type turncoat struct {
	*far
	turned bool
}

func (c *turncoat) Unwrap(ctx context.Context, wrapped []byte, about map[string]string) ([]byte, error) {
	plain, err := c.far.Unwrap(ctx, wrapped, about)
	if c.turned && about["key"] != provesRing {
		plain[0]++
	}
	return plain, err
}

type garbage struct {
	*far
	out []byte
}

func (g *garbage) Generate(ctx context.Context, about map[string]string) ([]byte, []byte, error) {
	plain, _, err := g.far.Generate(ctx, about)
	return plain, g.out, err
}

func (g *garbage) Wrap(context.Context, []byte, map[string]string) ([]byte, error) { return g.out, nil }
func (g *garbage) Rewrap(context.Context, []byte, map[string]string) ([]byte, error) {
	return g.out, nil
}
