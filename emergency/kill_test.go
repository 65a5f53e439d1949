package emergency

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/envelope"
	"github.com/anteroom-proxy/anteroom/store/bolt"
)

const killDir = "ANTEROOM_EMERGENCY_TEST_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(killDir); dir != "" {
		fmt.Println("error", beginForever(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func openKilled(dir string) (*Ledger, func() error, error) {
	s, err := bolt.Open(bolt.Config{Path: dir + "/store/test.db"})
	if err != nil {
		return nil, nil, err
	}
	master, err := envelope.OpenLocal(dir + "/master/key")
	if err != nil {
		return nil, nil, err
	}
	sealer, err := envelope.Start(context.Background(), envelope.Config{Name: "own", Master: master, Store: s})
	if err != nil {
		return nil, nil, err
	}
	l, err := New(Config{Store: s, Sealer: sealer, Audit: audit.Off()})
	return l, s.Close, err
}

// beginForever says what has begun once Begin has returned, and what was reviewed once Review has.
func beginForever(dir string) error {
	l, _, err := openKilled(dir)
	if err != nil {
		return err
	}
	for i := 0; ; i++ {
		_, id, err := l.Begin(context.Background(), Grant{
			Site: site, Source: "idp", Subject: fmt.Sprint(i), Username: "dana", Session: sid, Rule: "r", Scope: "/p", Patient: "7",
			ReasonCode: "other", ReasonText: "killed in the midst", Until: time.Now().Add(time.Hour),
		})
		if err != nil {
			return err
		}
		fmt.Println("begun", id)
		if i%3 == 0 {
			if err := l.Accept(context.Background(), id, "otto", ""); err != nil {
				return err
			}
			fmt.Println("accepted", id)
		}
	}
}

// Invariant 8: an access that was given is in the review list, and a verdict that was given stays, after a kill -9 at any
// moment. What was under way is at most in the list besides.
func TestKillLosesNoReview(t *testing.T) {
	dir := t.TempDir()
	state := map[string]string{}
	for round := range 5 {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), killDir+"="+dir)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		scanner := bufio.NewScanner(out)
		for n := 0; scanner.Scan(); n++ {
			fields := strings.Fields(scanner.Text())
			if len(fields) != 2 {
				t.Fatalf("child: %s", scanner.Text())
			}
			state[fields[1]] = map[string]string{"begun": StateOpen, "accepted": StateAccepted}[fields[0]]
			if n == 5+7*round { // what was written until the kill is read as well
				if err := child.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := child.Wait(); err == nil {
			t.Fatal("the child ended by itself")
		}
	}
	l, closeStore, err := openKilled(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer closeStore()
	all, err := l.List(t.Context(), StateAll)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, v := range all {
		found[v.ID] = v.State
	}
	for id, want := range state {
		got := found[id]
		if got != want && (want != StateOpen || got != StateAccepted) { // accepted, and killed before it could say so
			t.Errorf("%s is %q, was %q", id, got, want)
		}
	}
	if len(state) < 50 || len(found) > len(state)+5 {
		t.Errorf("%d said, %d found", len(state), len(found))
	}
}
