package caddymodule

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/envelope"
	"github.com/anteroom-proxy/anteroom/rekey"
	"github.com/anteroom-proxy/anteroom/session"
	"github.com/anteroom-proxy/anteroom/store"
	"github.com/anteroom-proxy/anteroom/store/bolt"
)

// mortal is a store whose process dies after so many writes.
type mortal struct {
	store.Store
	left int
	die  func()
}

func (m *mortal) write() error {
	if m.left--; m.left == 0 {
		m.die()
	}
	if m.left <= 0 {
		return fmt.Errorf("test: dead: %w", store.ErrUnavailable)
	}
	return nil
}

func (m *mortal) CompareAndSwap(ctx context.Context, key string, old, new []byte, expires time.Time) error {
	if err := m.write(); err != nil {
		return err
	}
	return m.Store.CompareAndSwap(ctx, key, old, new, expires)
}

func (m *mortal) Put(ctx context.Context, key string, value []byte, expires time.Time) error {
	if err := m.write(); err != nil {
		return err
	}
	return m.Store.Put(ctx, key, value, expires)
}

const sealedKey = "anteroom/session/record/v1/x"

// life is one process over a folder: it opens all as Start does, works at the operation until it is done or the process dies after
// so many writes, and closes.
func life(t *testing.T, dir string, writes int) (done bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	master, former, err := (&MasterLocal{}).Open(ctx, dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	db, err := bolt.Open(bolt.Config{Path: filepath.Join(dir, "store.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	st := &mortal{db, writes, cancel}
	open := func(name string) *envelope.Envelope {
		e, err := envelope.Start(t.Context(), envelope.Config{Name: name, Master: master, Former: former, Store: db})
		if err != nil {
			t.Fatalf("a start after %d writes: %v", writes, err)
		}
		return e
	}
	own, apps := open(ringOwn), open(ringApps)
	c := rekey.Config{
		Store: st, Own: dataKeys{own}, Apps: dataKeys{apps}, KeyOf: envelope.KeyOf, LabelOf: labelOf, First: session.SealedFirst(), Audit: audit.Off(), Alone: true,
		Master: keyFile{filepath.Join(dir, "master.key"), own, apps},
	}
	o, err := rekey.New(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Mend(ctx); err != nil {
		t.Fatal(err)
	}
	if op, err := o.Current(ctx); err != nil {
		t.Fatal(err)
	} else if op == nil {
		sealed, err := own.Seal(ctx, sealedKey, []byte("content"))
		if err == nil {
			err = db.Put(ctx, sealedKey, sealed, time.Time{})
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := o.Begin(ctx, rekey.Request{Verb: rekey.RotateMaster}); err != nil {
			return false
		}
	}
	follow := make(chan struct{})
	go func() { defer close(follow); o.Follow(ctx) }()
	for ctx.Err() == nil && !done {
		time.Sleep(5 * time.Millisecond)
		op, err := o.Current(context.Background())
		done = err == nil && op != nil && op.State == rekey.StateDone
	}
	cancel()
	<-follow
	return done
}

// Row 155: a new master key file, and the process dies after each write. Every start opens everything, and at the end the new
// file alone does.
func TestRow155MasterFileDies(t *testing.T) {
	for writes := 1; ; writes++ {
		dir := t.TempDir()
		first, err := envelope.OpenLocal(filepath.Join(dir, "master.key"))
		if err != nil {
			t.Fatal(err)
		}
		clean := life(t, dir, writes)
		if !clean && !life(t, dir, 1000) {
			t.Fatalf("after %d writes the next process does not finish", writes)
		}
		files, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, f := range files {
			names = append(names, f.Name())
		}
		old := "master.key.old-" + strings.TrimPrefix(first.ID(), "local:")
		if got := strings.Join(names, " "); got != "master.key "+old+" store.db" {
			t.Fatalf("after %d writes: %s", writes, got)
		}
		second, err := envelope.OpenLocal(filepath.Join(dir, "master.key"))
		if err != nil || second.ID() == first.ID() {
			t.Fatalf("%v", err)
		}
		if kept, err := envelope.OpenLocal(filepath.Join(dir, old)); err != nil || kept.ID() != first.ID() {
			t.Errorf("the former file: %v", err)
		}
		checkMaster(t, dir, second)
		if clean {
			if writes < 8 {
				t.Errorf("only %d writes", writes)
			}
			return
		}
	}
}

func checkMaster(t *testing.T, dir string, m *envelope.Local) {
	t.Helper()
	db, err := bolt.Open(bolt.Config{Path: filepath.Join(dir, "store.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, name := range []string{ringOwn, ringApps} {
		e, err := envelope.Start(t.Context(), envelope.Config{Name: name, Master: m, Store: db})
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range e.Keys() {
			if k.Master != m.ID() && k.State != envelope.StateDestroyed {
				t.Errorf("%s of %s is wrapped by %s", k.ID, name, k.Master)
			}
		}
		if name == ringApps {
			continue
		}
		sealed, err := db.Get(t.Context(), sealedKey)
		if err != nil {
			t.Fatal(err)
		}
		if plain, err := e.Open(t.Context(), sealedKey, sealed); err != nil || string(plain) != "content" {
			t.Errorf("%q, %v", plain, err)
		}
	}
}

// A key file is overwritten before it goes, and nothing else is.
func TestShred(t *testing.T) {
	dir := t.TempDir()
	path, link := filepath.Join(dir, "master.key"), filepath.Join(dir, "link")
	if err := os.WriteFile(path, []byte("0123456789abcdef0123456789abcdef"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(path, link); err != nil { // to see what was written
		t.Fatal(err)
	}
	if err := shred(path); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(link); err != nil || len(b) != 32 || strings.Contains(string(b), "0123456789") || exists(path) {
		t.Errorf("%q, %v", b, err)
	}
	big, folder, symlink := filepath.Join(dir, "big"), filepath.Join(dir, "folder"), filepath.Join(dir, "symlink")
	if err := os.WriteFile(big, make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(link, symlink); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{big, folder, symlink, filepath.Join(dir, "absent")} {
		if err := shred(p); err == nil {
			t.Errorf("%s was overwritten", p)
		}
	}
}

// Every package that seals into the store is known to operations on keys; a key of nobody has no label.
func TestRow156LabelOf(t *testing.T) {
	for key, want := range map[string]string{
		"anteroom/session/keys/v1": "anteroom/session/seal-keys/v1", "anteroom/session/record/v1/x": "anteroom/session/record/v1/x",
		"anteroom/emergency/buckets/v1": "anteroom/emergency/buckets/v1", "anteroom/budget/window/v1/x": "anteroom/budget/window/v1/x",
		"anteroom/portal/move-keep-id/v1/x": "anteroom/portal/move-keep/v1", "anteroom/oidc/client-key/v1/x": "anteroom/oidc/client-key/v1",
		"anteroom/hardening/ring/v1/passwords": "", "anteroom/rekey/operation/v1": "", "": "",
	} {
		if label, ok := labelOf(key); label != want || ok != (want != "") {
			t.Errorf("%s: %q, %v", key, label, ok)
		}
	}
}
