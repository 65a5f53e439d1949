package main

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// testPort is a free port below the range that the system chooses from; the abstract unix socket of its name keeps it from the
// tests of other packages.
func testPort(t *testing.T) int {
	t.Helper()
	for range 200 {
		port := 20000 + rand.IntN(12000)
		mine, err := net.Listen("unix", fmt.Sprintf("@anteroom-test-port-%d", port))
		if err != nil {
			continue
		}
		t.Cleanup(func() { mine.Close() })
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}

// TestOneFolder: the demo keeps everything in its folder and leaves the home directory as it was.
func TestOneFolder(t *testing.T) {
	home, dir := t.TempDir(), filepath.Join(t.TempDir(), "it's a $demo %20 Größe")
	for name, value := range map[string]string{"HOME": home, "XDG_DATA_HOME": "", "XDG_CONFIG_HOME": "", "XDG_CACHE_HOME": "", "DISPLAY": "", "WAYLAND_DISPLAY": ""} {
		t.Setenv(name, value)
	}
	port := testPort(t)
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	ready := filepath.Join(t.TempDir(), "ready")
	ended := make(chan error)
	go func() {
		ended <- run(ctx, options{port: port, dir: dir, noBrowser: true, readyFile: ready}, io.Discard)
	}()
	for {
		if _, err := os.Stat(ready); err == nil {
			stop()
		}
		select {
		case err := <-ended:
			if err != nil {
				t.Fatal(err)
			}
		case <-time.After(20 * time.Millisecond):
			continue
		}
		break
	}
	if _, err := os.Stat(filepath.Join(dir, "anteroom", "store.db")); err != nil {
		t.Error(err)
	}
	err := filepath.WalkDir(home, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			t.Errorf("outside of its folder the demo wrote %s", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestFolderNames: a name that the config cannot hold as it is would lead to another folder.
func TestFolderNames(t *testing.T) {
	for _, name := range []string{`/tmp/a\b`, `/tmp/a"b`, "/tmp/a\tb", "/tmp/a\nb", "/tmp/{env.HOME}", "/tmp/{$HOME}", "/tmp/a\u00a0b", "/tmp/\xff"} {
		if _, err := parseFlags([]string{"--dir", name}, io.Discard); err == nil || !strings.Contains(err.Error(), "--dir") {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"/tmp/a b", "/tmp/it's", "/tmp/Größe", "/tmp/$HOME", "/tmp/a`b", "relative"} {
		if o, err := parseFlags([]string{"--dir", name}, io.Discard); err != nil || !filepath.IsAbs(o.dir) {
			t.Errorf("%q: %v", name, err)
		}
	}
}
