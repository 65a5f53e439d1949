package loopback

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestTokenFile(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		mode os.FileMode
		want string // "" loads
	}{
		"owner only":       {testToken, 0o600, ""},
		"group may read":   {testToken + "\n", 0o640, ""},
		"Windows line end": {testToken + "\r\n", 0o600, ""},
		"others may read":  {testToken, 0o644, "chmod o="},
		"others may write": {testToken, 0o602, "chmod o="},
		"31 characters":    {testToken[:31], 0o600, "32 to 4096 characters"},
		"empty":            {"", 0o600, "32 to 4096 characters"},
		"huge":             {strings.Repeat("a", 4097), 0o600, "32 to 4096 characters"},
		"two lines":        {testToken + "\n" + testToken, 0o600, "blanks"},
		"blank at the end": {testToken + " ", 0o600, "blanks"},
		"not ASCII":        {testToken + "ü", 0o600, "not ASCII"},
		"NUL":              {testToken + "\x00", 0o600, "blanks"},
	} {
		_, err := OpenTokenFile(writeToken(t, c.text, c.mode))
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), testToken[:20])):
			t.Errorf("%s: %v", name, err)
		}
	}
	dir := t.TempDir()
	if _, err := OpenTokenFile(dir); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a folder: %v", err)
	}
	if _, err := OpenTokenFile(filepath.Join(dir, "absent")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenTokenFile(pipe); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a pipe: %v", err)
	}
}

// TestTokenChanges: a new content is in force at once; a file that went bad lets nobody in.
func TestTokenChanges(t *testing.T) {
	path := writeToken(t, testToken, 0o600)
	f, err := OpenTokenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	clock := time.Unix(1_800_000_000, 0)
	f.now = func() time.Time { return clock }
	if err := f.check(testToken); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"", testToken[1:], testToken + "x", strings.ToUpper(testToken), testToken + "\n"} {
		if err := f.check(bad); !errors.Is(err, errToken) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	replace := func(text string, mode os.FileMode) {
		t.Helper()
		next := filepath.Join(filepath.Dir(path), "next")
		if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(next, mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, path); err != nil {
			t.Fatal(err)
		}
	}
	second := strings.Repeat("s", 40)
	clock = clock.Add(lookEvery)
	replace(second, 0o600)
	if f.check(testToken) == nil || f.check(second) != nil {
		t.Error("the new token is not in force")
	}
	replace(testToken, 0o600)
	if f.check(testToken) != nil {
		t.Error("a new token is not right at once")
	}
	replace(second, 0o600)
	clock = clock.Add(lookEvery - 1)
	if f.check(testToken) != nil {
		t.Error("the file was looked at for each request")
	}
	if clock = clock.Add(1); f.check(testToken) == nil {
		t.Error("an old token is right for longer than lookEvery")
	}
	for name, step := range map[string]func(){
		"mode":    func() { os.Chmod(path, 0o604) },
		"short":   func() { replace("short", 0o600) },
		"removed": func() { os.Remove(path) },
	} {
		replace(second, 0o600)
		if err := f.check(second); err != nil {
			t.Fatal(err)
		}
		step()
		clock = clock.Add(lookEvery)
		for range 2 {
			if err := f.check(second); err == nil || errors.Is(err, errToken) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	replace(second, 0o600)
	if err := f.check(second); err != nil {
		t.Error("a mended file is not read:", err)
	}
}

// TestTokenOfTheSameShape: a new token of the same length that keeps the file's times, as rsync --inplace and cp -p write it, is
// another token.
func TestTokenOfTheSameShape(t *testing.T) {
	path := writeToken(t, testToken, 0o600)
	f, err := OpenTokenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	clock := time.Unix(1_800_000_000, 0)
	f.now = func() time.Time { return clock }
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	second := strings.Repeat("s", len(testToken))
	if err := os.WriteFile(path, []byte(second), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	clock = clock.Add(lookEvery)
	if f.check(testToken) == nil || f.check(second) != nil {
		t.Error("the old token is in force")
	}
}

// TestNothingPrintsTheToken: whatever way a token file gets into a message, the token and its digest stay out of it.
func TestNothingPrintsTheToken(t *testing.T) {
	token, err := OpenTokenFile(writeToken(t, testToken, 0o600))
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []any{token, Callers{Token: token}, &Callers{Token: token}} {
		var out bytes.Buffer
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "v", v)
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", "v", v)
		if err := json.NewEncoder(&out).Encode(v); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "%v %+v %#v %s %q %x %X %d", v, v, v, v, v, v, v, v)
		for _, s := range [][]byte{token.digest[:], []byte(testToken)} {
			for _, form := range []string{string(s), fmt.Sprintf("%x", s), fmt.Sprintf("%v", s), fmt.Sprintf("%X", s), strings.Trim(fmt.Sprint(s), "[]")} {
				if strings.Contains(out.String(), form) {
					t.Errorf("%T prints a secret: %s", v, out.String())
				}
			}
		}
	}
}
