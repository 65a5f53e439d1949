package bolt_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
	"github.com/anteroom-proxy/anteroom/store/bolt"
)

// childEnv makes the test binary a process that writes to the store it names and
// reports on its standard output what was acknowledged.
const childEnv = "ANTEROOM_BOLT_TEST_CHILD"

func TestMain(m *testing.M) {
	if arg := os.Getenv(childEnv); arg != "" {
		path, round, _ := strings.Cut(arg, "|")
		if err := child(path, round); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// child writes from several goroutines until it is killed. A line is printed in one
// write(2) after the call that it speaks of returned nil; "taking" comes before.
func child(path, round string) error {
	s, err := bolt.Open(bolt.Config{Path: path})
	if err != nil {
		return err
	}
	ctx := context.Background()
	errs := make(chan error)
	for w := range 6 {
		go func() {
			for i := 0; ; i++ {
				key := fmt.Sprintf("%s-%d-%d", round, w, i)
				if err := s.Put(ctx, key, []byte(key), time.Time{}); err != nil {
					errs <- err
					return
				}
				fmt.Printf("put %s\n", key)
				cursor, err := s.Append(ctx, []byte(key), time.Time{})
				if err != nil {
					errs <- err
					return
				}
				fmt.Printf("append %s %s\n", key, cursor)
				if i%2 == 0 {
					continue
				}
				fmt.Printf("taking %s\n", key)
				if _, err := s.Take(ctx, key); err != nil {
					errs <- err
					return
				}
				fmt.Printf("took %s\n", key)
			}
		}()
	}
	return <-errs
}

// acknowledged is what the children said over all rounds.
type acknowledged struct {
	put, taking, took map[string]bool
	cursors           map[string]string // of the feed, by value
}

func (a *acknowledged) line(t *testing.T, line string) {
	var verb, key, cursor string
	n, _ := fmt.Sscan(line, &verb, &key, &cursor)
	switch {
	case verb == "put" && n == 2:
		a.put[key] = true
	case verb == "append" && n == 3:
		a.cursors[key] = cursor
	case verb == "taking" && n == 2:
		a.taking[key] = true
	case verb == "took" && n == 2:
		a.took[key] = true
	default:
		t.Fatalf("the child said %q", line)
	}
}

// TestKill: a process that is killed at any moment has lost nothing that it
// acknowledged. A lost Put is a signing key or an account that is gone; a Take that
// comes back is a one-time code that works twice; a lost Append is a revoked session
// that is alive again.
func TestKill(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "store.db")
	a := &acknowledged{put: map[string]bool{}, taking: map[string]bool{}, took: map[string]bool{}, cursors: map[string]string{}}
	for round := range 12 {
		killRound(t, a, path, round, 20+rand.IntN(300))
		s, err := bolt.Open(bolt.Config{Path: path})
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		a.check(t, s)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d puts, %d takes, %d appends acknowledged", len(a.put), len(a.took), len(a.cursors))
}

// killRound starts a child, kills it after it has said so many lines, and notes all
// that it had said by then.
func killRound(t *testing.T, a *acknowledged, path string, round, after int) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s|r%d", childEnv, path, round))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said, r := 0, bufio.NewReader(out)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			break // killed; a line without its end does not count
		}
		a.line(t, line)
		if said++; said == after {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = cmd.Wait()
	if said < after {
		t.Fatalf("round %d: the child ended by itself after %d lines", round, said)
	}
}

func (a *acknowledged) check(t *testing.T, s *bolt.Store) {
	t.Helper()
	for key := range a.put {
		got, err := s.Get(t.Context(), key)
		switch {
		case a.took[key] && !errors.Is(err, store.ErrNotFound):
			t.Errorf("%s was taken and came back: %q, %v", key, got, err)
		case a.taking[key]: // whether this Take happened, only the store knows
		case err != nil || string(got) != key:
			t.Errorf("%s was put and is lost: %q, %v", key, got, err)
		}
	}
	found, last := map[string]string{}, ""
	for {
		entries, err := s.After(t.Context(), last, 0)
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) == 0 {
			break
		}
		for _, e := range entries {
			if e.Cursor <= last {
				t.Fatalf("cursor %s came after %s", e.Cursor, last)
			}
			found[string(e.Value)], last = e.Cursor, e.Cursor
		}
	}
	for key, cursor := range a.cursors {
		if found[key] != cursor {
			t.Errorf("%s was appended as %s and is there as %q", key, cursor, found[key])
		}
	}
}

// TestLockedByAnotherProcess: the message names the file and says what to do.
func TestLockedByAnotherProcess(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "store.db")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+path+"|lock")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var drain sync.WaitGroup
	defer func() {
		_ = cmd.Process.Kill()
		drain.Wait()
		_ = cmd.Wait()
	}()
	r := bufio.NewReader(out)
	if _, err := r.ReadString('\n'); err != nil { // it has the lock now
		t.Fatal(err)
	}
	drain.Go(func() {
		for {
			if _, err := r.ReadString('\n'); err != nil {
				return
			}
		}
	})
	_, err = bolt.Open(bolt.Config{Path: path})
	if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "another process") || !strings.Contains(err.Error(), "stop") {
		t.Fatalf("error is %v", err)
	}
}
