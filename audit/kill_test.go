package audit

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
)

// childEnv makes the test binary a process that writes to the log it names and prints
// the name of each event that was taken.
const childEnv = "ANTEROOM_AUDIT_TEST_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		if err := child(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func child(dir string) error {
	l, err := Open(Config{Dir: dir, MaxBytes: 50_000})
	if err != nil {
		return err
	}
	errs := make(chan error)
	for range 8 {
		go func() {
			for {
				ref := NewRef()
				if err := l.Record(context.Background(), Event{Kind: "request", Ref: ref}); err != nil {
					errs <- err
					return
				}
				fmt.Println(ref)
			}
		}()
	}
	return <-errs
}

// TestKill: an event that was taken is in the log, whenever the process is killed; the
// sequence and the chain go on over all its lives.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	taken := map[string]bool{}
	for round := range 12 {
		killRound(t, dir, round, 20+rand.IntN(2000), taken)
		x := verify(t, dir)
		if x.Lines < len(taken) || x.Last != uint64(x.Lines) {
			t.Fatalf("round %d: %d events were taken; the log is %+v", round, len(taken), x)
		}
	}
	for _, r := range records(t, dir) {
		delete(taken, r.Ref)
	}
	if len(taken) > 0 {
		t.Fatalf("%d events that were taken are lost", len(taken))
	}
}

func killRound(t *testing.T, dir string, round, after int, taken map[string]bool) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+dir)
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
		taken[line[:len(line)-1]] = true
		if said++; said == after {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = cmd.Wait()
	if said < after {
		t.Fatalf("round %d: the child ended by itself after %d events", round, said)
	}
}
