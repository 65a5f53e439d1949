package caddymodule

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/envelope"
	"github.com/anteroom-proxy/anteroom/rekey"
	"github.com/anteroom-proxy/anteroom/session"
	"github.com/anteroom-proxy/anteroom/store"
	"github.com/anteroom-proxy/anteroom/store/bolt"
	"golang.org/x/crypto/chacha20poly1305"
)

// A migration never removes a file that wraps something: one that stands there twice, a copy, one that the lines called the
// former one only after they were changed.
func TestRow155RemoveKeepsTheMaster(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	present, err := envelope.OpenLocal(path("present"))
	if err != nil {
		t.Fatal(err)
	}
	db, err := bolt.Open(bolt.Config{Path: path("store.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	st := openStore{masters: masters{master: present}}
	for name, e := range map[string]**envelope.Envelope{ringOwn: &st.envelope, ringApps: &st.apps} {
		if *e, err = envelope.Start(t.Context(), envelope.Config{Name: name, Master: present, Store: db}); err != nil {
			t.Fatal(err)
		}
	}
	content, err := os.ReadFile(path("present"))
	if err == nil {
		err = os.WriteFile(path("copy"), content, 0o600)
	}
	if err == nil {
		err = os.Link(path("present"), path("hard"))
	}
	if err == nil {
		err = os.Symlink(path("former"), path("link"))
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := envelope.OpenLocal(path("former")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		former string
		goes   bool
	}{{"present", false}, {"copy", false}, {"hard", false}, {"link", false}, {"absent", false}, {"former", true}} {
		a := &App{Directory: dir}
		a.master = &MasterLocal{File: path("other")}
		a.master.(*MasterLocal).former = []Master{&MasterLocal{File: path(c.former)}}
		was, there := os.ReadFile(path(c.former))
		detail, err := a.putAway(st, nil, true)
		if err != nil {
			t.Errorf("%s: %v", c.former, err)
		}
		is, err := os.ReadFile(path(c.former))
		if c.goes != (err != nil && there == nil) || !c.goes && !bytes.Equal(was, is) {
			t.Errorf("former local %s: %s; it is there: %v", c.former, detail, err == nil)
		}
	}
	if again, err := envelope.OpenLocal(path("present")); err != nil || again.ID() != present.ID() {
		t.Errorf("the master key: %v", err)
	}
}

// A dry run makes no key file: a new one in the place of a lost one would hide the loss until the next start.
func TestRow155DryRunMakesNoKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "master.key")
	if id := (keyFile{path: path}).ID(); id != "" || exists(path) {
		t.Errorf("%q, a file was made: %v", id, exists(path))
	}
}

// planter is a store that a thief of the data key can write to: at the first walk over it after the key was condemned he puts
// his signing keys in the place of ours.
type planter struct {
	store.Store
	own   *envelope.Envelope
	old   string
	value []byte
	once  sync.Once
}

func (p *planter) Scan(ctx context.Context, prefix, cursor string, limit int) ([]store.Item, string, error) {
	for _, k := range p.own.Keys() {
		if k.ID == p.old && k.State == envelope.StateCondemned {
			p.once.Do(func() { _ = p.Put(ctx, "anteroom/session/keys/v1", p.value, time.Time{}) })
		}
	}
	return p.Store.Scan(ctx, prefix, cursor, limit)
}

// Row 156, with the real parts: what the thief planted was sealed anew by the operation itself, and every node would have
// believed the sessions that he signs.
func TestRow156PlantedSigningKeys(t *testing.T) {
	for name, early := range map[string]bool{"while the keys are killed": true, "when the old key is condemned": false} {
		t.Run(name, func(t *testing.T) { plant(t, early) })
	}
}

// planting puts the thief's keys into the store in the moment in which ours are killed.
type planting struct {
	signers
	p *planter
}

func (s planting) KillKey(ctx context.Context, kid string) error {
	s.p.once.Do(func() { _ = s.p.Put(ctx, "anteroom/session/keys/v1", s.p.value, time.Time{}) })
	return s.signers.KillKey(ctx, kid)
}

func plant(t *testing.T, early bool) {
	dir := t.TempDir()
	db, err := bolt.Open(bolt.Config{Path: filepath.Join(dir, "store.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	master, err := envelope.OpenLocal(filepath.Join(dir, "master.key"))
	if err != nil {
		t.Fatal(err)
	}
	own, err := envelope.Start(t.Context(), envelope.Config{Name: ringOwn, Master: master, Store: db})
	if err != nil {
		t.Fatal(err)
	}
	forged, err := json.Marshal(map[string]any{"keys": []any{map[string]any{"seed": bytes.Repeat([]byte{6}, 32), "created": 1, "signs": time.Now().Unix() - 1}}})
	if err != nil {
		t.Fatal(err)
	}
	p := &planter{Store: db, own: own, old: own.Keys()[1].ID}
	if p.value, err = own.Seal(t.Context(), "anteroom/session/seal-keys/v1", forged); err != nil {
		t.Fatal(err)
	}
	manager := func() *session.Manager {
		m, err := session.New(session.Config{Store: db, Sealer: own, Logger: slog.New(slog.DiscardHandler)})
		if err == nil {
			err = m.Start(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(m.Close)
		return m
	}
	m := manager()
	before := signers{m}.SigningKeys()
	o, err := rekey.New(rekey.Config{
		Store: p, Own: dataKeys{own}, KeyOf: envelope.KeyOf, LabelOf: labelOf, First: session.SealedFirst(), Audit: audit.Off(), Alone: true,
		Sessions: func() rekey.Sessions {
			if early {
				return planting{signers{m}, p}
			}
			return signers{m}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.Begin(t.Context(), rekey.Request{Verb: rekey.CompromisedData, Target: p.old}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	go o.Follow(ctx)
	for {
		op, err := o.Current(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if op.State == rekey.StateDone {
			if !slices.ContainsFunc(op.Notes, func(s string) bool { return strings.Contains(s, "write to the store") }) {
				t.Errorf("it was not noticed: %+v", op)
			}
			for _, kid := range (signers{manager()}).SigningKeys() {
				if slices.Contains(before, kid) || slices.Contains(op.Kills, kid) {
					t.Errorf("the signing key %s is good", kid)
				}
			}
			if len(op.Kills) <= len(before) {
				t.Errorf("killed: %v", op.Kills)
			}
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%+v", op)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Row 153: after a migration nothing opens that says it was sealed by the former master key itself, whoever still has the file,
// and also while it still lies there.
func TestRow153FormerMasterSealsNothing(t *testing.T) {
	dir := t.TempDir()
	db, err := bolt.Open(bolt.Config{Path: filepath.Join(dir, "store.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	former, err := envelope.OpenLocal(filepath.Join(dir, "former"))
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(filepath.Join(dir, "former"))
	if err != nil {
		t.Fatal(err)
	}
	// As version 0.1 did, or somebody with the file.
	label, id := "anteroom/session/seal-keys/v1", strings.TrimPrefix(former.ID(), "local:")
	header, err := hex.DecodeString("01" + id)
	if err != nil {
		t.Fatal(err)
	}
	key, err := hkdf.Key(sha256.New, content, nil, "anteroom/envelope/seal/v1\x00"+label, 32)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		t.Fatal(err)
	}
	nonce := make([]byte, 24)
	old := aead.Seal(append(slices.Clone(header), nonce...), nonce, []byte("keys"), append(slices.Clone(header), label...))

	if _, err := envelope.Start(t.Context(), envelope.Config{Name: ringOwn, Master: former, Store: db}); err != nil {
		t.Fatal(err)
	}
	present, err := envelope.OpenLocal(filepath.Join(dir, "present"))
	if err != nil {
		t.Fatal(err)
	}
	open := func() *envelope.Envelope {
		own, err := envelope.Start(t.Context(), envelope.Config{Name: ringOwn, Master: present, Former: []envelope.Master{former}, Store: db})
		if err != nil {
			t.Fatal(err)
		}
		return own
	}
	own := open()
	if plain, err := own.Open(t.Context(), label, old); err != nil || string(plain) != "keys" {
		t.Fatalf("before: %q, %v", plain, err)
	}
	if err := db.Put(t.Context(), "anteroom/session/keys/v1", old, time.Time{}); err != nil {
		t.Fatal(err)
	}
	o, err := rekey.New(rekey.Config{
		Store: db, Own: dataKeys{own}, KeyOf: envelope.KeyOf, LabelOf: labelOf, Audit: audit.Off(), Alone: true,
		PutAway: func(bool) (string, error) { return "it stays", nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.Begin(t.Context(), rekey.Request{Verb: rekey.Migrate}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	go o.Follow(ctx)
	for op := new(rekey.Progress); op.State != rekey.StateDone; {
		if op, err = o.Current(ctx); err != nil {
			t.Fatal(err)
		}
	}
	for when, e := range map[string]*envelope.Envelope{"now": own, "after a start": open()} {
		if plain, err := e.Open(t.Context(), label, old); err == nil {
			t.Errorf("%s: %q opens", when, plain)
		}
		if out, _, err := e.Reseal(t.Context(), label, old); err == nil {
			t.Errorf("%s: it was sealed anew, %d bytes", when, len(out))
		}
	}
	sealed, err := db.Get(t.Context(), "anteroom/session/keys/v1")
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := own.Open(t.Context(), label, sealed); err != nil || string(plain) != "keys" {
		t.Errorf("what was there: %q, %v", plain, err)
	}
}

// Row 165: a node that starts over a store of before a key was destroyed refuses it, until somebody says that it is meant so; the
// note is one for each store and ring.
func TestRow165RingSetBack(t *testing.T) {
	dir := t.TempDir()
	local, err := envelope.OpenLocal(filepath.Join(dir, "master.key"))
	if err != nil {
		t.Fatal(err)
	}
	m := masters{master: local, dir: dir}
	path := filepath.Join(dir, "store.db")
	logger := slog.New(slog.DiscardHandler)
	start := func(work func(own *envelope.Envelope)) error {
		st, err := new(Bolt).OpenStore(dir, m, logger)
		if err != nil {
			return err
		}
		defer st.Close()
		if _, err := m.ring(t.Context(), "bolt", ringApps, st.keys, logger); err != nil {
			return err
		}
		if work != nil {
			work(st.envelope)
		}
		return nil
	}
	if err := start(nil); err != nil {
		t.Fatal(err)
	}
	backup, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	err = start(func(own *envelope.Envelope) {
		bad := own.Keys()[1].ID
		if _, err := own.Condemn(t.Context(), bad); err != nil {
			t.Error(err)
		}
		if err := own.Destroy(t.Context(), bad); err != nil {
			t.Error(err)
		}
	})
	if err == nil {
		err = start(nil)
	}
	if err == nil {
		err = os.WriteFile(path, backup, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	note := filepath.Join(dir, "ring.mark")
	if err := start(nil); !errors.Is(err, envelope.ErrRefused) || !strings.Contains(err.Error(), note) {
		t.Errorf("a start over an old ring: %v", err)
	}
	if err := os.Remove(note); err != nil {
		t.Fatal(err)
	}
	if err := start(nil); err != nil {
		t.Errorf("on purpose: %v", err)
	}
}

// Row 156: the end of another operation that somebody wrote under the same name is not the end of the one that was begun.
func TestRow156AnotherUnderTheSameName(t *testing.T) {
	begun := &rekey.Progress{Operation: rekey.Operation{ID: "7K2M9Q4T1V", Verb: rekey.CompromisedData, Target: "5f0c9a4be1d27380"}}
	same, verb, target := *begun, *begun, *begun
	same.State, verb.Verb, target.Target = rekey.StateDone, rekey.RotateRing, "0000000000000000"
	if !goesOn(begun, &same) || goesOn(begun, &verb) || goesOn(begun, &target) || goesOn(begun, nil) {
		t.Error("an operation is taken for another one")
	}
}
