package envelope

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func openLocal(t *testing.T, path string) *Local {
	t.Helper()
	e, err := OpenLocal(path)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// TestFirstStart: the file is made once, narrow, and is read from then on.
func TestFirstStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b", "master.key")
	first := openLocal(t, path)
	key, err := os.ReadFile(path)
	if err != nil || len(key) != 32 {
		t.Fatalf("%d bytes, %v", len(key), err)
	}
	for p, mode := range map[string]fs.FileMode{path: 0o600, filepath.Dir(path): 0o700, filepath.Dir(filepath.Dir(path)): 0o700} {
		if info, err := os.Stat(p); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: mode %v, %v; want %v", p, info.Mode(), err, mode)
		}
	}
	plain, wrapped, err := first.Generate(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := openLocal(t, path).Unwrap(t.Context(), wrapped, nil); err != nil || !bytes.Equal(got, plain) {
		t.Fatalf("after a restart: %v", err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, key) {
		t.Fatalf("the key changed: %v", err)
	}
	if names, err := os.ReadDir(filepath.Dir(path)); err != nil || len(names) != 1 {
		t.Errorf("something was left beside the key: %v, %v", names, err)
	}
}

// TestFirstStartTwice: several processes that start at once end with one key. With
// two, one of them would seal what the other can never open.
func TestFirstStartTwice(t *testing.T) {
	for range 20 {
		path := filepath.Join(t.TempDir(), "master.key")
		ids := make([][keyIDLen]byte, 16)
		var wg sync.WaitGroup
		for i := range ids {
			wg.Go(func() {
				e, err := OpenLocal(path)
				if err != nil {
					t.Error(err)
					return
				}
				ids[i] = e.id
			})
		}
		wg.Wait()
		for _, id := range ids {
			if id != ids[0] {
				t.Fatalf("two keys: %x and %x", id, ids[0])
			}
		}
	}
}

// TestRefusedFiles: each message names the file, says what is wrong and what to do,
// and the file stays as it was.
func TestRefusedFiles(t *testing.T) {
	key := bytes.Repeat([]byte("k"), 32)
	write := func(data []byte, mode fs.FileMode) func(string) error {
		return func(path string) error {
			if err := os.WriteFile(path, data, 0o600); err != nil {
				return err
			}
			return os.Chmod(path, mode)
		}
	}
	for _, c := range []struct {
		name       string
		make       func(path string) error
		wrong, fix string
	}{
		{"readable by the group", write(key, 0o640), "mode is 0640", "0600"},
		{"readable by all", write(key, 0o604), "mode is 0604", "0600"},
		{"writable by the group", write(key, 0o620), "mode is 0620", "0600"},
		{"empty", write(nil, 0o600), "has 0 bytes", "restore"},
		{"too short", write(key[:31], 0o600), "has 31 bytes", "restore"},
		{"too long", write(append(key, '\n'), 0o600), "has 33 bytes", "restore"},
		{"only zeros", write(make([]byte, 32), 0o600), "zero bytes", "restore"},
		{"a folder", func(path string) error { return os.Mkdir(path, 0o700) }, "not a regular file", "path of its own"},
		{"a named pipe", func(path string) error { return syscall.Mkfifo(path, 0o600) }, "not a regular file", "path of its own"},
		{"a link to nothing", func(path string) error { return os.Symlink("nothing", path) }, "symbolic link", "remove the link"},
		{"a link to a loose file", func(path string) error {
			if err := write(key, 0o644)(path + ".target"); err != nil {
				return err
			}
			return os.Symlink(path+".target", path)
		}, "mode is 0644", "0600"},
	} {
		path := filepath.Join(t.TempDir(), "master.key")
		if err := c.make(path); err != nil {
			t.Fatal(err)
		}
		before, _ := os.Lstat(path)
		_, err := OpenLocal(path)
		if err == nil {
			t.Errorf("%s: no error", c.name)
			continue
		}
		for _, part := range []string{path, c.wrong, c.fix} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: the message lacks %q: %v", c.name, part, err)
			}
		}
		if strings.Contains(err.Error(), "kkkk") {
			t.Errorf("%s: the message shows the key: %v", c.name, err)
		}
		if after, _ := os.Lstat(path); after == nil || after.Size() != before.Size() || after.Mode() != before.Mode() {
			t.Errorf("%s: the file was changed", c.name)
		}
	}
}

func TestLinkToOwnFile(t *testing.T) {
	dir := t.TempDir()
	real, link := filepath.Join(dir, "real.key"), filepath.Join(dir, "master.key")
	want := openLocal(t, real).id
	if err := os.Symlink(real, link); err != nil {
		t.Fatal(err)
	}
	if got := openLocal(t, link).id; got != want {
		t.Fatalf("key id %x; want %x", got, want)
	}
}

// ownedBy is a file of another user, which a test that is not root cannot make.
type ownedBy struct{ uid uint32 }

func (ownedBy) Name() string           { return "master.key" }
func (ownedBy) Size() int64            { return keyLen }
func (ownedBy) Mode() fs.FileMode      { return 0o600 }
func (ownedBy) ModTime() (t time.Time) { return t }
func (ownedBy) IsDir() bool            { return false }
func (o ownedBy) Sys() any             { return &syscall.Stat_t{Uid: o.uid} }

// TestOtherOwner: a file, or a link to one, that another user owns is a key that this
// user knows or can change.
func TestOtherOwner(t *testing.T) {
	me := uint32(os.Geteuid())
	for _, uid := range []uint32{me, 0} {
		if err := checkFile(ownedBy{uid}); err != nil {
			t.Errorf("owner %d: %v", uid, err)
		}
	}
	err := checkFile(ownedBy{me + 1})
	if err == nil || !strings.Contains(err.Error(), "belongs to user") || !strings.Contains(err.Error(), "chown") {
		t.Errorf("another owner: %v", err)
	}
	dir := t.TempDir()
	target, link := filepath.Join(dir, "target"), filepath.Join(dir, "link")
	openLocal(t, target)
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	if err := os.Lchown(link, 4242, 4242); err != nil {
		t.Logf("only root can give files away; the check itself was tested above: %v", err)
		return
	}
	if _, err := OpenLocal(link); err == nil || !strings.Contains(err.Error(), "symbolic link belongs to user 4242") {
		t.Errorf("a link of another user: %v", err)
	}
	if err := os.Lchown(link, 0, 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(target, 4242, 4242); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenLocal(link); err == nil || !strings.Contains(err.Error(), "belongs to user 4242") {
		t.Errorf("a link to a file of another user: %v", err)
	}
}
